"""Pictures of eigenvalues: their histogram, their density, and their law given one input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import devices
from .._validate import FloatArray, as_float_array, choice, non_negative, positive_int
from ..lanczos import SpectralDensity
from ..statistics import FisherStatistics
from ..theory import FreeLaw
from .files import finish, legend_below, new_axes, save
from .style import (
    BARS,
    INK,
    LINE,
    MARKS,
    OPEN,
    SHADE,
    THEORY_LINE,
    THEORY_MARKS,
    THEORY_OUTLINE,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "conditional_spectrum",
    "save_conditional_spectrum",
    "save_spectrum",
    "spectral_density",
    "spectrum",
]

_SYMBOLS = {"F": "F", "Theta": r"\Theta", "A": "A"}
_BAND: dict[str, Any] = {"color": SHADE, "linewidth": 0}
_STEMS: dict[str, Any] = {"color": INK, "linewidth": 0.9}
_TIPS: dict[str, Any] = {**MARKS, "marker": "v", "clip_on": False}
_ATOMS: dict[str, Any] = {**THEORY_LINE, "linewidth": 1.2}
_ATOM_TIPS: dict[str, Any] = {**THEORY_MARKS, "clip_on": False}

_LOW = 0.1  # half of the eigenvalues below this part of the largest make the axis logarithmic
_EQUAL, _SEVERAL = 100, 3  # so many eigenvalues, so many roundings of the largest apart, are one that is shared
_CURVE_POINTS = 2000
_LEAST = 2000.0  # lower end of the axis of a density, below its top


def save_spectrum(path: str | os.PathLike[str], eigenvalues: npt.ArrayLike, **options: Any) -> Path:
    """Write the picture of :func:`spectrum`, with the same options, to a file; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    eigenvalues
        As of :func:`spectrum`.
    **options
        Those of :func:`spectrum` but ``ax``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`spectrum`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    return save(path, lambda ax: spectrum(eigenvalues, ax=ax, **options))


