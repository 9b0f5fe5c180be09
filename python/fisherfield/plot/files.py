"""Figures and the files they are written to."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .style import context, require_matplotlib

__all__ = ["check_path", "finish", "legend_below", "new_axes", "require_matplotlib", "save", "save_panels", "svg"]

_SIZE = (6.4, 4.0)  # inches
_PANELS = (9.6, 4.0)
_LABEL, _LINE = 0.17, 0.08  # of the height of the axes: a label of one line, and what another one adds


def new_axes() -> Any:
    """Return the axes of a new figure."""
    from matplotlib import pyplot

    return pyplot.subplots(figsize=_SIZE, layout="constrained")[1]


def finish(ax: Any, title: str | None) -> None:
    """Take away what frames no data, and set the title if there is one.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    title : str or None
    """
    ax.spines[["top", "right"]].set_visible(False)
    if title:
        ax.set_title(title, loc="left", pad=12)


def legend_below(ax: Any, columns: int, entries: tuple[Sequence[Any], Sequence[str]] | None = None) -> None:
    """Put the legend below the label of the x axis.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    columns : int
        Of the legend.
    entries : (handles, labels), optional
        Default: those of the axes.
    """
    below = -(_LABEL + _LINE * ax.get_xlabel().count("\n"))
    ax.legend(*(entries or ()), loc="upper center", bbox_to_anchor=(0.5, below), ncols=columns)


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a picture can be written there: the folder exists, matplotlib knows the ending.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        For an ending that matplotlib does not know.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    require_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    target = Path(path)
    known = sorted(FigureCanvasBase.filetypes)
    if target.suffix.removeprefix(".").lower() not in known:
        raise ValueError(f"output: expected a file ending in one of {', '.join(known)}, got {str(path)!r}")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"output: no such folder: {target.parent}")
    return target


def save(path: str | os.PathLike[str], draw: Callable[[Any], object]) -> Path:
    """Write the picture that ``draw(ax)`` draws to a file, in the format of its ending; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    draw : callable
        Of a matplotlib.axes.Axes.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, FileNotFoundError, ImportError
        As of :func:`check_path`.
    """
    target = check_path(path)
    _write(target, target.suffix, _SIZE, lambda figure: draw(figure.subplots()))
    return target


def save_panels(path: str | os.PathLike[str], draw: Callable[[Any, str], object], names: Sequence[str]) -> Path:
    """Write a picture of panels side by side, ``draw(ax, name)`` for each name, to a file; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    draw : callable
        Of a matplotlib.axes.Axes and a name.
    names : sequence of str
        One per panel, from left to right.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, FileNotFoundError, ImportError
        As of :func:`check_path`.
    """
    target = check_path(path)

    def draw_all(figure: Any) -> None:
        for ax, name in zip(figure.subplots(1, len(names)), names, strict=True):
            draw(ax, name)

    _write(target, target.suffix, _PANELS, draw_all)
    return target


def svg(draw: Callable[[Any], object], size: tuple[float, float] = _SIZE) -> bytes:
    """Return the picture that ``draw(ax)`` draws as SVG.

    Parameters
    ----------
    draw : callable
        Of a matplotlib.axes.Axes.
    size : (float, float), optional
        Width and height in inches (default: those of pictures in files).

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    found = io.BytesIO()
    _write(found, ".svg", size, lambda figure: draw(figure.subplots()))
    return found.getvalue()


def _write(target: Path | io.BytesIO, ending: str, size: tuple[float, float], draw: Callable[[Any], object]) -> None:
    with context():
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        kind = ending.removeprefix(".").lower()
        figure.savefig(target, format=kind, metadata={"Date": None} if kind in ("svg", "svgz") else None)
