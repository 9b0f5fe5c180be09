"""Mean-field theory of pairs of samples on a CUDA GPU: overlaps, the recursion over depth, and the dual they predict.

What belongs to single samples, order parameters and the coefficients of Mehler's series, is made on the processor by
the compiled ``DepthRecursion``. The GPU does the pairs, one thread a pair, tile by tile of the (T, T) matrix. The few
pairs so close to full correlation that the series has too few terms are integrated on the processor, as all others of
their kind are there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .._executor import run
from . import as_like, on_host
from .cuda import Layer, kernel_tiles, over_entries

__all__ = ["PairRecursion", "mean_squares"]

Array = npt.NDArray[np.float64]
Range = tuple[int, int]

_TILE_BYTES = 2**28  # of the arrays of one tile; no result depends on it beyond rounding of sums over pairs
_ROWS = 128  # samples a block on the diagonal, whose squares are wanted
_PAIRS = 16  # a task of the processor: pairs of a double integral


def mean_squares(x: Array) -> Array:
    """Return ``x_s . x_s / M_0`` of X (T, M_0), on the host: the bits that the overlap of a sample and its copy has."""
    found = np.empty(len(x), like=x)
    for begin in range(0, len(x), _ROWS):
        block = (begin, min(begin + _ROWS, len(x)))
        square = np.empty((block[1] - begin,) * 2, like=x)
        _write_overlaps(x, block, block, square)
        found[begin : block[1]] = square.diagonal()
    result: Array = on_host(found)
    return result


def _write_overlaps(x: Array, rows: Range, columns: Range, out: Array) -> None:
    """``out = X_rows X_columns^T / M_0``; an entry has the same bits whatever the ranges."""

    def side(begin: int, end: int) -> list[Layer]:  # seeds of one: the tangent kernel is the product of the inputs
        return [(x[begin:end], np.ones_like(x, shape=(1, end - begin, 1)), False)]

    kernel_tiles(side(*rows), side(*columns), 1 / x.shape[1], out, [((0, out.shape[0]), (0, out.shape[1]))])


@dataclass(frozen=True, eq=False)
class _Layer:
    """One hidden layer as its kernel takes it: numbers and tables of samples, on the GPU.

    ``left`` tells whether the kernel leaves pairs to the processor.
    """

    kernel: str
    propagation: tuple[Any, ...]
    tables: tuple[Any, ...]
    leaves: bool


@dataclass(frozen=True, eq=False)
class PairRecursion:
    """The pairs of the samples X (T, M_0).

    Attributes
    ----------
    recursion : DepthRecursion
        Of the single samples, from their :func:`mean_squares`.
    arch : MLP
        The architecture.
    x : (T, M_0) array
        On a GPU, in float64.
    tol : float
        Of Mehler's series.
    """

    recursion: Any
    arch: Any
    x: Array
    tol: float

    def dual(
        self, width: Sequence[float], bias: Sequence[float], executor: Executor | None = None
    ) -> tuple[Array, Array, float, int]:
        r"""Sum :math:`\tilde q^l_{st} (w_l \hat q^{l-1}_{st} + v_l)` over layers.

        Returns
        -------
        dual : (T, T) array
            On the GPU.
        sums : (3, L) ndarray
            q, qhat and qtilde per layer, summed over the pairs.
        error, points : float, int
            What the double integrals reached.
        """
        T, depth, arch = len(self.x), self.arch.depth, self.arch
        _, qhat, qtilde = self.recursion.single
        layers = as_like(np.array([arch.weight_vars, arch.skips, width, bias], np.float64), self.x)
        diagonal = as_like((qtilde * (_column(width) * qhat + _column(bias))).sum(axis=0), self.x)
        out = np.empty((T, T), like=self.x)
        qhat_sums, qtilde_sums = (np.zeros(count, like=self.x) for count in (depth, depth - 1))
        accuracy = [(0.0, 0)]
        side = max(1, math.isqrt(_TILE_BYTES // (16 * depth)))
        for row in range(0, T, side):
            rows = (row, min(row + side, T))
            for column in range(0, row + 1, side):
                columns = (column, min(column + side, T))
                forward, first = self._forward(rows, columns, accuracy, executor)
                shape = first.shape[1:]
                tile = _tile(rows, columns)
                over_entries("pair_dual", out, shape, *tile, depth, layers, forward, first, diagonal, out, T)
                qhat_sums += forward.sum(axis=2).sum(axis=1)
                qtilde_sums += first.sum(axis=2).sum(axis=1)  # of the first L - 1 layers, which have replaced first
        errors, points = zip(*accuracy, strict=True)
        return out, self._sums(on_host(qhat_sums), on_host(qtilde_sums)), float(np.max(errors)), max(points)

    def _forward(
        self, rows: Range, columns: Range, accuracy: list[tuple[float, int]], executor: Executor | None
    ) -> tuple[Array, Array]:
        """Return qhat (L tiles) and E phi'phi' (L - 1 tiles) of the pairs of a tile."""
        depth, shape = self.arch.depth, (rows[1] - rows[0], columns[1] - columns[0])
        qhat, first = np.empty((depth, *shape), like=self.x), np.empty((depth - 1, *shape), like=self.x)
        _write_overlaps(self.x, rows, columns, qhat[0])
        if rows == columns:
            qhat[0] = np.tril(qhat[0], -1)
        q = np.empty(shape, like=self.x)
        for l, layer in enumerate(self._layers):
            left = np.zeros(shape, np.uint8, like=self.x)
            moments = (q, qhat[l + 1], first[l])
            arguments = (*layer.propagation, *layer.tables, *(left,) * layer.leaves, qhat[l], *moments)
            over_entries(layer.kernel, q, shape, *_tile(rows, columns), *arguments)
            if layer.leaves:
                accuracy += self._integrate(l, left, rows[0], columns[0], *moments, executor)
        return qhat, first

    def _integrate(
        self,
        l: int,
        left: npt.NDArray[np.uint8],
        row: int,
        column: int,
        q: Array,
        value: Array,
        first: Array,
        executor: Executor | None,
    ) -> list[tuple[float, int]]:
        """Write the moments that the kernel has left, from double integrals on the processor."""
        where = np.flatnonzero(left)
        if not where.size:
            return []
        at = on_host(where)
        s, t = (start + index for start, index in zip((row, column), np.divmod(at, left.shape[1]), strict=True))
        covariances = on_host(q.reshape(-1)[where])
        values, firsts = np.empty(len(at)), np.empty(len(at))
        accuracy: list[tuple[float, int]] = []

        def integrate(begin: int) -> None:
            block = (begin, min(begin + _PAIRS, len(at)))
            accuracy.append(self.recursion.layer_pairs(l, s, t, covariances, values, firsts, *block))

        run(integrate, range(0, len(at), _PAIRS), executor)
        value.reshape(-1)[where] = as_like(values, q)
        first.reshape(-1)[where] = as_like(firsts, q)
        return accuracy

    @cached_property
    def _layers(self) -> list[_Layer]:
        return [self._layer(l) for l in range(self.arch.depth - 1)]

    def _layer(self, l: int) -> _Layer:
        variance = self.recursion.single[0][l]
        samples = tuple(as_like(values, self.x) for values in (variance, np.sqrt(variance)))
        arch = self.arch
        propagation = (np.float64(arch.weight_vars[l]), np.float64(arch.bias_vars[l]), np.int32(arch.skips[l]))
        series = self.recursion.series(l)
        if series is None:
            phi = arch.activations[l].native
            form = (np.int32(phi.kind), np.float64(phi.parameter))
            return _Layer("pair_closed", propagation, (*samples, *form), False)
        *of_sample, even, odd, tails = series
        parts: list[Any] = [*samples, *(as_like(values, self.x) for values in of_sample)]
        for table, order in ((even, 0), (odd, 1)):  # a product of two has the factor 1 / (n + 1)
            scaled = table / np.sqrt(2 * _column(range(len(table))) + order + 1)
            parts += [as_like(scaled, self.x), len(table)]
        parts += [as_like(tails, self.x), *tails.shape, np.float64(self.tol)]
        return _Layer("pair_series", propagation, tuple(parts), True)

    def _sums(self, qhat: Array, qtilde: Array) -> Array:
        """Sums over pairs of q, qhat, qtilde per layer: q is linear in qhat, and qtilde of the last layer is 1."""
        T, arch = len(self.x), self.arch
        pairs = T * (T - 1) / 2
        q = np.array(arch.weight_vars) * qhat + np.array(arch.bias_vars) * pairs
        for l in range(1, len(q)):
            q[l] += arch.skips[l] * q[l - 1]
        return np.stack([q, qhat, np.append(qtilde, pairs)])


def _tile(rows: Range, columns: Range) -> tuple[int, int, int, int]:
    """As the kernels take it: first row and number of rows, the same of columns."""
    return (rows[0], rows[1] - rows[0], columns[0], columns[1] - columns[0])


def _column(numbers: Sequence[float]) -> Array:
    """Numbers of layers, or of orders, as a column beside tables with a row for each."""
    return np.array(numbers, np.float64)[:, None]
