"""The dual Fisher information matrix, computed tile by tile from the factored Jacobian."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np

from . import devices
from ._executor import Progress
from ._validate import FloatArray, positive_int
from .factors import FactoredJacobian, LayerFactors

__all__ = ["gram_matrix", "kernel_matrix", "symmetric_product", "tiles"]

Range = tuple[int, int]


def tiles(num_samples: int, tile: int) -> list[tuple[Range, Range]]:
    """Pairs of sample ranges (rows, columns) on and above the diagonal, the larger pieces of work first."""
    ranges = sample_ranges(num_samples, tile)
    pairs = [(rows, columns) for i, rows in enumerate(ranges) for columns in ranges[i:]]
    return sorted(pairs, key=lambda pair: pair[0] == pair[1])


def sample_ranges(num_samples: int, tile: int) -> list[Range]:
    """Cut the samples into ranges (begin, end); a rest of less than half a tile joins the range before it."""
    begins = range(0, max(num_samples - (tile - 1) // 2, 1), tile)
    return [(begin, begin + tile) for begin in begins[:-1]] + [(begins[-1], num_samples)]


def default_tile(factors: FactoredJacobian, executor: Executor | None) -> int:
    """Samples a tile, after what suits the device; no result depends on it."""
    layers = factors.layers
    return int(devices.of(layers[0].A).default_tile(_native_layers(factors), executor))


def gram_matrix(
    factors: FactoredJacobian,
    scale: float,
    *,
    tile: int | None = None,
    executor: Executor | None = None,
    progress: Progress = None,
    precision: str | None = None,
) -> FloatArray:
    """Return ``scale * J J^T``, shape (R*T, R*T), index ``r*T + t``.

    Only one half of the tiles is computed. The bits of the result depend neither on ``tile`` nor on the number of
    threads, except in the two-part precisions of a GPU, :data:`fisherfield.devices.PRECISIONS`.
    """
    size = factors.num_seeds * factors.num_samples
    out = np.empty((size, size), factors.dtype, like=factors.layers[0].A)
    layers = _native_layers(factors)
    step = default_tile(factors, executor) if tile is None else positive_int(tile, "tile")
    devices.of(out).gram_tiles(layers, scale, out, tiles(factors.num_samples, step), executor, progress, precision)
    return out


def kernel_matrix(
    rows: FactoredJacobian,
    columns: FactoredJacobian,
    *,
    scale: float = 1.0,
    tile: int | None = None,
    executor: Executor | None = None,
    progress: Progress = None,
    precision: str | None = None,
) -> FloatArray:
    """Return ``scale * J_rows J_columns^T``, shape (R1*T1, R2*T2), for factors of the same layers.

    The bits of the result depend neither on ``tile`` nor on the number of threads.
    """
    shape = (rows.num_seeds * rows.num_samples, columns.num_seeds * columns.num_samples)
    out = np.empty(shape, rows.dtype, like=rows.layers[0].A)
    of_rows, of_columns = _native_layers(rows), _native_layers(columns)
    steps = [default_tile(factors, executor) if tile is None else tile for factors in (rows, columns)]
    ranges = [sample_ranges(f.num_samples, step) for f, step in zip((rows, columns), steps, strict=True)]
    pairs = [(i, j) for i in ranges[0] for j in ranges[1]]
    devices.of(out).kernel_tiles(of_rows, of_columns, scale, out, pairs, executor, progress, precision)
    return out


def _native_layers(factors: FactoredJacobian) -> list[tuple[FloatArray, FloatArray, bool]]:
    return [(layer.A, layer.B, layer.bias) for layer in factors]


def symmetric_product(rows: FloatArray, scale: float, executor: Executor | None = None) -> FloatArray:
    """Return ``scale * rows rows^T`` through the same tiles: a layer whose only input is the constant 1."""
    layer = LayerFactors(np.empty((len(rows), 0), rows.dtype, like=rows), rows[None], True)
    return gram_matrix(FactoredJacobian((layer,)), scale, executor=executor)
