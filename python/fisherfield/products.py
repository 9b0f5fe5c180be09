r"""Products with a metric and with its dual, batch by batch, within a budget of memory.

With J the (R T, P) matrix of all gradients, :math:`G = s J^\top J` and :math:`G^* = s J J^\top`. Nothing larger than a
vector is formed; of every batch of samples one keeps what products need, as many batches as the budget holds, and makes
the others anew each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from . import devices
from ._validate import FloatArray, as_float_array, same_device
from .factors import FactoredJacobian
from .likelihoods import Likelihood
from .linearized import LinearizedNetwork

__all__ = [
    "BatchedGradients",
    "CenteredGradients",
    "ExplicitSeeds",
    "FactoredBatch",
    "GradientMap",
    "LikelihoodSeeds",
    "SweptBatch",
    "SymmetricOperator",
    "UnitSeeds",
    "symmetric_operator",
]

Range = tuple[int, int]


class GradientMap(ABC):
    """J as a linear map; vectors are rows."""

    @abstractmethod
    def times(self, V: FloatArray) -> FloatArray:
        """Return J V: (k, P) to (k, R, T)."""

    @abstractmethod
    def transposed_times(self, U: FloatArray) -> FloatArray:
        """Return J^T U: (k, R, T) to (k, P)."""

    def gram_times(self, V: FloatArray) -> FloatArray:
        """Return J^T J V: (k, P) to (k, P)."""
        return self.transposed_times(self.times(V))


class Batch(Protocol):
    """The gradients of some samples."""

    def times(self, v: FloatArray) -> FloatArray:
        """Return the products of every gradient with v (P,), shape (R, t)."""

    def transposed_times(self, u: FloatArray) -> FloatArray:
        """Return the sum of the gradients weighted by u (R, t), shape (P,)."""


class FactoredBatch:
    r"""Gradients as factors: :math:`4 t \sum_l M_l M_{l-1}` operations a product, and every seed read twice."""

    def __init__(self, factors: FactoredJacobian, storage: np.dtype[Any], executor: Any) -> None:
        self._dtype, self._executor = factors.dtype, executor
        self._factors = factors.astype(storage)

    def times(self, v: FloatArray) -> FloatArray:
        """Return J v."""
        return self._factors.astype(self._dtype).times(v, self._executor)

    def transposed_times(self, u: FloatArray) -> FloatArray:
        """Return J^T u."""
        return self._factors.astype(self._dtype).transposed_times(u, self._executor)


class SeedMap(Protocol):
    """The seeds of some samples as a linear map into output space."""

    def times(self, u: FloatArray) -> FloatArray:
        """Return S u: (R, t) to (t, C)."""

    def transposed_times(self, y: FloatArray) -> FloatArray:
        """Return S^T y: (t, C) to (R, t)."""


class UnitSeeds:
    """The unit vectors of output space."""

    def times(self, u: FloatArray) -> FloatArray:
        """Return S u."""
        seen: FloatArray = devices.contiguous(u.T)
        return seen

    def transposed_times(self, y: FloatArray) -> FloatArray:
        """Return S^T y."""
        seen: FloatArray = devices.contiguous(y.T)
        return seen


@dataclass(frozen=True)
class ExplicitSeeds:
    """Seeds (R, t, C) that are held."""

    seeds: FloatArray

    def times(self, u: FloatArray) -> FloatArray:
        """Return S u."""
        moved: FloatArray = np.einsum("rtk,rt->tk", self.seeds, u)
        return moved

    def transposed_times(self, y: FloatArray) -> FloatArray:
        """Return S^T y."""
        moved: FloatArray = np.einsum("rtk,tk->rt", self.seeds, y)
        return moved


@dataclass(frozen=True)
class LikelihoodSeeds:
    """Seeds of the exact kind that are not held: for C outputs they would be C^2 numbers a sample."""

    likelihood: Likelihood
    outputs: FloatArray

    def times(self, u: FloatArray) -> FloatArray:
        """Return S u."""
        return self.likelihood.seeds_times(self.outputs, u)

    def transposed_times(self, y: FloatArray) -> FloatArray:
        """Return S^T y."""
        return self.likelihood.seeds_transposed_times(self.outputs, y)


@dataclass(frozen=True)
class SweptBatch:
    """Gradients as sweeps through the linearised network, with the seeds in output space."""

    network: LinearizedNetwork
    seeds: SeedMap

    def times(self, v: FloatArray) -> FloatArray:
        """Return J v."""
        return self.seeds.transposed_times(self.network.times(v))

    def transposed_times(self, u: FloatArray) -> FloatArray:
        """Return J^T u."""
        return self.network.transposed_times(self.seeds.times(u))


@dataclass(frozen=True)
class BatchedGradients(GradientMap):
    """J, batch by batch; the first ``num_kept`` batches are held between products.

    No bit of a result depends on how many are held.

    Attributes
    ----------
    ranges : sequence of (begin, end)
        Samples of each batch.
    make : callable
        From begin and end, a batch.
    kept : dict
        Batches that are held, by range; it outlives this object.
    num_kept, num_seeds, dimension : int
        How many are held at most, R, P.
    """

    ranges: Sequence[Range]
    make: Callable[[int, int], Batch]
    kept: dict[Range, Batch]
    num_kept: int
    num_seeds: int
    dimension: int

    def times(self, V: FloatArray) -> FloatArray:
        """Return J V."""
        out = np.empty((len(V), self.num_seeds, self.ranges[-1][1]), V.dtype, like=V)
        for (begin, end), batch in self._batches():
            for j, v in enumerate(V):
                out[j, :, begin:end] = batch.times(v)
        return out

    def transposed_times(self, U: FloatArray) -> FloatArray:
        """Return J^T U."""
        out = np.zeros((len(U), self.dimension), U.dtype, like=U)
        for (begin, end), batch in self._batches():
            for j, u in enumerate(U):
                out[j] += batch.transposed_times(devices.contiguous(u[:, begin:end]))
        return out

    def gram_times(self, V: FloatArray) -> FloatArray:
        """Return J^T J V."""
        out = np.zeros_like(V)
        for _, batch in self._batches():
            for j, v in enumerate(V):
                out[j] += batch.transposed_times(batch.times(v))
        return out

    def _batches(self) -> Iterator[tuple[Range, Batch]]:
        for index, samples in enumerate(self.ranges):
            batch = self.kept.get(samples)
            if batch is None:
                batch = self.make(*samples)
            if index < self.num_kept:
                self.kept[samples] = batch
            yield samples, batch


class CenteredGradients(GradientMap):
    """J of a mean-subtracted network: outputs' gradients less their means, times the seeds (R, T, C)."""

    def __init__(self, outputs: GradientMap, seeds: FloatArray) -> None:
        self._outputs, self._seeds = outputs, seeds

    def times(self, V: FloatArray) -> FloatArray:
        """Return J V."""
        moved = _center(self._outputs.times(V))
        products: FloatArray = np.einsum("rtk,nkt->nrt", self._seeds, moved)
        return products

    def transposed_times(self, U: FloatArray) -> FloatArray:
        """Return J^T U."""
        return self._outputs.transposed_times(_center(np.einsum("rtk,nrt->nkt", self._seeds, U)))