def save_conditional_spectrum(
    path: str | os.PathLike[str], eigenvalues: npt.ArrayLike, law: FreeLaw, **options: Any
) -> Path:
    """Write the picture of :func:`conditional_spectrum`, with the same options, to a file; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    eigenvalues, law
        As of :func:`conditional_spectrum`.
    **options
        Those of :func:`conditional_spectrum` but ``ax``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`conditional_spectrum`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    return save(path, lambda ax: conditional_spectrum(eigenvalues, law, ax=ax, **options))


@styled
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
    values = np.atleast_2d(np.asarray(devices.on_host(eigenvalues)))
    values = as_float_array(values, "eigenvalues", ndim=2)
    networks = len(values)
    positive = _nonzero(values, "eigenvalues")
    outline = None if predicted is None else _nonzero(np.asarray(predicted), "predicted")
    edges = _log_edges(positive if outline is None else np.append(positive, outline), positive_int(bins, "bins"))
    ax = new_axes() if ax is None else ax
    weights = np.full(positive.shape, 1 / networks)
    ax.hist(positive, edges.tolist(), weights=weights, label="eigenvalues, measured", **BARS)
    if outline is not None:
        counts = np.histogram(outline, edges)[0]
        ax.stairs(counts, edges, label="eigenvalues, theory", **THEORY_OUTLINE)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(0.5 / networks, None)
    _mark_theory(ax, theory)
    _mark_measured(ax, measured)
    letter = choice(symbol, "symbol", tuple(_SYMBOLS))
    ax.set_xlabel(rf"eigenvalue $\lambda$ of ${_SYMBOLS[letter]}$" + _count_note(theory, values.shape[1]))
    ax.set_ylabel("eigenvalues per network" if networks > 1 else "eigenvalues")
    finish(ax, title)
    if theory or measured or outline is not None:
        legend_below(ax, 2)
    return ax


@styled
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
    if not isinstance(density, SpectralDensity):
        raise TypeError(f"density: expected a SpectralDensity, got {type(density).__name__}")
    letter = _SYMBOLS[choice(symbol, "symbol", tuple(_SYMBOLS))]
    bulk, outliers = _apart(density)
    x = _from_the_curve_on(bulk, density.grid(positive_int(points, "points", minimum=2)))
    band = bulk.density(x)
    ax = new_axes() if ax is None else ax
    ax.set_xscale("log")
    ax.set_yscale("log")
    top = float(band.value.max())
    if top > 0:
        low = top / _LEAST
        lower, upper = band.value - band.standard_error, band.value + band.standard_error
        shown = np.where(upper > low / 10, x, np.nan)  # no curve along the lower edge of the picture
        ax.fill_between(shown, np.maximum(lower, low / 10), upper, label=r"$\pm$ 1 standard error", **_BAND)
        ax.plot(shown, np.maximum(band.value, low / 10), label="density", **LINE)
        ax.set_ylim(low, 3 * top)
    _mark_outliers(ax, outliers)
    _label_decades(ax, x)
    if theory is not None:
        ax.axvline(theory.maximum, label="maximum, theory", **THEORY_LINE)
    ax.set_xlabel(rf"eigenvalue $\lambda$ of ${letter}$" + _zero_note(density))
    ax.set_ylabel(r"density $dN / d \log_{10} \lambda$ (per decade)")
    finish(ax, title)
    legend_below(ax, 4)
    return ax


@styled
def conditional_spectrum(
    eigenvalues: npt.ArrayLike,
    law: FreeLaw,
    *,
    unit: float = 1.0,
    bins: int = 80,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    r"""Draw eigenvalues given one input and their predicted law: bars and a curve for the bands, stems for the atoms.

    Eigenvalues that several directions share are taken out of the bars. Stems have their height, the fraction of all
    eigenvalues, on the axis to the right; bars and curve are a density, fractions of all eigenvalues too, so that
    their area and the stems make 1. Where half of the eigenvalues are below a tenth of the largest, the axis is
    logarithmic and the density one per decade. Where bands are narrower than bars, the curve is the mass that the law
    gives to each bar. Peaks of the curve at edges of bands, which may be infinite, are cut off.

    Parameters
    ----------
    eigenvalues : array, shape (C,) or (S, C)
        Of one network or of S, for instance ``ConditionalFisher.eigenvalues()``; bars pool them.
    law : FreeLaw
        For instance ``ConditionalSpectrum.law``.
    unit : float, default 1.0
        Eigenvalues are drawn over this; the width M makes them those of :math:`H_L`.
    bins : int
        Number of bars.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If ``eigenvalues`` is not a finite float array or has no positive entry, or ``law`` is not a law.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield import plot, theory
    >>> law = theory.FreeLaw.point_mass(1.0).times_wishart() + 0.5
    >>> ax = plot.conditional_spectrum(law.quantile(np.linspace(0.01, 0.99, 50)), law)  # doctest: +SKIP
    """
    if not isinstance(law, FreeLaw):
        raise TypeError(f"law: expected a FreeLaw, got {type(law).__name__}")
    values = as_float_array(np.atleast_2d(np.asarray(eigenvalues)), "eigenvalues", ndim=2)
    _nonzero(values, "eigenvalues")
    size = non_negative(unit, "unit", strict=True)
    ax = new_axes() if ax is None else ax
    low, high = min(float(values.min()), law.minimum), max(float(values.max()), law.maximum)
    logarithmic = low > 0 and float(np.median(values)) < _LOW * high
    scale = _Scale(size, logarithmic)
    edges = scale.edges(low, high, positive_int(bins, "bins"))
    atoms, rest = _shared(values)
    highest = max(_draw_bars(ax, rest, values.size, edges, scale), _draw_law(ax, law, edges, scale))
    _draw_atoms(ax, law, atoms, scale)
    if logarithmic:
        ax.set_xscale("log")
        _label_decades(ax, edges / size)
    else:
        ax.set_xlim(edges[0] / size, edges[-1] / size)
    ax.set_ylim(0, 1.25 * highest or 1)
    letter = r"\lambda" if size == 1 else rf"\lambda / {size:g}"
    ax.set_xlabel(rf"eigenvalue ${letter}$ of $F(x)$")
    ax.set_ylabel(scale.label(letter))
    finish(ax, title)
    return ax


@dataclass(frozen=True)
class _Scale:
    """The axis of eigenvalues: its unit, and whether it is logarithmic."""

    unit: float
    logarithmic: bool

    def edges(self, low: float, high: float, bins: int) -> FloatArray:
        """Edges of bars, in the unit of the eigenvalues."""
        if self.logarithmic:
            return np.geomspace(low / 1.1, high * 1.1, bins + 1)
        margin = 0.03 * (high - low) or 0.1 * high
        return np.linspace(low - margin, high + margin, bins + 1)

    def widths(self, edges: FloatArray) -> FloatArray:
        """Widths of bars, as the density counts them."""
        return np.diff(np.log10(edges)) if self.logarithmic else np.diff(edges) / self.unit

    def per(self, x: FloatArray) -> FloatArray:
        """Factor from the density of eigenvalues to that of the axis."""
        return x * np.log(10) if self.logarithmic else np.full(x.shape, self.unit)

    def place(self, x: FloatArray) -> FloatArray:
        """Where x lies on the axis."""
        return np.log(x) if self.logarithmic else x

    def label(self, letter: str) -> str:
        """What the density is of."""
        return r"density (per decade)" if self.logarithmic else rf"density (per unit of ${letter}$)"


def _shared(values: FloatArray) -> tuple[list[tuple[FloatArray, FloatArray]], FloatArray]:
    """For each network positions and masses of eigenvalues that several directions share; all other eigenvalues."""
    tolerance = _EQUAL * float(np.finfo(values.dtype).eps) * float(values.max())
    atoms, rest = [], []
    for row in np.sort(values, axis=1):
        runs = np.split(row, np.flatnonzero(np.diff(row) > tolerance) + 1)
        shared = [run for run in runs if len(run) >= _SEVERAL]
        rest += [run for run in runs if len(run) < _SEVERAL]
        atoms.append((np.array([run.mean() for run in shared]), np.array([len(run) / len(row) for run in shared])))
    return atoms, np.concatenate(rest) if rest else values[:0, 0]


def _draw_bars(ax: Any, rest: FloatArray, total: int, edges: FloatArray, scale: _Scale) -> float:
    """The density of the eigenvalues outside atoms, of ``total`` in all; return the height of the highest bar."""
    heights = np.histogram(rest, edges)[0] / total / scale.widths(edges)
    ax.stairs(heights, edges / scale.unit, fill=True, label="eigenvalues, measured", **BARS)
    return float(heights.max())


def _draw_law(ax: Any, law: FreeLaw, edges: FloatArray, scale: _Scale) -> float:
    """The density in each band, or the mass in each bar if bands are too narrow to be seen; return the latter's top."""
    bands = law.support
    if len(bands) == 0:
        return 0.0
    bars = edges.astype(np.float64)
    heights = np.diff(law.cdf(bars) - law.atoms.below(bars)) / scale.widths(bars)
    if np.median(np.diff(scale.place(bands))) < np.diff(scale.place(edges))[0]:
        ax.stairs(heights, edges / scale.unit, label="law, theory", **THEORY_OUTLINE)
        return float(heights.max())
    x, _ = law.nodes(_CURVE_POINTS)
    y = law.density(x) * scale.per(x)
    breaks = np.searchsorted(x, bands[1:, 0])
    x, y = np.insert(x, breaks, np.nan), np.insert(y, breaks, np.nan)  # a gap between bands
    ax.plot(x / scale.unit, y, label="law, theory", **THEORY_LINE)
    return float(heights.max())


