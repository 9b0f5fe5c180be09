"""One look for every picture: what is measured is dark and solid, what theory says is dashed on top of it.

Colours differ in luminance, and lines also in dashes and marks: nothing is lost in print without colours. Those of
several runs are Paul Tol's for colour-blind readers. Drawing functions set all of this for themselves, whatever the
settings of Matplotlib, and change none of these; for another look give them axes, and change what they return.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = [
    "BARS",
    "INK",
    "LEVEL",
    "LINE",
    "MARKS",
    "OPEN",
    "PAPER",
    "RC",
    "RUNS",
    "SHADE",
    "THEORY",
    "THEORY_LINE",
    "THEORY_MARKS",
    "THEORY_OUTLINE",
    "context",
    "require_matplotlib",
    "styled",
]

INK = "#1a1a1a"
"""Colour of what is measured."""
PAPER = "white"
"""Colour of the inside of open marks."""
THEORY = "#b2182b"
"""Colour of predictions."""
SHADE = "0.74"
"""Of areas: bars, bands of errors."""

LINE: dict[str, Any] = {"color": INK, "linewidth": 1.4}
"""A measured curve."""
MARKS: dict[str, Any] = {
    "color": INK, "marker": "o", "markersize": 6, "markeredgecolor": PAPER, "markeredgewidth": 0.6, "linestyle": "none",
}  # fmt: skip
"""Measured points."""
BARS: dict[str, Any] = {"facecolor": SHADE, "edgecolor": "0.35", "linewidth": 0.5}
"""Measured counts."""
OPEN: dict[str, Any] = {"markerfacecolor": PAPER, "markeredgecolor": INK, "markeredgewidth": 1.4}
"""What makes measured points a second kind of point."""
THEORY_LINE: dict[str, Any] = {"color": THEORY, "linewidth": 1.6, "linestyle": (0, (5, 1.5)), "zorder": 2.6}
"""A predicted curve or value."""
THEORY_MARKS: dict[str, Any] = {
    "color": THEORY, "marker": "D", "markersize": 6, "markerfacecolor": "none", "markeredgewidth": 1.4,
    "linestyle": "none", "zorder": 2.7,
}  # fmt: skip
"""Predicted points."""
THEORY_OUTLINE: dict[str, Any] = {
    "color": THEORY, "linewidth": 1.3, "linestyle": (0, (4, 1.2)), "baseline": None, "zorder": 2.6,
}  # fmt: skip
"""Predicted counts, of ``Axes.stairs``."""
LEVEL: dict[str, Any] = {"color": "0.5", "linewidth": 0.9, "zorder": 0}
"""A level to compare with."""

RUNS: tuple[dict[str, Any], ...] = (
    {"color": INK, "linestyle": "-", "marker": "o"},
    {"color": "#6699cc", "linestyle": "--", "marker": "s"},
    {"color": "#994455", "linestyle": "-.", "marker": "^"},
    {"color": "#ddaa33", "linestyle": (0, (1, 1)), "marker": "D"},
    {"color": "#004488", "linestyle": (0, (6, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#bb5566", "linestyle": (0, (8, 2)), "marker": "P"},
)
"""Several curves of one kind, say runs of training."""

RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # which comes with Matplotlib: the same picture on every machine
    "font.size": 10,
    "mathtext.fontset": "dejavusans",
    "axes.labelsize": "medium",
    "axes.linewidth": 0.8,
    "axes.titlesize": "small",
    "axes.facecolor": PAPER,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": False,
    "figure.facecolor": PAPER,
    "figure.dpi": 100,
    "legend.fontsize": "small",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "savefig.dpi": 200,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",
    "svg.hashsalt": "fisherfield",  # the same numbers make the same file
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": INK,
    "xtick.direction": "out",
    "xtick.labelsize": "medium",
    "ytick.color": INK,
    "ytick.direction": "out",
    "ytick.labelsize": "medium",
}
"""Settings of Matplotlib in which every picture is drawn."""

_Parameters = ParamSpec("_Parameters")
_Drawn = TypeVar("_Drawn")


def require_matplotlib() -> None:
    """Raise an ImportError that says what to install, if it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'fisherfield[plot]'") from error


def context() -> AbstractContextManager[None]:
    """Return a context in which Matplotlib draws in this style; other settings are back after it.

    Examples
    --------
    >>> from fisherfield.plot import style
    >>> with style.context():
    ...     pass  # draw with style.LINE, style.THEORY_LINE, ...
    """
    require_matplotlib()
    import matplotlib as mpl

    settings: Any = RC  # whose names Matplotlib's types list one by one
    found: AbstractContextManager[None] = mpl.rc_context(settings)
    return found


def styled(draw: Callable[_Parameters, _Drawn]) -> Callable[_Parameters, _Drawn]:
    """Return a drawing function that draws in this style.

    Parameters
    ----------
    draw : callable

    Returns
    -------
    callable
        Of the same arguments, in :func:`context`; it raises ImportError without matplotlib.
    """

    @wraps(draw)
    def in_style(*args: _Parameters.args, **options: _Parameters.kwargs) -> _Drawn:
        with context():
            return draw(*args, **options)

    return in_style
