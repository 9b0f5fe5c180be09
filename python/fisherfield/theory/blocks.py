"""The predicted (T, T) block of the dual as the statistics see it: dense, or with all pairs alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fisherfield import devices, spectrum
from fisherfield._memory import require_memory

__all__ = ["Block", "DenseBlock", "EquicorrelatedBlock", "require_square"]


def require_square(size: int, like: npt.NDArray[np.float64] | None = None) -> None:
    """Raise ``MemoryError`` if a (size, size) float64 array does not fit on the device of ``like``."""
    require_memory(
        8 * size * size,
        f"the predicted dual of {size} samples",
        "use fewer samples, or mean_field(arch, ff.InputStatistics.from_data(X)), which needs no pairs",
        like,
    )


class Block(Protocol):
    """A symmetric (T, T) matrix and what the statistics need of it."""

    @property
    def size(self) -> int:
        """T."""

    @property
    def mean_diagonal(self) -> float:
        """Mean over the samples."""

    @property
    def mean_off_diagonal(self) -> float:
        """Mean over the pairs s != t; NaN where there is none."""

    @property
    def square_sum(self) -> float:
        """Squared Frobenius norm."""

    @property
    def largest_eigenvalue(self) -> float:
        """Largest eigenvalue."""

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """The matrix itself."""

    @property
    def diagonal_entries(self) -> npt.NDArray[np.float64]:
        """The diagonal, (T,)."""

    def product(self, V: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the product with V (T, m)."""

    def squared(self) -> Block:
        """Return the matrix of squared entries."""

    def root_product(self, noise: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return Gaussian vectors whose covariance is the block, from independent unit ones (T, m)."""

    def centered(self) -> Block:
        r"""Return P block P with :math:`P = I - 1 1^\top / T`: row and column means subtracted."""


@dataclass(frozen=True)
class EquicorrelatedBlock:
    """A (T, T) matrix with one value on the diagonal and one off it."""

    diagonal: float
    off_diagonal: float
    size: int

    @property
    def mean_diagonal(self) -> float:
        """Mean over the samples."""
        return self.diagonal

    @property
    def mean_off_diagonal(self) -> float:
        """Mean over the pairs s != t."""
        return self.off_diagonal

    @property
    def square_sum(self) -> float:
        """Squared Frobenius norm."""
        return self.size * (self.diagonal**2 + (self.size - 1) * self.off_diagonal**2)

    @property
    def largest_eigenvalue(self) -> float:
        """Largest eigenvalue."""
        if self.size == 1:
            return self.diagonal
        return max(self.diagonal + (self.size - 1) * self.off_diagonal, self.diagonal - self.off_diagonal)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """The matrix itself."""
        require_square(self.size)
        matrix = np.full((self.size, self.size), self.off_diagonal)
        np.fill_diagonal(matrix, self.diagonal)
        return matrix

    @property
    def diagonal_entries(self) -> npt.NDArray[np.float64]:
        """The diagonal, (T,)."""
        return np.full(self.size, self.diagonal)

    def product(self, V: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the product with V (T, m), without the matrix."""
        result: npt.NDArray[np.float64] = (self.diagonal - self.off_diagonal) * V + self.off_diagonal * V.sum(axis=0)
        return result

    def root_product(self, noise: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return Gaussian vectors whose covariance is the block, from independent unit ones (T, m)."""
        mean = noise.mean(axis=0)
        if self.size == 1:
            return math.sqrt(self.diagonal) * noise
        common = math.sqrt(max(self.diagonal + (self.size - 1) * self.off_diagonal, 0.0)) * mean
        result: npt.NDArray[np.float64] = (
            math.sqrt(max(self.diagonal - self.off_diagonal, 0.0)) * (noise - mean) + common
        )
        return result

    def squared(self) -> EquicorrelatedBlock:
        """Return the matrix of squared entries."""
        return EquicorrelatedBlock(self.diagonal**2, self.off_diagonal**2, self.size)

    def centered(self) -> EquicorrelatedBlock:
        r"""Return P block P with :math:`P = I - 1 1^\top / T`."""
        remaining = self.diagonal - self.off_diagonal if self.size > 1 else 0.0
        return EquicorrelatedBlock(remaining * (1 - 1 / self.size), -remaining / self.size, self.size)


@dataclass(frozen=True, eq=False)
class DenseBlock:
    """A symmetric (T, T) matrix."""

    matrix: npt.NDArray[np.float64]

    @property
    def size(self) -> int:
        """T."""
        return len(self.matrix)

    @property
    def mean_diagonal(self) -> float:
        """Mean over the samples."""
        return float(np.trace(self.matrix)) / self.size

    @property
    def mean_off_diagonal(self) -> float:
        """Mean over the pairs s != t."""
        if self.size == 1:
            return math.nan
        return float(self.matrix.sum() - np.trace(self.matrix)) / (self.size * (self.size - 1))

    @property
    def square_sum(self) -> float:
        """Squared Frobenius norm."""
        return float(np.linalg.norm(self.matrix)) ** 2

    @cached_property
    def largest_eigenvalue(self) -> float:
        """Largest eigenvalue."""
        return float(spectrum.largest_eigenvalues(self.matrix, 1)[0])

    @property
    def diagonal_entries(self) -> npt.NDArray[np.float64]:
        """The diagonal, (T,)."""
        return self.matrix.diagonal()

    def product(self, V: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the product with V (T, m)."""
        return self.matrix @ V

    def root_product(self, noise: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return Gaussian vectors whose covariance is the block, from independent unit ones (T, m)."""
        values, vectors = np.linalg.eigh(self.matrix)
        scale = np.sqrt(np.maximum(values, 0.0))  # rounding leaves a semi-definite matrix slightly negative values
        product: npt.NDArray[np.float64] = vectors @ (scale[:, None] * devices.as_like(noise, scale))
        return product

    def squared(self) -> DenseBlock:
        """Return the matrix of squared entries."""
        return DenseBlock(np.square(self.matrix))

    def centered(self) -> DenseBlock:
        r"""Return P block P with :math:`P = I - 1 1^\top / T`."""
        means = self.matrix.mean(axis=0)
        return DenseBlock(self.matrix - means - means[:, None] + means.mean())
