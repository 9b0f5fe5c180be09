"""Pictures. A drawing function draws into ``ax`` (without one, into a new figure) and returns the axes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._validate import FloatArray, as_float_array, choice, positive_int
from .lanczos import SpectralDensity
from .statistics import FisherStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_path", "save_spectrum", "spectral_density", "spectrum"]

# Shade and shape carry the meaning; colour only adds to it, so that print in grey loses nothing.
_SYMBOLS = {"F": "F", "Theta": r"\Theta", "A": "A"}
_FIGURE: dict[str, Any] = {"figsize": (6.4, 4.0), "layout": "constrained"}
_BARS: dict[str, Any] = {"color": "0.82", "edgecolor": "0.55", "linewidth": 0.5}
_PREDICTED: dict[str, Any] = {"color": "#b2182b", "linewidth": 1.2, "baseline": None}
_CURVE: dict[str, Any] = {"color": "black", "linewidth": 1.3}
_BAND: dict[str, Any] = {"color": "0.78", "linewidth": 0}
_STEMS: dict[str, Any] = {"color": "black", "linewidth": 0.8}
_THEORY: dict[str, Any] = {"color": "#b2182b", "linewidth": 1.4, "linestyle": (0, (5, 1.5))}
_MEASURED: dict[str, Any] = {
    "color": "black",
    "linestyle": "none",
    "marker": "v",
    "markersize": 6,
    "clip_on": False,
}


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'fisherfield[plot]'") from error


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a picture can be written there: the folder exists, matplotlib knows the ending."""
    _require_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    target = Path(path)
    known = sorted(FigureCanvasBase.filetypes)
    if target.suffix.removeprefix(".").lower() not in known:
        raise ValueError(f"output: expected a file ending in one of {', '.join(known)}, got {str(path)!r}")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"output: no such folder: {target.parent}")
    return target


def save_spectrum(path: str | os.PathLike[str], eigenvalues: npt.ArrayLike, **options: Any) -> Path:
    """Write the picture of :func:`spectrum`, with the same options, to a file; needs no display."""
    target = check_path(path)
    from matplotlib.figure import Figure

    figure = Figure(**_FIGURE)
    spectrum(eigenvalues, ax=figure.subplots(), **options)
    figure.savefig(target, dpi=160)
    return target


