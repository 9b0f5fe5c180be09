"""Metrics of mean-subtracted networks."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import devices
from ._executor import Progress
from ._validate import (
    FloatArray,
)
from .gramfile import Work, digest
from .matrixfree import MatrixFreeMetric
from .products import (
    CenteredGradients,
    GradientMap,
)

if TYPE_CHECKING:
    from .network_metric import NetworkMetric

__all__ = ["Centered"]


class Centered(MatrixFreeMetric):
    r"""The metric of a mean-subtracted network; made by :meth:`Fisher.centered`.

    .. math:: G = s \sum_t (J_t - \bar J)^\top S_t S_t^\top (J_t - \bar J), \qquad
        \bar J = \frac{1}{T} \sum_t J_t,

    with the likelihood's seeds :math:`S_t` at the mean-subtracted outputs. The differences are taken of whole matrices:
    entries carry the rounding of the original ones, and what vanishes exactly (the gradient with respect to the biases
    of the output, say) is left as about ``eps`` times those, of either sign. Products with the seeds go through the
    BLAS, whose last bits may follow its own threads. ``dual(out=...)`` computes the matrix in memory before it writes
    it, as a whole.

    Parameters
    ----------
    original : NetworkMetric
        The metric before the subtraction.

    Attributes
    ----------
    original : NetworkMetric
        The metric before the subtraction.
    """

    _smaller_dual = "use fewer samples (or outputs), or float32"

    def __init__(self, original: NetworkMetric) -> None:
        self.original = original
        self.net, self.X, self._executor = original.net, original.X, original._executor

    @property
    def dimension(self) -> int:
        """P, the number of rows of the matrix."""
        return self.original.dimension

    @property
    def num_seeds(self) -> int:
        """R, as of the original."""
        return self.original.num_seeds

    @property
    def num_outliers(self) -> int:
        """How many outliers the original has."""
        return self.original.num_outliers

    @property
    def _scale(self) -> float:
        return self.original._scale

    @property
    def _num_eigenvalues(self) -> int:
        return self.original._num_eigenvalues

    def centered(self) -> Centered:
        """Return this metric: a mean can be subtracted once."""
        return self

    def layer(self, l: int) -> Centered:
        """Return the diagonal block of layer l, mean-subtracted.

        Parameters
        ----------
        l : int
            From 1 to L.

        Returns
        -------
        Centered

        Raises
        ------
        ValueError, TypeError
            If there is no such layer.
        """
        return Centered(self.original.layer(l))

    def output_seeds(self) -> FloatArray:
        """Return S at the mean-subtracted outputs, (R, T, C)."""
        return self._output_seeds

    @property
    def targets(self) -> tuple[Any, ...] | None:
        """The targets of the scores: drawn at the mean-subtracted outputs, or observed; None for the exact kind."""
        return self._scored_targets

    @cached_property
    def _outputs(self) -> FloatArray:
        outputs = self.original._outputs()
        outputs -= outputs.mean(axis=0, dtype=np.float64).astype(outputs.dtype)
        return outputs

    @cached_property
    def _scored_targets(self) -> tuple[Any, ...] | None:
        return self.original._targets_at(self._outputs)

    @cached_property
    def _output_seeds(self) -> FloatArray:
        seeds: FloatArray = devices.read_only(self.original._seeds(self._outputs, self._scored_targets))
        return seeds

    @cached_property
    def _unit_seeds(self) -> FloatArray:
        return self.original._unit_seeds()

    @property
    def _has_unit_seeds(self) -> bool:
        """Whether the original's dual already is the products of the outputs' gradients."""
        return bool(np.array_equal(self._output_seeds, self._unit_seeds))

    @cached_property
    def _gradients(self) -> GradientMap:
        return CenteredGradients(self.original._gradient_map(True, {}), self._output_seeds)

    def _subsample(self, samples: npt.NDArray[np.intp]) -> Centered:
        return Centered(self.original._subsample(samples))

    def _seed_products(self, c: FloatArray) -> FloatArray:
        products: FloatArray = np.einsum("rtc,kc->krt", self._output_seeds, c)
        return products

    @property
    def _operations(self) -> dict[str, float]:
        return self.original._operations

    @property
    def _product_bytes(self) -> int:
        return self.original._product_bytes

    @property
    def _gram_bytes(self) -> int:
        size = self.net.num_outputs * self.num_samples
        per_sample = self.original._bytes_per_sample(self.net.num_outputs)
        return 3 * size**2 * self.dtype.itemsize + per_sample * self.num_samples

    def _gram(self, tile: int | None, executor: Executor | None, progress: Progress) -> FloatArray:
        kernel = self._output_kernel(tile, executor, progress)
        if not self._has_unit_seeds:
            columns = devices.contiguous(_times_seeds(self._output_seeds, kernel).T)
            kernel = _times_seeds(self._output_seeds, columns)
        _symmetrize(kernel)
        return kernel

    def _identity(self) -> dict[str, Any]:
        targets = None if self.targets is None else digest(self.targets)
        return self.original._identity() | {"class": f"{type(self.original).__name__}.centered", "targets": targets}

    def _dual_in_file(
        self, path: Path, tile: int | None, executor: Executor | None, progress: Progress, resume: bool
    ) -> FloatArray:
        return super()._dual_in_file(path, self.num_samples, executor, progress, resume)

    def _file_tile(self, executor: Executor | None) -> int:
        return self.num_samples

    def _file_work(self, tile: int, executor: Executor | None) -> Work:
        # the means run over all samples: one tile, from memory
        return lambda pairs: ((pair, devices.on_host(self.dual(executor=executor))) for pair in pairs)

    def _output_kernel(self, tile: int | None, executor: Executor | None, progress: Progress) -> FloatArray:
        """The products of all outputs' gradients less their means, (C T, C T)."""
        C, T = self.net.num_outputs, self.num_samples
        kernel: FloatArray
        if self._has_unit_seeds:
            dual = self.original.dual(tile=tile, executor=executor, progress=progress)
            kernel = devices.as_like(dual, self.X).copy()  # that of a file is on the host
        else:
            kernel = self.original._gram(tile, executor, progress, self._unit_seeds)
        for rows in kernel.reshape(C, T, C, T):
            _center(rows)
        return kernel

    @cached_property
    def _mean_gradients(self) -> FloatArray:
        return self.original._summed_gradients(self._unit_seeds)

    def _diagonal(self, progress: Progress = None) -> FloatArray:
        # sum_r (S_r . (J_t - mean))^2 multiplied out, with Q_t = S_t S_t^T; a mean over samples of each term
        seeds, mean = self._output_seeds, self._mean_gradients
        information = np.einsum("rtk,rtq->ktq", seeds, seeds)
        total: FloatArray = self.original._diagonal(progress, seeds)
        factor = self._scale * self.num_samples
        cross = self.original._summed_gradients(information)
        total -= 2 * factor * np.einsum("kp,kp->p", mean, cross)
        total += factor * np.einsum("kp,kq,qp->p", mean, information.mean(axis=1), mean, optimize=True)
        return total

    def _jacobians(self) -> Iterator[FloatArray]:
        begin = 0
        step = (self.num_seeds + self.net.num_outputs) * self.dimension * self.dtype.itemsize
        for factors in self.original._batches(step, self._unit_seeds):
            gradients = factors.jacobian() - self._mean_gradients
            seeds = self._output_seeds[:, begin : begin + len(gradients)]
            yield np.matmul(seeds.transpose(1, 0, 2), gradients)
            begin += len(gradients)

    def __repr__(self) -> str:
        return f"{self.original!r}.centered()"


