"""Pictures of training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import FloatArray
from ..learning.monitor import TrainingMonitor
from .files import finish, legend_below, new_axes, save
from .style import PAPER, RUNS, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["monitor_path", "save_monitor"]

_START: dict[str, Any] = {"markerfacecolor": PAPER, "markeredgewidth": 1.5, "markersize": 6.5, "zorder": 3}
_END: dict[str, Any] = {"markersize": 6.5, "zorder": 4}


def save_monitor(
    path: str | os.PathLike[str], runs: TrainingMonitor | Mapping[str, TrainingMonitor], **options: Any
) -> Path:
    """Write the picture of :func:`monitor_path`, with the same options, to a file; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    runs
        As of :func:`monitor_path`.
    **options
        Those of :func:`monitor_path` but ``ax``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`monitor_path`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    return save(path, lambda ax: monitor_path(runs, ax=ax, **options))


@styled
def monitor_path(
    runs: TrainingMonitor | Mapping[str, TrainingMonitor], *, title: str | None = None, ax: Axes | None = None
) -> Axes:
    r"""Draw the paths of training runs in the plane of condition number and energy, on logarithmic axes.

    A path goes from the first mini-batch (open mark) to the last one (filled): the running average :math:`\bar C_K` of
    the truncated condition numbers across, the cumulative energy :math:`L_K` upwards (Liao, Drummond, Reid, Carneiro
    2020). What comes before the first gradient and the first learning rate that are not zero has no place on the axes.

    Parameters
    ----------
    runs : TrainingMonitor, or mapping of labels to TrainingMonitor
        One path each.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError
        If ``runs`` is something else.
    ValueError
        If there is no run, or one without a record that has a place on the axes.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield import plot
    >>> from fisherfield.learning.monitor import TrainingMonitor
    >>> monitor, rng = TrainingMonitor(), np.random.default_rng(0)
    >>> for k in range(20):
    ...     record = monitor.update_gradients(rng.standard_normal((8, 30)), learning_rate=0.1)
    >>> ax = plot.monitor_path({"noise": monitor})  # doctest: +SKIP
    """
    paths = {label: _path(monitor, label) for label, monitor in _named(runs).items()}
    ax = new_axes() if ax is None else ax
    for (label, (x, y)), style in zip(paths.items(), cycle(RUNS), strict=False):
        ax.plot(x, y, color=style["color"], linestyle=style["linestyle"])
        ax.plot(x[0], y[0], color=style["color"], marker=style["marker"], **_START)
        ax.plot(x[-1], y[-1], label=label, **style, **_END)
    ax.set_xscale("log")
    ax.set_yscale("log")
    from matplotlib.ticker import LogFormatter

    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(LogFormatter())  # between powers of ten too, where the axis has few of them
    ax.set_xlabel("running average of condition numbers, $\\bar C_K$\n(open mark: first mini-batch, filled: last one)")
    ax.set_ylabel(r"cumulative energy, $L_K$")
    finish(ax, title)
    if not isinstance(runs, TrainingMonitor):
        legend_below(ax, 2)
    return ax


def _path(monitor: TrainingMonitor, label: str) -> tuple[FloatArray, FloatArray]:
    """The points of a run that logarithmic axes can show."""
    history = monitor.history()
    x, y = history["mean_condition"], history["total_energy"]
    shown = np.isfinite(x) & (y > 0)
    if not shown.any():
        of = f" of {label!r}" if label else ""
        raise ValueError(f"runs: expected records{of} with gradients and learning rates that are not zero, got none")
    return x[shown], y[shown]


def _named(runs: Any) -> dict[str, TrainingMonitor]:
    """Monitors by label; a single one has none."""
    if isinstance(runs, TrainingMonitor):
        return {"": runs}
    expected = "runs: expected a TrainingMonitor or a mapping of labels to them"
    if not isinstance(runs, Mapping):
        raise TypeError(f"{expected}, got {type(runs).__name__}")
    if not runs:
        raise ValueError(f"{expected}, got an empty one")
    for label, monitor in runs.items():
        if not isinstance(label, str) or not isinstance(monitor, TrainingMonitor):
            raise TypeError(f"{expected}, got {label!r}: {type(monitor).__name__}")
    return dict(runs)
