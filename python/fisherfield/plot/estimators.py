"""Pictures of random estimators: how far they are from what they estimate, layer by layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import FloatArray
from ..diagonal import DiagonalVariance
from .files import finish, legend_below, new_axes, save
from .style import BARS, MARKS, PAPER, RUNS, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["diagonal_variance", "save_diagonal_variance"]

_SCORE: dict[str, Any] = {**MARKS, "markersize": 7}
_HESSIAN: dict[str, Any] = {**MARKS, "color": RUNS[1]["color"], "marker": "s", "markersize": 7}
_OPEN: dict[str, Any] = {"markerfacecolor": PAPER, "markeredgewidth": 1.5}
_BOUND: dict[str, Any] = {"marker": "_", "markersize": 11, "markeredgewidth": 1.2, "linestyle": "none"}
_SHIFT = 0.14  # of the two estimators to either side of their layer


def save_diagonal_variance(path: str | os.PathLike[str], variance: DiagonalVariance, **options: Any) -> Path:
    """Write the picture of :func:`diagonal_variance`, with the same options, to a file; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    variance
        As of :func:`diagonal_variance`.
    **options
        Those of :func:`diagonal_variance` but ``ax``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`diagonal_variance`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    return save(path, lambda ax: diagonal_variance(variance, ax=ax, **options))


@styled
def diagonal_variance(variance: DiagonalVariance, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    r"""Draw the standard deviations of the two estimators of the diagonal beside the diagonal itself, by layer.

    Bars are the mean of the exact diagonal over a layer's parameters. Marks are the deviations with one target drawn
    per input, root mean squares over the layer's parameters: above its bar, an estimator is all noise. Whiskers reach
    to the eigenvalue bounds where ``variance`` has them; marks on the lower edge say that there is no variance.

    Parameters
    ----------
    variance : DiagonalVariance
        Of :func:`fisherfield.diagonal_variance`.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError
        If ``variance`` is something else.
    ValueError
        If the diagonal is zero: there is nothing to draw.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> from fisherfield import plot
    >>> net = ff.MLP((20, 50, 50, 3), "tanh").sample(seed=0)
    >>> X = np.random.default_rng(0).standard_normal((30, 20))
    >>> found = ff.diagonal_variance(net, X, "categorical", bounds=True)
    >>> ax = plot.diagonal_variance(found)  # doctest: +SKIP
    """
    if not isinstance(variance, DiagonalVariance):
        raise TypeError(f"variance: expected a DiagonalVariance, got {type(variance).__name__}")
    layers = variance.layers()
    x = np.array([layer.layer for layer in layers])
    means, score, hessian = (
        np.array([getattr(layer, name) for layer in layers])
        for name in ("mean", "score_deviation", "hessian_deviation")
    )
    shown = np.concatenate([means, score, hessian])
    if not (shown > 0).any():
        raise ValueError("variance: expected a diagonal that is not zero, got zeros only")
    ax = new_axes() if ax is None else ax
    low = float(shown[shown > 0].min()) / 4
    ax.bar(x, np.maximum(means, low), width=0.72, label="mean of the exact diagonal", **BARS)
    score_bounds = np.array([(0.0, layer.score_bound or 0.0) for layer in layers])
    hessian_bounds = np.array([layer.hessian_bounds or (0.0, 0.0) for layer in layers])
    bounded = variance.score_bound is not None
    _mark(ax, x - _SHIFT, score, score_bounds if bounded else None, low, "squared scores $\\hat I_1$", _SCORE)
    _mark(ax, x + _SHIFT, hessian, hessian_bounds if bounded else None, low, "second derivatives $\\hat I_2$", _HESSIAN)
    ax.set_yscale("log")
    ax.set_ylim(low, None)
    ax.set_xticks(x)
    ax.set_xlim(x[0] - 0.7, x[-1] + 0.7)
    ax.set_xlabel("layer $l$")
    ax.set_ylabel("$F_{ii}$, deviation of estimators" + ("\n(whiskers: bounds)" if bounded else ""))
    finish(ax, title)
    legend_below(ax, 3)
    return ax


def _mark(
    ax: Any,
    x: FloatArray,
    deviations: FloatArray,
    bounds: FloatArray | None,
    low: float,
    label: str,
    style: dict[str, Any],
) -> None:
    """Marks at the deviations, open ones on the lower edge where there is none; whiskers to the bounds."""
    found = deviations > 0
    for end in () if bounds is None else bounds.T:
        shown = found & (end > 0)
        reach = np.maximum(end[shown], low)
        ax.vlines(x[shown], deviations[shown], reach, color=style["color"], linewidth=1.2)
        ax.plot(x[shown], reach, color=style["color"], label="_bound", **_BOUND)
    ax.plot(x[found], deviations[found], label=label, **style)
    if not found.all():
        edge = np.full(int((~found).sum()), low)
        ax.plot(
            x[~found], edge, clip_on=False, label="no variance", **style | {"markeredgecolor": style["color"]} | _OPEN
        )
