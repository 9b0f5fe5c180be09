"""Pictures of singular models: phase portraits of the cone, and plateaus of two units near their overlap."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import as_sequence, choice
from ..learning.singular import METHODS, ConeModel, UnitFlow
from .files import finish, new_axes, save_panels
from .style import INK, LEVEL, PAPER, RUNS, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["QUANTITIES", "cone_phase_portrait", "plateau", "save_cone_phase_portrait", "save_plateau"]

QUANTITIES = ("loss", "smallest_eigenvalue")

_LINES: dict[str, dict[str, Any]] = {"standard": {"color": INK}, "natural": {"color": RUNS[5]["color"]}}
_STREAM: dict[str, Any] = {"color": "0.72", "linewidth": 0.6, "arrowsize": 0.7, "density": 1.1}
_APEX: dict[str, Any] = {"color": INK, "linewidth": 1.0, "linestyle": (0, (4, 3))}
_DASHES = ("-", "--", ":", "-.")
_BEGIN: dict[str, Any] = {"marker": "o", "markersize": 5, "markerfacecolor": PAPER, "label": "start"}
_LOST: dict[str, Any] = {"marker": "s", "markersize": 6, "label": "end elsewhere"}
_TARGET: dict[str, Any] = {"marker": "*", "markersize": 13, "label": "target"}
_STARTS = ((0.02, 1.8), (0.02, 3.1))
_LABELS = {"loss": "loss $E$", "smallest_eigenvalue": "smallest eigenvalue of $F$"}
_DECADES = 1e-5  # earliest time shown, of the longest flow
_GRID = 60  # points a side of the stream lines; even, so that none lies at the apex


def save_cone_phase_portrait(path: str | os.PathLike[str], model: ConeModel, **options: Any) -> Path:
    """Write two :func:`cone_phase_portrait`, standard beside natural, with the same options, to a file.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    model
        As of :func:`cone_phase_portrait`.
    **options
        Those of :func:`cone_phase_portrait` but ``method``, ``title`` and ``ax``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`cone_phase_portrait`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """

    def draw(ax: Any, method: str) -> None:
        cone_phase_portrait(model, method=method, title=f"{method} gradient", ax=ax, **options)

    return save_panels(path, draw, METHODS)


@styled
def cone_phase_portrait(
    model: ConeModel,
    target: Sequence[float] = (1.0, 0.0),
    *,
    method: str = "standard",
    starts: Sequence[Sequence[float]] = _STARTS,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""Draw stream lines of an averaged gradient flow over :math:`(\xi, \theta)`, and a few of its paths.

    The dashed line is the apex, where all angles are one point; a star marks the target, circles the starts and squares
    the ends of paths that do not reach it.

    Parameters
    ----------
    model : ConeModel
    target : (float, float)
        :math:`(\xi_0, \theta_0)`, as of :meth:`~fisherfield.learning.singular.ConeModel.flow`.
    method : {"standard", "natural"}
    starts : sequence of (float, float)
        Where paths begin.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError, ValueError
        If ``model`` is something else, or an option is out of range.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from fisherfield import plot
    >>> from fisherfield.learning.singular import ConeModel
    >>> ax = plot.cone_phase_portrait(ConeModel(c=1.5, d=1), method="natural")  # doctest: +SKIP
    """
    if not isinstance(model, ConeModel):
        raise TypeError(f"model: expected a ConeModel, got {type(model).__name__}")
    choice(method, "method", METHODS)
    flows = [model.flow(start, target, method) for start in as_sequence(starts, "starts", "a sequence of points")]
    goal, zero = (float(value) for value in target)
    reach = 1.3 * max([abs(goal), *(float(np.abs(flow.xi).max()) for flow in flows)])
    if reach == 0:
        raise ValueError("target: expected a point off the apex, or starts off it, got xi = 0 only")
    xi, theta = np.linspace(-reach, reach, _GRID), zero + np.linspace(-0.12, 1.08, _GRID) * np.pi
    ax = new_axes() if ax is None else ax
    ax.streamplot(xi, theta, *model.velocity(*np.meshgrid(xi, theta), target, method), **_STREAM)
    ax.axvline(0, label=r"apex $\xi = 0$", **_APEX)
    for flow in flows:
        ax.plot(flow.xi, flow.theta, linewidth=1.8, **_LINES[method])
    begins = [(flow.xi[0], flow.theta[0]) for flow in flows]
    lost = [(flow.xi[-1], flow.theta[-1]) for flow in flows if not flow.reached]
    for points, marks in ((begins, _BEGIN), (lost, _LOST), ([(goal, zero)], _TARGET)):
        if points:
            ax.plot(*np.transpose(points), linestyle="none", zorder=3, **_LINES[method], **marks)
    ax.set_xlim(-reach, reach)
    ax.set_ylim(theta[0], theta[-1])
    ax.set_xlabel(r"$\xi$, along the cone")
    ax.set_ylabel(r"$\theta$, angle of direction (rad)")
    ax.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none")
    finish(ax, title)
    return ax