def _draw_atoms(ax: Any, law: FreeLaw, measured: list[tuple[FloatArray, FloatArray]], scale: _Scale) -> None:
    """Stems of predicted and measured atoms, on an axis of their own."""
    positions = np.concatenate([x for x, _ in measured])
    masses = np.concatenate([mass for _, mass in measured])
    handles, labels = ax.get_legend_handles_labels()
    if len(law.atoms.positions) or len(positions):
        right = ax.twinx()
        for x, mass, label, stem, tip in (
            (positions, masses, "atoms, measured", _STEMS, _TIPS),
            (law.atoms.positions, law.atoms.masses, "atoms, theory", _ATOMS, _ATOM_TIPS),
        ):
            if len(x):
                right.vlines(x / scale.unit, 0, mass, **stem)
                right.plot(x / scale.unit, mass, label=label, **tip)
        right.set_ylim(0, 1)
        right.set_ylabel("mass of atoms")
        right.spines["top"].set_visible(False)
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    legend_below(ax, 4, (handles, labels))


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


def _from_the_curve_on(bulk: SpectralDensity, x: FloatArray) -> FloatArray:
    """As many points, from where the curve has risen above the lower end of its axis, less a margin, to the last."""
    band = bulk.density(x)
    shown = band.value + band.standard_error > band.value.max() / _LEAST
    if not shown.any():
        return x
    points: FloatArray = np.geomspace(max(x[0], x[np.argmax(shown)] / 3), x[-1], len(x))
    return points


def _mark_outliers(ax: Any, outliers: FloatArray) -> None:
    """Stems of one common height, for one eigenvalue has none on this axis."""
    if len(outliers) == 0:
        return
    height = 0.3
    ax.vlines(outliers, 0, height, transform=ax.get_xaxis_transform(), **_STEMS)
    label = "outlier" if len(outliers) == 1 else f"{len(outliers)} outliers"
    ax.plot(outliers, np.full(len(outliers), height), transform=ax.get_xaxis_transform(), label=label, **_TIPS)


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
    ax.axvline(theory.mean, label="mean and maximum, theory", **THEORY_LINE)
    ax.axvline(theory.maximum, **THEORY_LINE)


def _mark_measured(ax: Any, measured: Sequence[FisherStatistics]) -> None:
    """Markers on the upper edge at the measured statistics, averaged over networks."""
    if not measured:
        return

    def mark(fields: Sequence[str], label: str, **style: Any) -> None:
        values = [np.mean([getattr(statistics, field) for statistics in measured]) for field in fields]
        ax.plot(values, [1.0] * len(values), transform=ax.get_xaxis_transform(), label=label, **_TIPS | style)

    mark(("mean", "maximum"), "mean and maximum, measured")
    outliers = measured[0].num_outliers
    if outliers > 1:
        mark(("top_mean",), f"mean of the {outliers} largest, measured", **OPEN)
