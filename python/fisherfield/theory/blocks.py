"""The predicted (T, T) block of the dual as the statistics see it: dense, or with all pairs alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fisherfield._memory import require_memory

__all__ = ["Block", "DenseBlock", "EquicorrelatedBlock", "require_square"]


def require_square(size: int) -> None:
    """Raise ``MemoryError`` if a (size, size) float64 array does not fit."""
    require_memory(
        8 * size * size,
        f"the predicted dual of {size} samples",
        "use fewer samples, or mean_field(arch, ff.InputStatistics.from_data(X)), which needs no pairs",
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
        if self.size <= 500:
            return float(np.linalg.eigvalsh(self.matrix)[-1])
        if not self.matrix.diagonal().any():  # the zero matrix, on which ARPACK stops
            return 0.0
        from scipy.sparse.linalg import eigsh

        # random: no structure of the data puts it into a null space, as centred data do with equal entries
        start = np.random.default_rng(0).standard_normal(self.size)
        return float(eigsh(self.matrix, k=1, which="LA", v0=start, return_eigenvectors=False)[0])