def _center(block: FloatArray) -> None:
    """Subtract, in place, row and column means over the samples of a (T, C, T) row of blocks."""
    block -= block.mean(axis=0, keepdims=True, dtype=np.float64).astype(block.dtype)
    block -= block.mean(axis=2, keepdims=True, dtype=np.float64).astype(block.dtype)


def _symmetrize(matrix: FloatArray, step: int = 256) -> None:
    """Make a nearly symmetric matrix symmetric to the last bit, in place and without a second one."""
    for begin in range(0, len(matrix), step):
        rows, columns = matrix[begin : begin + step, begin:], matrix[begin:, begin : begin + step]
        mean = 0.5 * (rows + columns.T)
        rows[:], columns[:] = mean, mean.T


def _times_seeds(seeds: FloatArray, matrix: FloatArray) -> FloatArray:
    """``S^T matrix`` for the block-diagonal S of seeds (R, T, C): rows (C T) to (R T), both output-major."""
    num_seeds, samples, num_outputs = seeds.shape
    S = devices.contiguous(seeds.transpose(1, 0, 2))  # (T, R, C)
    products: FloatArray = np.matmul(S, matrix.reshape(num_outputs, samples, -1).transpose(1, 0, 2))
    return products.transpose(1, 0, 2).reshape(num_seeds * samples, -1)