def _center(array: FloatArray) -> FloatArray:
    """Subtract means over samples, the last axis."""
    array -= array.mean(axis=-1, keepdims=True, dtype=np.float64).astype(array.dtype)
    return array


class SymmetricOperator(LinearOperator):  # type: ignore[misc]
    """A symmetric matrix known through its products with blocks of vectors.

    A SciPy LinearOperator: ``operator @ V`` takes (n,) or (n, k), in the dtype of the operator.
    """

    def __init__(self, size: int, dtype: npt.DTypeLike, times: Callable[[FloatArray], FloatArray]) -> None:
        super().__init__(np.dtype(dtype), (size, size))
        self._times = times

    def _matmat(self, V: Any) -> FloatArray:
        return _block_product(self._times, V, self.shape[0], self.dtype)

    def _matvec(self, v: Any) -> FloatArray:
        column: FloatArray = self._matmat(np.reshape(v, (-1, 1)))
        return column[:, 0]

    _rmatmat, _rmatvec = _matmat, _matvec

    def _adjoint(self) -> SymmetricOperator:
        return self

    _transpose = _adjoint


def symmetric_operator(size: int, times: Callable[[FloatArray], FloatArray], like: FloatArray) -> Any:
    """Return a symmetric matrix, known through its products with rows, as an operator of SciPy, or of CuPy on a GPU.

    Parameters
    ----------
    size : int
        n.
    times : callable
        Products with rows, (k, n) to (k, n).
    like : array
        In the precision and on the device of the vectors.
    """
    if not devices.is_cuda(like):
        return SymmetricOperator(size, like.dtype, times)
    from cupyx.scipy.sparse.linalg import LinearOperator as OperatorOnGpu

    def matmat(V: Any) -> FloatArray:
        devices.require_current(like, "the operator")
        same_device(("the operator", like), ("V", V))
        return _block_product(times, V, size, like.dtype)

    def matvec(v: Any) -> FloatArray:
        return matmat(v.reshape(-1, 1))[:, 0]

    return OperatorOnGpu((size, size), matvec, rmatvec=matvec, matmat=matmat, rmatmat=matmat, dtype=like.dtype)


def _block_product(times: Callable[[FloatArray], FloatArray], V: Any, size: int, dtype: np.dtype[Any]) -> FloatArray:
    """The product with columns (n, k), checked, through that with rows."""
    block = as_float_array(V, "V", ndim=2, shape=(size, None))
    if block.dtype != dtype:
        raise TypeError(f"V: expected {dtype} like the operator, got {block.dtype}; convert it with .astype")
    columns: FloatArray = devices.contiguous(times(devices.contiguous(block.T)).T)
    return columns
