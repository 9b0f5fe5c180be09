r"""Two random estimators of the diagonal while a classifier trains.

Soen, Sun (2024): the diagonal of the Fisher information matrix in each layer, plus and minus the standard deviations of
squared scores and of second derivatives, one target drawn per input. Three hidden sigmoid layers learn the classes that
another network assigns; lines are exact, marks of repeated estimates. The last loss is above 0.05: of classifiers that
are surer of their targets, variances are carried by some that are too rare to be drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..architecture import MLP
from ..learning.training import train
from ..plot.style import BARS, MARKS, OPEN, THEORY_LINE
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import share_legend
from .estimators_layers import compare_estimators, estimator_agreements

__all__ = ["FIGURE"]

WIDTHS = (20, 30, 30, 30, 5)
TEACHER = MLP((20, 40, 5), "tanh", weight_var=2.0, bias_var=None)
STUDENT = MLP(WIDTHS, "sigmoid", weight_var=9.0, bias_var=0.1)
RATE, MOMENTUM, SAMPLES = 0.05, 0.9, 300
NAMES = {"score": r"$\hat I_1$, squared scores", "hessian": r"$\hat I_2$, second derivatives"}
STYLES: dict[str, dict[str, Any]] = {"score": MARKS, "hessian": MARKS | OPEN | {"marker": "s"}}


def cells(quick: bool) -> list[Cell]:
    """A cell for each number of steps; each trains anew from the same start."""
    steps, repeats = ((0, 30, 100, 300), 60) if quick else ((0, 3, 10, 30, 100, 300, 600), 200)
    return [{"steps": count, "repeats": repeats, "seed": 0} for count in steps]


def compute(steps: int, repeats: int, seed: int) -> Numbers:
    """Loss and estimators after so many steps of full-batch training."""
    X = np.random.default_rng(seed).standard_normal((SAMPLES, WIDTHS[0]))
    y, net = TEACHER.sample(seed=seed + 1)(X).argmax(axis=1), STUDENT.sample(seed=seed)
    loss = None
    if steps > 0:
        run = train(net, X, "cross_entropy", targets=y, learning_rate=RATE, momentum=MOMENTUM, steps=steps)
        assert run.network is not None
        net, loss = run.network, run.final_loss
    return {"loss": loss, **compare_estimators(net, X, "categorical", repeats)}


def draw(results: Results, figure: Any) -> None:
    """A panel a layer."""
    steps = [cell["steps"] for cell, _ in results]
    places = np.arange(len(steps))
    axes = figure.subplots(2, 2).ravel()
    for l, ax in enumerate(axes):
        mean = [numbers["diagonal"][l] for _, numbers in results]
        ax.bar(places, mean, label="mean of the exact diagonal", **BARS)
        for method, style in STYLES.items():
            exact = np.sqrt([numbers["variance"][method][l] for _, numbers in results])
            drawn = [np.mean(numbers["drawn"][method], axis=0)[l] for _, numbers in results]
            if (exact > 0).all():
                ax.plot(places, np.sqrt(drawn), label=f"{NAMES[method]}, drawn", **style)
                ax.plot(places, exact, label="exact deviations", **THEORY_LINE)
        ax.set(yscale="log", xlabel="step of training", xticks=places)
        ax.set_xticklabels(map(str, steps))
        ax.set_title(f"layer {l + 1}", fontsize="small", loc="left", pad=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[::2]:
        ax.set_ylabel("$F_{ii}$, deviations")
    share_legend(figure, axes, 2)


def agreements(results: Results) -> list[Agreement]:
    """Those of the layers at every number of steps."""
    return [
        agreement for cell, numbers in results for agreement in estimator_agreements(f"step {cell['steps']}", numbers)
    ]


FIGURE = Figure(
    name="estimators-training",
    title="two estimators of the diagonal during training",
    source="Soen, Sun (2024), variances over training",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.0, 6.2),
)
