"""Pictures of descents: the loss against the steps taken, several methods in one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import FloatArray, non_negative
from ..learning.natural_gradient import NaturalGradientRun
from .files import finish, new_axes, save
from .style import RUNS, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["descents", "save_descents"]

_HEADROOM = 3.0


def save_descents(path: str | os.PathLike[str], runs: Mapping[str, Any], **options: Any) -> Path:
    """Write the picture of :func:`descents`, with the same options, to a file; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    runs
        As of :func:`descents`.
    **options
        Those of :func:`descents` but ``ax``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`descents`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    return save(path, lambda ax: descents(runs, ax=ax, **options))


@styled
def descents(
    runs: Mapping[str, Any], *, floor: float = 1e-12, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw losses against the number of steps, both logarithmic; step 0 is the start.

    Parameters
    ----------
    runs : mapping from str to NaturalGradientRun or array, shape (steps + 1,)
        Losses before the first step and after each one, by the label of their line.
    floor : float, default 1e-12
        Lower end of the picture; a line ends where it falls below, or where a loss is not finite.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If there are no runs, or one is no sequence of losses, the first of them finite and above the floor.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from fisherfield.plot import natural
    >>> ax = natural.descents({"halved": [1.0, 0.5, 0.25]})  # doctest: +SKIP
    """
    low = non_negative(floor, "floor", strict=True)
    if not isinstance(runs, Mapping) or not runs:
        raise TypeError(f"runs: expected a mapping from labels to losses, at least one, got {runs!r}")
    lines = {str(label): _losses(run, f"runs[{label!r}]", low) for label, run in runs.items()}
    ax = new_axes() if ax is None else ax
    for (label, losses), style in zip(lines.items(), cycle(RUNS), strict=False):
        marks = np.unique(np.geomspace(1, len(losses), 12).astype(int)) - 1
        ax.plot(np.arange(len(losses)), losses, label=label, markersize=5, markevery=marks.tolist(), **style)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_yscale("log")
    longest = max(map(len, lines.values())) - 1
    ax.set_xlim(-0.05, max(longest, 1) * 1.1)
    ax.set_ylim(low, _HEADROOM * max(float(losses.max()) for losses in lines.values()))
    ticks = [0, *(10**k for k in range(len(str(longest))))]
    ax.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    ax.set_xlabel("steps $t$")
    ax.set_ylabel("loss $E$")
    finish(ax, title)
    ax.legend()
    return ax


def _losses(run: Any, name: str, low: float) -> FloatArray:
    """Finite losses, up to the first one below the floor."""
    try:
        losses = np.array(run.losses if isinstance(run, NaturalGradientRun) else run, np.float64)
    except (TypeError, ValueError):
        losses = np.empty(0)
    if losses.ndim != 1 or not len(losses) or not low < losses[0] < np.inf:
        raise ValueError(f"{name}: expected losses, the first one finite and above {low:g}, got {run!r}")
    ended = np.flatnonzero(~np.isfinite(losses))
    losses = losses[: ended[0]] if len(ended) else losses
    below = np.flatnonzero(losses < low)
    return losses[: below[0] + 1].clip(low / 2) if len(below) else losses
