"""What the figures of training monitors share: runs of one network, their paths, and a check by explicit gradients."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from ..architecture import MLP
from ..fisher import Fisher
from ..learning.monitor import TrainingMonitor
from ..learning.training import train
from ..network import Network
from ..plot.style import PAPER, RUNS
from ._figure import Agreement, Numbers, Results

__all__ = ["agreements", "compute", "draw_paths"]

TEACHER = MLP((30, 40, 5), "tanh", weight_var=2.0, bias_var=None)
STUDENT = MLP((30, 50, 50, 5), "tanh", weight_var=1.5, bias_var=0.1)
TRAINING, TEST = 1600, 2000  # samples
POINTS = 300  # of a path


def compute(batch_size: int, learning_rate: float, epochs: int, seed: int) -> Numbers:
    """Train a network on the classes that another assigns; the path of its monitor, and a check at its end."""
    X = np.random.default_rng(seed).standard_normal((TRAINING + TEST, STUDENT.widths[0]))
    y = TEACHER.sample(seed=seed + 1)(X).argmax(axis=1)
    steps = epochs * TRAINING // batch_size
    monitor = TrainingMonitor(every=max(1, steps // POINTS))
    run = train(
        STUDENT.sample(seed=seed),
        X[:TRAINING],
        "cross_entropy",
        targets=y[:TRAINING],
        learning_rate=learning_rate,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        callback=monitor,
    )
    assert run.network is not None
    history = monitor.history()
    return {
        "mean_condition": history["mean_condition"],
        "total_energy": history["total_energy"],
        "accuracy": float((run.network(X[TRAINING:]).argmax(axis=1) == y[TRAINING:]).mean()),
        "check": check(run.network, X[:batch_size], y[:batch_size], learning_rate),
    }


def check(net: Network, X: Any, y: Any, learning_rate: float) -> Numbers:
    """One mini-batch by the monitor, and by the singular values of all gradients, written out."""
    fim = Fisher(net, X, likelihood="categorical", kind="empirical", targets=y)
    record = TrainingMonitor().update(fim.factors, learning_rate=learning_rate)
    sigma = np.linalg.svd(gradients(net, X, y), compute_uv=False)
    return {
        "measured": {"condition": record.condition, "energy": record.energy},
        "theory": {
            "condition": sigma[0] / sigma[record.rank - 1],
            "energy": learning_rate / len(X) * np.sqrt((sigma**2).sum()),
        },
    }


def gradients(net: Network, X: Any, y: Any) -> Any:
    """Gradient of each sample's cross entropy, (B, P), by plain backpropagation through tanh."""
    assert net.biases is not None
    h = [X]
    for W, b in zip(net.weights[:-1], net.biases[:-1], strict=True):
        h.append(np.tanh(h[-1] @ W.T + b))
    outputs = h[-1] @ net.weights[-1].T + net.biases[-1]
    odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    delta = odds / odds.sum(axis=1, keepdims=True) - np.eye(outputs.shape[1])[y]
    columns = []
    for W, below in zip(net.weights[::-1], h[::-1], strict=True):
        columns += [delta, (delta[:, :, None] * below[:, None]).reshape(len(X), -1)]
        delta = (delta @ W) * (1 - below**2)
    return np.concatenate(columns, axis=1)


def draw_paths(results: Results, figure: Any, by: str, label: str) -> None:
    """Paths in the plane of condition number and energy, from open to filled marks."""
    ax = figure.subplots()
    for (cell, numbers), style in zip(results, cycle(RUNS), strict=False):
        x, y = numbers["mean_condition"], numbers["total_energy"]
        ax.plot(x, y, color=style["color"], linestyle=style["linestyle"])
        ax.plot(x[0], y[0], color=style["color"], marker=style["marker"], markersize=7, zorder=3, mfc=PAPER, mew=1.4)
        name = f"{label.format(cell[by])}: accuracy {numbers['accuracy']:.2f}"
        ax.plot(x[-1], y[-1], markersize=7, zorder=4, label=name, **style)
    ax.set(xscale="log", yscale="log")
    ax.set_xlabel("running average of condition numbers, $\\bar C_K$\n(open mark: first mini-batch, filled: last one)")
    ax.set_ylabel("cumulative energy, $L_K$")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")


def agreements(results: Results, by: str, label: str) -> list[Agreement]:
    """Of one mini-batch after training, up to the rounding of sums of P terms, relative to the largest gradient."""
    rounding = STUDENT.num_parameters * float(np.finfo(np.float64).eps)
    found = []
    for cell, numbers in results:
        theory, measured = numbers["check"]["theory"], numbers["check"]["measured"]
        for name, factor in (("condition", theory["condition"]), ("energy", 1.0)):
            quantity = f"{name} of a batch, {label.format(cell[by])}"
            found.append(Agreement(quantity, theory[name], measured[name], factor * rounding))
    return found
