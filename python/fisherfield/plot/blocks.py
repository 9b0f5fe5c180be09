"""Pictures of the diagonal blocks of the Fisher information matrix, layer by layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .. import devices
from .._validate import FloatArray, as_float_array, choice
from .files import finish, legend_below, new_axes, save
from .style import BARS, THEORY_LINE, THEORY_MARKS, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LAYER_QUANTITIES", "layers", "save_layers"]

LAYER_QUANTITIES = {
    "mean": r"mean diagonal entry $\mathrm{tr}\, F_l / P_l$",
    "trace": r"trace $\mathrm{tr}\, F_l$",
    "maximum": r"largest eigenvalue $\lambda_{\max}(F_l)$",
}
"""What :func:`layers` draws, with the label of the axis."""


def save_layers(path: str | os.PathLike[str], measured: npt.ArrayLike, **options: object) -> Path:
    """Write the picture of :func:`layers`, with the same options, to a file; needs no display.

    Parameters
    ----------
    path : str or path
        Its ending is the format, one that matplotlib knows.
    measured
        As of :func:`layers`.
    **options
        Those of :func:`layers` but ``ax``.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError, TypeError
        As of :func:`layers`, and for another ending.
    FileNotFoundError
        If the folder does not exist.
    ImportError
        Without matplotlib.
    """
    return save(path, lambda ax: layers(measured, ax=ax, **options))  # type: ignore[arg-type]


@styled
def layers(
    measured: npt.ArrayLike,
    *,
    theory: npt.ArrayLike | None = None,
    quantity: str = "mean",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a number of every layer's diagonal block: bars as measured, a dashed line as predicted.

    The axis is logarithmic where the largest number is more than ten times the smallest.

    Parameters
    ----------
    measured : array, shape (L,)
        One number per layer, >= 0.
    theory : array, shape (L,), optional
        Predicted ones.
    quantity : {"mean", "trace", "maximum"}
        What they are: the mean of the diagonal of the block, which is also the mean of its eigenvalues, its trace, or
        its largest eigenvalue.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        For numbers that are negative or not finite, other shapes, and names that are not known.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> from fisherfield import plot
    >>> arch = ff.MLP((50, 80, 80, 3), "tanh", weight_var=3.0, bias_var=0.64)
    >>> X = np.random.default_rng(0).standard_normal((40, 50))
    >>> fim, mf = ff.Fisher(arch.sample(seed=0), X), ff.mean_field(arch, X)
    >>> measured = [fim.layer(l).statistics().maximum for l in (1, 2, 3)]
    >>> theory = [mf.layer(l).refined_statistics.maximum for l in (1, 2, 3)]
    >>> ax = plot.layers(measured, theory=theory, quantity="maximum")  # doctest: +SKIP
    """
    choice(quantity, "quantity", tuple(LAYER_QUANTITIES))
    values = _per_layer(devices.on_host(measured), "measured")
    predicted = None if theory is None else _per_layer(theory, "theory", len(values))
    ax = new_axes() if ax is None else ax
    x = np.arange(1, len(values) + 1)
    ax.bar(x, values, width=0.6, label="measured", **BARS)
    if predicted is not None:
        ax.plot(x, predicted, label="theory", **THEORY_MARKS | {"linestyle": THEORY_LINE["linestyle"]})
    shown = values if predicted is None else np.append(values, predicted)
    positive = shown[shown > 0]
    if len(positive) and positive.max() > 10 * positive.min():
        ax.set_yscale("log")
        ax.set_ylim(positive.min() / 3, 2 * positive.max())
    ax.set_xticks(x)
    ax.set_xlim(0.3, len(x) + 0.7)
    ax.set_xlabel("layer $l$")
    ax.set_ylabel(LAYER_QUANTITIES[quantity])
    finish(ax, title)
    if predicted is not None:
        legend_below(ax, 2)
    return ax


def _per_layer(values: npt.ArrayLike, name: str, count: int | None = None) -> FloatArray:
    found = as_float_array(values, name, ndim=1, shape=(count,))
    if (found < 0).any():
        raise ValueError(f"{name}: expected numbers >= 0, got {found.min():g}")
    return found
