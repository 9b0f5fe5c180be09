r"""What several figures share: numbers of compared networks, panels, and what theory's own error leaves room for.

Finite width
------------
Averages over networks deviate from the limit of wide layers by an order of 1/M. How much was measured on up to 80
networks a width (``tests/test_theory_vs_measurement.py``: Gaussian likelihood, one output, T = 100, tanh, linear and
erf; for ReLU it is lost in the fluctuations) and is taken here for all ensembles and metrics, at M = 250: 1 % for the
mean eigenvalue, 7 % for the maximum (with C > 1 for the mean of the C largest), hence 14 % for its square. The second
moment is compared with the spread of the bulk added where its law is known, which then errs by 4 % at M = 300
(:attr:`fisherfield.theory.PredictedMetric.bulk`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from .. import plot
from .._validate import FloatArray
from ..experiments import SpectrumComparison, TrainingMap
from ..plot.files import finish
from ..plot.style import MARKS, OPEN, THEORY_LINE
from ..statistics import FisherStatistics
from ._figure import Agreement, Numbers, Results

__all__ = [
    "MAXIMUM",
    "MEAN",
    "SECOND_MOMENT",
    "SQUARE",
    "agreement",
    "average",
    "draw_points",
    "draw_ranks",
    "draw_spectrum",
    "draw_statistics",
    "finish_panel",
    "joined_map",
    "map_agreements",
    "measured_and_predicted",
    "select",
    "share_legend",
    "statistics_agreements",
]

# relative errors of theory, times the width
MEAN, MAXIMUM, SQUARE, SECOND_MOMENT = 0.01 * 250, 0.07 * 250, 0.14 * 250, 0.04 * 300

# activations, or kinds: filled, open, and grey marks
_MARKS: tuple[dict[str, Any], ...] = (
    MARKS,
    {**MARKS, "marker": "s", **OPEN},
    {**MARKS, "marker": "D", "color": "0.55"},
)
_BARS: dict[str, Any] = {"elinewidth": 1, "capsize": 2}
_STATISTICS = {
    "mean": r"mean $m_\lambda$",
    "second_moment": r"second moment $s_\lambda$",
    "maximum": r"maximum $\lambda_{\max}$",
}
_AVERAGED = ("mean", "second_moment", "maximum", "top_mean")
_LEAST_RANGE = 6.0  # of an axis
_FEW_DECADES = 150.0  # range of an axis that has labels between decades
_BARS_A_DECADE, _BARS_AT_MOST = 25, 60
_ROUNDING = 1e-12  # of the largest eigenvalue
_SHARE = 0.05  # of the cells of a map that may lie on the wrong side of the line


# --- numbers ------------------------------------------------------------------------------------------------


def measured_and_predicted(found: SpectrumComparison) -> Numbers:
    """Statistics of one network, those of theory at leading order, and refined; eigenvalues if there are."""
    numbers: Numbers = {
        "measured": asdict(found.measured[0]),
        "leading": asdict(found.prediction.statistics),
        "refined": asdict(_with_spread_of_bulk(found)),
    }
    if found.eigenvalues is not None:
        numbers["eigenvalues"] = found.eigenvalues[0].tolist()
    return numbers


def _with_spread_of_bulk(found: SpectrumComparison) -> FisherStatistics:
    """The refined statistics; below outliers, where they leave it out, with the spread of the bulk."""
    refined = found.prediction.refined_statistics
    if found.metric != "parameters" or found.prediction.bulk is not None:
        return refined
    law = found.prediction.centered().bulk
    if law is None:
        return refined
    spread = law.num_eigenvalues * (law.second_moment - law.mean**2)
    return replace(refined, second_moment=refined.second_moment + spread / refined.num_parameters)


def select(results: Results, **wanted: Any) -> Results:
    """Results of the cells that have these arguments."""
    return [(cell, numbers) for cell, numbers in results if wanted.items() <= cell.items()]


def average(results: Results, kind: str) -> FisherStatistics:
    """Statistics averaged over networks; ``kind`` is "measured", "leading" or "refined"."""
    found = [FisherStatistics(**numbers[kind]) for _, numbers in results]
    means: dict[str, Any] = {name: float(np.mean([getattr(one, name) for one in found])) for name in _AVERAGED}
    return replace(found[0], **means)


# --- agreements ---------------------------------------------------------------------------------------------


def agreement(quantity: str, theory: Sequence[float], measured: Sequence[float], gap: float) -> Agreement:
    """Compare the averages over networks of theory, which may be another one for each of them, and measurement.

    Allowed are theory's own relative error ``gap`` and three standard errors of the mean difference.
    """
    mean = float(np.mean(theory))
    values = [mean + found - expected for found, expected in zip(measured, theory, strict=True)]
    return Agreement.of_samples(quantity, mean, values, gap)


def statistics_agreements(results: Results, gaps: dict[str, float], label: str) -> list[Agreement]:
    """Compare refined statistics with measured ones, of the networks in ``results``; ``gaps`` by the field's name."""

    def values(kind: str, name: str) -> list[float]:
        return [numbers[kind][name] for _, numbers in results]

    return [
        agreement(f"{name.replace('_', ' ')}, {label}", values("refined", name), values("measured", name), gap)
        for name, gap in gaps.items()
    ]


