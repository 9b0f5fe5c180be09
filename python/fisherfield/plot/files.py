"""Figures and the files they are written to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["check_path", "finish", "new_axes", "require_matplotlib", "save"]

_FIGURE: dict[str, Any] = {"figsize": (6.4, 4.0), "layout": "constrained"}


def require_matplotlib() -> None:
    """Raise an ImportError that says what to install, if it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'fisherfield[plot]'") from error


def new_axes() -> Any:
    """Return the axes of a new figure."""
    from matplotlib import pyplot

    return pyplot.subplots(**_FIGURE)[1]


def finish(ax: Any, title: str | None) -> None:
    """Take away what frames no data, and set the title if there is one."""
    ax.spines[["top", "right"]].set_visible(False)
    if title:
        ax.set_title(title, fontsize="small", loc="left", pad=12)


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a picture can be written there: the folder exists, matplotlib knows the ending."""
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
    """Write the picture that ``draw(ax)`` draws to a file; needs no display."""
    target = check_path(path)
    from matplotlib.figure import Figure

    figure = Figure(**_FIGURE)
    draw(figure.subplots())
    figure.savefig(target, dpi=160)
    return target