def spectrum(
    eigenvalues: npt.ArrayLike,
    *,
    theory: FisherStatistics | None = None,
    measured: Sequence[FisherStatistics] = (),
    predicted: npt.ArrayLike | None = None,
    symbol: str = "F",
    bins: int = 60,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""Draw a histogram of the nonzero eigenvalues on logarithmic axes, with mean and maximum marked.

    The mean is that over all P eigenvalues. Most of them are zero, so it lies far to the left of the bars.

    Parameters
    ----------
    eigenvalues : array, shape (K,) or (S, K)
        Eigenvalues of one network or of S; bars count them per network.
    theory : FisherStatistics, optional
        Predicted mean and maximum: dashed lines.
    measured : sequence of FisherStatistics
        One per network; their mean and maximum, averaged over networks: filled triangles. Where several outliers
        are expected their mean too: an open triangle.
    predicted : array, shape (K,), optional
        Predicted eigenvalues, drawn as the outline of their histogram.
    symbol : {"F", "Theta", "A"}
        Symbol of the matrix: Fisher information, tangent kernel, metric of features.
    bins : int
        Number of bins, equally wide on the logarithmic axis.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If ``eigenvalues`` has no positive entry, or is not a finite float array.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield import plot
    >>> ax = plot.spectrum(np.geomspace(1.0, 100.0, 50))  # doctest: +SKIP
    """
    _require_matplotlib()
    values = np.atleast_2d(np.asarray(eigenvalues))
    values = as_float_array(values, "eigenvalues", ndim=2)
    networks = len(values)
    positive = _nonzero(values, "eigenvalues")
    outline = None if predicted is None else _nonzero(np.asarray(predicted), "predicted")
    edges = _log_edges(positive if outline is None else np.append(positive, outline), positive_int(bins, "bins"))
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(**_FIGURE)[1]
    weights = np.full(positive.shape, 1 / networks)
    ax.hist(positive, edges.tolist(), weights=weights, label="eigenvalues, measured", **_BARS)
    if outline is not None:
        counts = np.histogram(outline, edges)[0]
        ax.stairs(counts, edges, label="eigenvalues, theory", **_PREDICTED)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(0.5 / networks, None)
    _mark_theory(ax, theory)
    _mark_measured(ax, measured)
    letter = choice(symbol, "symbol", tuple(_SYMBOLS))
    ax.set_xlabel(rf"eigenvalue $\lambda$ of ${_SYMBOLS[letter]}$" + _count_note(theory, values.shape[1]))
    ax.set_ylabel("eigenvalues per network" if networks > 1 else "eigenvalues")
    ax.spines[["top", "right"]].set_visible(False)
    if title:
        ax.set_title(title, fontsize="small", loc="left", pad=12)
    if theory or measured or outline is not None:
        ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2)
    return ax


def spectral_density(
    density: SpectralDensity,
    ax: Axes | None = None,
    *,
    theory: FisherStatistics | None = None,
    symbol: str = "F",
    points: int = 400,
    title: str | None = None,
) -> Axes:
    r"""Draw an estimated density of eigenvalues on logarithmic axes, with a band of one standard error.

    Eigenvalues that are known one by one (outliers) are stems with triangles; they are not part of the curve. How
    many eigenvalues are zero, which have no place on the axis, is written below it.

    Parameters
    ----------
    density : SpectralDensity
        For instance ``fim.spectral_density()``.
    ax : matplotlib.axes.Axes, optional
    theory : FisherStatistics, optional
        Predicted maximum: a dashed line.
    symbol : {"F", "Theta", "A"}
        Symbol of the matrix: Fisher information, tangent kernel, metric of features.
    points : int
        Of the curve.
    title : str, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        For the density of a zero matrix, or what is no density.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield import lanczos, plot
    >>> density = lanczos.spectral_density(np.diag(np.geomspace(1.0, 100.0, 50)), seed=0)
    >>> ax = plot.spectral_density(density)  # doctest: +SKIP
    """
    _require_matplotlib()
    if not isinstance(density, SpectralDensity):
        raise TypeError(f"density: expected a SpectralDensity, got {type(density).__name__}")
    letter = _SYMBOLS[choice(symbol, "symbol", tuple(_SYMBOLS))]
    x = density.grid(positive_int(points, "points", minimum=2))
    bulk, outliers = _apart(density)
    band = bulk.density(x)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(**_FIGURE)[1]
    ax.set_xscale("log")
    ax.set_yscale("log")
    top = float(band.value.max())
    if top > 0:
        low = top / 2000
        lower, upper = band.value - band.standard_error, band.value + band.standard_error
        shown = np.where(upper > low / 10, x, np.nan)  # no curve along the lower edge of the picture
        ax.fill_between(shown, np.maximum(lower, low / 10), upper, label=r"$\pm$ 1 standard error", **_BAND)
        ax.plot(shown, np.maximum(band.value, low / 10), label="density", **_CURVE)
        ax.set_ylim(low, 3 * top)
    _mark_outliers(ax, outliers)
    _label_decades(ax, x)
    if theory is not None:
        ax.axvline(theory.maximum, label="maximum, theory", **_THEORY)
    ax.set_xlabel(rf"eigenvalue $\lambda$ of ${letter}$" + _zero_note(density))
    ax.set_ylabel(r"density $dN / d \log_{10} \lambda$ (per decade)")
    ax.spines[["top", "right"]].set_visible(False)
    if title:
        ax.set_title(title, fontsize="small", loc="left", pad=12)
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=4)
    return ax


def _apart(density: SpectralDensity) -> tuple[SpectralDensity, FloatArray]:
    """The density without its known eigenvalues, and those above zero."""
    outliers = density.known[density.known > density.floor]
    return replace(density, known=density.known[:0], size=density.size - len(density.known)), outliers


def _label_decades(ax: Any, x: FloatArray) -> None:
    """Numbers between powers of ten too, where the axis has room for few of those."""
    ax.set_xlim(x[0], x[-1])
    if x[-1] < 100 * x[0]:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())


def _mark_outliers(ax: Any, outliers: FloatArray) -> None:
    """Stems of one common height, for one eigenvalue has none on this axis."""
    if len(outliers) == 0:
        return
    height = 0.3
    ax.vlines(outliers, 0, height, transform=ax.get_xaxis_transform(), **_STEMS)
    label = "outlier" if len(outliers) == 1 else f"{len(outliers)} outliers"
    ax.plot(outliers, np.full(len(outliers), height), transform=ax.get_xaxis_transform(), label=label, **_MEASURED)


def _zero_note(density: SpectralDensity) -> str:
    """How many eigenvalues the logarithmic axis leaves out."""
    zeros = density.num_zero
    if zeros.value < 0.5:
        return ""
    error = "" if zeros.standard_error < 0.5 else rf"$\,\pm\,${zeros.standard_error:,.0f}"
    return f"\n({zeros.value:,.0f}{error} of P = {density.dimension:,} are zero)"


def _nonzero(values: FloatArray, name: str) -> FloatArray:
    """Eigenvalues above the rounding error of a symmetric eigenvalue solver."""
    floor = values.max() * values.shape[-1] * np.finfo(values.dtype).eps
    positive: FloatArray = values[values > max(floor, 0.0)]
    if positive.size == 0:
        raise ValueError(f"{name}: expected at least one positive eigenvalue, got a maximum of {values.max()}")
    return positive


def _log_edges(values: FloatArray, bins: int) -> FloatArray:
    edges: FloatArray = np.geomspace(float(values.min()) / 1.05, float(values.max()) * 1.05, bins + 1)
    return edges


def _count_note(theory: FisherStatistics | None, nonzero: int) -> str:
    """Why the mean lies where no eigenvalue does."""
    if theory is None or nonzero == theory.num_parameters:
        return ""
    return f"\n(at most {nonzero:,} of P = {theory.num_parameters:,} are not zero; the mean is over all)"


def _mark_theory(ax: Any, theory: FisherStatistics | None) -> None:
    """Lines at the predicted mean and maximum."""
    if theory is None:
        return
    ax.axvline(theory.mean, label="mean and maximum, theory", **_THEORY)
    ax.axvline(theory.maximum, **_THEORY)


def _mark_measured(ax: Any, measured: Sequence[FisherStatistics]) -> None:
    """Markers on the upper edge at the measured statistics, averaged over networks."""
    if not measured:
        return

    def mark(fields: Sequence[str], label: str, **style: Any) -> None:
        values = [np.mean([getattr(statistics, field) for statistics in measured]) for field in fields]
        ax.plot(values, [1.0] * len(values), transform=ax.get_xaxis_transform(), label=label, **_MEASURED, **style)

    mark(("mean", "maximum"), "mean and maximum, measured")
    outliers = measured[0].num_outliers
    if outliers > 1:
        mark(("top_mean",), f"mean of the {outliers} largest, measured", markerfacecolor="white")