# --- panels -------------------------------------------------------------------------------------------------


def draw_statistics(
    results: Results, figure: Any, key: str, label: str, theory: Callable[[str, int], FisherStatistics]
) -> None:
    """One panel a statistic, against an argument ``key`` of the cells: means and deviations over seeds, and theory."""
    axes = figure.subplots(1, len(_STATISTICS))
    activations = list(dict.fromkeys(cell["activation"] for cell, _ in results))
    lines = [_curve(results, key, activation, theory) for activation in activations]
    for ax, (name, symbol) in zip(axes, _STATISTICS.items(), strict=True):
        for kind, (activation, (grid, predicted)) in enumerate(zip(activations, lines, strict=True)):
            draw_points(ax, select(results, activation=activation), key, name, kind, activation)
            ax.plot(grid, [getattr(one, name) for one in predicted], label="theory", **THEORY_LINE)
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel=symbol)
        low, high = ax.get_ylim()
        room = max(1.0, math.sqrt(_LEAST_RANGE / (high / low)))
        ax.set_ylim(low / room, high * room)  # what does not change looks like it
        finish_panel(ax)
    share_legend(figure, axes, 4)


def draw_points(ax: Any, results: Results, key: str, name: str, kind: int, label: str) -> None:
    """A measured statistic against an argument ``key`` of the cells: mean and deviation over seeds."""
    places = sorted({cell[key] for cell, _ in results})
    values = [[n["measured"][name] for _, n in select(results, **{key: place})] for place in places]
    mean, deviation = [float(np.mean(v)) for v in values], [float(np.std(v)) for v in values]
    ax.errorbar(places, mean, deviation, label=label, **_MARKS[kind], **_BARS)


def _curve(
    results: Results, key: str, activation: str, theory: Callable[[str, int], FisherStatistics]
) -> tuple[list[int], list[FisherStatistics]]:
    places = [cell[key] for cell, _ in results]
    grid = np.unique(np.geomspace(min(places), max(places), 30).round().astype(int)).tolist()
    return grid, [theory(activation, place) for place in grid]


def draw_spectrum(
    ax: Any, results: Results, title: str, *, symbol: str = "F", predicted: FloatArray | None = None
) -> None:
    """Histogram over networks with mean and maximum marked, and that of predicted eigenvalues if there are."""
    values = np.array([numbers["eigenvalues"] for _, numbers in results])
    decades = math.log10(values.max() / values[values > values.max() * _ROUNDING].min())
    plot.spectrum(
        values,
        theory=average(results, "refined"),
        measured=[FisherStatistics(**numbers["measured"]) for _, numbers in results],
        predicted=predicted,
        symbol=symbol,
        bins=int(np.clip(_BARS_A_DECADE * decades, 10, _BARS_AT_MOST)),
        title=title,
        ax=ax,
    )


def draw_ranks(ax: Any, results: Results, predicted: FloatArray, count: int) -> None:
    """The largest eigenvalues one by one, mean and deviation over networks, and those predicted."""
    values = np.array([numbers["eigenvalues"][:count] for _, numbers in results])
    ranks = np.arange(1, count + 1)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    ax.errorbar(ranks, mean, deviation, label="rank by rank, measured", **MARKS, **_BARS)
    ax.plot(ranks[: len(predicted)], predicted, label="rank by rank, theory", **THEORY_LINE)
    ax.set(xlabel="rank $i$", ylabel=r"eigenvalue $\lambda_i$", yscale="log", xticks=ranks[::2])
    finish_panel(ax)


def finish_panel(ax: Any, title: str | None = None) -> None:
    """The frame of the other panels, plain numbers on logarithmic axes, and a title if there is one."""
    from matplotlib.ticker import LogLocator, NullFormatter

    finish(ax, None)
    if title:
        ax.set_title(title, fontsize="small", loc="left", pad=12)
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < _FEW_DECADES else (1,)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


def share_legend(figure: Any, axes: Sequence[Any], columns: int) -> None:
    """One legend below all panels in the place of their own."""
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
        if ax.get_legend() is not None:
            ax.get_legend().remove()
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")


# --- maps of training ---------------------------------------------------------------------------------------


def joined_map(results: Results) -> TrainingMap:
    """The map of all widths, from cells that have one each."""
    maps = [numbers["map"] for _, numbers in results]
    by_width = ("widths", "initial_loss", "final_loss", "theory", "corrected", "measured")
    # JSON has null for the losses that exploded
    joined = {
        name: np.concatenate([np.array(one[name], float if name != "widths" else int) for one in maps])
        for name in by_width
    }
    joined["final_loss"] = np.nan_to_num(joined["final_loss"], nan=math.inf, posinf=math.inf)
    first = {field.name: maps[0][field.name] for field in fields(TrainingMap)}
    return TrainingMap(**first | joined | {"rates": np.array(first["rates"])})


def map_agreements(found: TrainingMap) -> list[Agreement]:
    """Which share of the cells diverges above the predicted rate, and which converges below."""
    above, below = found.fractions("theory")
    return [
        Agreement("share of cells above eta_c that diverge", 1.0, above, _SHARE),
        Agreement("share of cells below eta_c that converge", 1.0, below, _SHARE),
    ]