def save_plateau(path: str | os.PathLike[str], flows: Sequence[UnitFlow]) -> Path:
    """Write two :func:`plateau`, the loss beside the smallest eigenvalue, to a file.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    flows
        As of :func:`plateau`.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`plateau`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    return save_panels(path, lambda ax, quantity: plateau(flows, quantity=quantity, ax=ax), QUANTITIES)


@styled
def plateau(
    flows: Sequence[UnitFlow], *, quantity: str = "loss", title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the loss of students against time, or the smallest eigenvalue of the Fisher information matrix.

    Both axes are logarithmic. The stretch on the plateau is drawn thick; its level is the thin line.

    Parameters
    ----------
    flows : sequence of UnitFlow
        Of :meth:`fisherfield.learning.singular.TwoUnits.flow`: at least one.
    quantity : {"loss", "smallest_eigenvalue"}
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError, ValueError
        If ``flows`` holds something else or nothing.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> from fisherfield import plot
    >>> from fisherfield.learning.singular import TwoUnits
    >>> model = TwoUnits("tanh")
    >>> teacher = model.parameters([1.4, 0.3], [0.9, 0.6])
    >>> student = model.from_overlap(u=0.05, z=0.3, v=0.8, w=0.6)
    >>> flows = [model.flow(student, teacher, method) for method in ("standard", "natural")]
    >>> ax = plot.plateau(flows)  # doctest: +SKIP
    """
    choice(quantity, "quantity", QUANTITIES)
    paths = as_sequence(flows, "flows", "a sequence of UnitFlow")
    for flow in paths:
        if not isinstance(flow, UnitFlow):
            raise TypeError(f"flows: expected UnitFlow only, got {type(flow).__name__}")
    if len(paths) == 0:
        raise ValueError("flows: expected at least one, got none")
    ax = new_axes() if ax is None else ax
    for index, flow in enumerate(paths):
        style = {**_LINES[flow.method], "linestyle": _DASHES[index % len(_DASHES)]}
        values = getattr(flow, quantity)
        ax.plot(flow.times[1:], values[1:], linewidth=1.2, label=_name(flow), **style)
        resting = (flow.times > 0) & (flow.times >= flow.entered) & ~(flow.times > flow.left)
        ax.plot(flow.times[resting], values[resting], linewidth=3.5, **style)
    if quantity == "loss":
        ax.axhline(paths[0].plateau.loss, label="best single unit", **LEVEL)
    ax.set_xscale("log")
    ax.set_yscale("log")
    longest = max(flow.time for flow in paths)
    if longest > 0:
        ax.set_xlim(longest * _DECADES, 1.5 * longest)
    ax.set_xlabel("time $t$ of the flow")
    ax.set_ylabel(_LABELS[quantity])
    finish(ax, title)
    ax.legend()
    return ax


def _name(flow: UnitFlow) -> str:
    return "standard gradient" if flow.method == "standard" else rf"natural gradient, $\rho = {flow.damping:g}$"
