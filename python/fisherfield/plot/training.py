"""The picture of the map of training: losses over widths and learning rates, and the predicted critical rate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..experiments import TrainingMap
from .files import finish, legend_below, new_axes, save
from .style import MARKS, PAPER, THEORY_LINE, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_training_map", "training_map"]

_DEEPEST = 1e-6  # loss over the initial one below which shades are the same
_CORRECTED: dict[str, Any] = {**THEORY_LINE, "linestyle": (0, (6, 1.5, 1, 1.5))}


def save_training_map(path: str | os.PathLike[str], found: TrainingMap, **options: Any) -> Path:
    """Write the picture of :func:`training_map`, with the same options, to a file; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    found
        As of :func:`training_map`.
    **options
        Those of :func:`training_map` but ``ax``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`training_map`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    return save(path, lambda ax: training_map(found, ax=ax, **options))


@styled
def training_map(found: TrainingMap, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    r"""Draw the loss after training over the width M and the learning rate, with the critical rates on it.

    Shades are the loss over the one before training, on a logarithmic scale; in black cells it has not fallen. The
    dashed line is :math:`\eta_c` of the theory, the one of dashes and dots the same with the estimate of the largest
    outlier at finite width, circles are :math:`2 (1 + \mu) / \lambda_{\max}` of the networks before training.

    Parameters
    ----------
    found : TrainingMap
        Of :func:`fisherfield.experiments.training_map`.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError
        If ``found`` is something else.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from fisherfield import experiments, plot
    >>> found = experiments.training_map(widths=(20, 40), rates=4, inputs=30, steps=10)
    >>> ax = plot.training_map(found)  # doctest: +SKIP
    """
    if not isinstance(found, TrainingMap):
        raise TypeError(f"found: expected a TrainingMap, got {type(found).__name__}")
    from matplotlib.colors import LogNorm
    from matplotlib.patheffects import withStroke

    ax = new_axes() if ax is None else ax
    x, y = _edges(found.widths.astype(np.float64), False), _edges(found.rates, True)
    ratio = np.clip(found.final_loss / found.initial_loss[:, None], _DEEPEST, 1.0).T
    lowest = 10.0 ** np.floor(np.log10(min(0.1, float(ratio.min()))))
    cells = ax.pcolormesh(x, y, ratio, norm=LogNorm(lowest, 1), cmap="Greys", edgecolors="0.75", linewidth=0.3)
    halo = [withStroke(linewidth=3.5, foreground=PAPER)]  # seen on black cells too
    ax.plot(found.widths, found.theory, label=r"$\eta_c$, theory", path_effects=halo, **THEORY_LINE)
    if np.isfinite(found.corrected).any():
        ax.plot(found.widths, found.corrected, label=r"$\eta_c$, finite width", path_effects=halo, **_CORRECTED)
    ax.plot(found.widths, found.measured, label=r"$2 (1 + \mu) / \lambda_{\max}$, measured", **MARKS)
    ax.set_yscale("log")
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    ax.set_xlabel("width $M$ of the hidden layers")
    ax.set_ylabel(r"learning rate $\eta$")
    bar = ax.figure.colorbar(cells, ax=ax, pad=0.02, extend="max")
    bar.set_label(f"loss after {found.steps} steps / loss before")
    finish(ax, title)
    legend_below(ax, 3)
    return ax


def _edges(centres: npt.NDArray[np.float64], logarithmic: bool) -> npt.NDArray[np.float64]:
    """Edges of cells around centres."""
    at = np.log(centres) if logarithmic else centres
    if len(at) == 1:
        half = 0.1 if logarithmic else 0.1 * at[0]
        edges = np.array([at[0] - half, at[0] + half])
    else:
        middle = (at[1:] + at[:-1]) / 2
        edges = np.concatenate([[1.5 * at[0] - at[1] / 2], middle, [1.5 * at[-1] - at[-2] / 2]])
    return np.exp(edges) if logarithmic else edges
