r"""The Fisher information of the output distribution as the theory meets it.

With :math:`Q_t = S_t S_t^\top` at every sample and one output's block K of the predicted tangent kernel, the predicted
dual is :math:`S^\top (I_C \otimes K) S` (Karakida, Akaho, Amari 2021, on softmax outputs). For the unit Gaussian
likelihood it is :math:`I_C \otimes K`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from fisherfield import devices, spectrum
from fisherfield._memory import require_memory

from .blocks import Block

__all__ = ["Betas", "IdentityOutputs", "Outputs", "SampledOutputs"]

Array = npt.NDArray[np.float64]

_DENSE_UP_TO = 400  # size up to which the predicted dual is formed to find its largest eigenvalues


@dataclass(frozen=True)
class Betas:
    r"""What the statistics need of the output Fisher information :math:`Q_t`.

    Karakida, Akaho, Amari 2021, Theorem 3.3, where :math:`Q_t = \mathrm{diag}(g_t) - g_t g_t^\top` is that of softmax
    outputs; the same coefficients serve any likelihood.

    Attributes
    ----------
    beta1 : float
        :math:`\frac{1}{T} \sum_t \mathrm{tr}\, Q_t`; C for the unit Gaussian likelihood,
        :math:`1 - \frac{1}{T} \sum_t |g_t|^2` for the categorical one.
    beta2 : float
        :math:`\frac{1}{T^2} \sum_{s \ne t} \mathrm{tr}\, Q_s Q_t`.
    beta3 : float
        :math:`\frac{1}{T^2} \sum_t \mathrm{tr}\, Q_t^2`.
    """

    beta1: float
    beta2: float
    beta3: float


def float64(values: npt.NDArray[np.floating[Any]]) -> Array:
    """Say that an array is float64, as all of the theory is."""
    return values.astype(np.float64, copy=False)


class Outputs(Protocol):
    """The output Fisher information at T samples, and the spectrum of a predicted dual with it."""

    @property
    def betas(self) -> Betas:
        """Coefficients of the statistics."""

    def trace(self, block: Block) -> float:
        """Trace of the predicted dual."""

    def square_sum(self, block: Block) -> float:
        """Squared Frobenius norm of the predicted dual."""

    def largest_eigenvalues(self, block: Block, k: int) -> Array:
        """The k largest eigenvalues of the predicted dual, or all where there are fewer; descending."""

    def eigenvalues(self, block: Block) -> Array:
        """All R T eigenvalues of the predicted dual, descending."""


@dataclass(frozen=True, eq=False)
class IdentityOutputs:
    """Q = I_C at every sample: the unit Gaussian likelihood.

    Attributes
    ----------
    num_outputs, num_samples : int
    like : array or None
        Where arrays of eigenvalues lie; None: in the memory of the processor.
    """

    num_outputs: int
    num_samples: int
    like: Array | None = None

    @property
    def betas(self) -> Betas:
        """Coefficients of the statistics."""
        C, T = self.num_outputs, self.num_samples
        return Betas(C, C * (T - 1) / T, C / T)

    def trace(self, block: Block) -> float:
        """Trace of I_C x block."""
        return self.num_outputs * block.size * block.mean_diagonal

    def square_sum(self, block: Block) -> float:
        """Squared Frobenius norm of I_C x block."""
        return self.num_outputs * block.square_sum

    def largest_eigenvalues(self, block: Block, k: int) -> Array:
        """The largest eigenvalue, once for every output."""
        top: Array = devices.as_like(np.full(min(k, self.num_outputs), block.largest_eigenvalue), self.like)
        return top

    def eigenvalues(self, block: Block) -> Array:
        """The eigenvalues of the block, C times each."""
        return np.repeat(spectrum.eigenvalues(block.matrix), self.num_outputs)


@dataclass(frozen=True, eq=False)
class SampledOutputs:
    """The output Fisher information from its square roots at given outputs.

    Attributes
    ----------
    seeds : (R, T, C) ndarray
        S.
    """

    seeds: Array

    @cached_property
    def information(self) -> Array:
        """Q, (T, C, C)."""
        _, T, C = self.seeds.shape
        require_memory(
            8 * T * C**2,
            f"the output Fisher information of {T} samples and {C} outputs",
            "use fewer samples",
            self.seeds,
        )
        roots = self.seeds.transpose(1, 2, 0)
        product: Array = np.matmul(roots, roots.transpose(0, 2, 1))
        return product

    @cached_property
    def _flat(self) -> Array:
        return self.information.reshape(len(self.information), -1)

    @property
    def betas(self) -> Betas:
        """Coefficients of the statistics."""
        T = len(self._flat)
        traces = np.einsum("tkk->t", self.information)
        own = float(np.square(self._flat).sum())
        total = float(np.square(self._flat.sum(axis=0)).sum())
        return Betas(float(traces.mean()), (total - own) / T**2, own / T**2)

    def trace(self, block: Block) -> float:
        r""":math:`\sum_t K_{tt}\, \mathrm{tr}\, Q_t`."""
        return float(block.diagonal_entries @ np.einsum("tkk->t", self.information))

    def square_sum(self, block: Block) -> float:
        r""":math:`\sum_{st} K_{st}^2\, \mathrm{tr}\, Q_s Q_t`."""
        return float(np.vdot(self._flat, block.squared().product(self._flat)))

    def largest_eigenvalues(self, block: Block, k: int) -> Array:
        """The k largest eigenvalues; a large dual is only multiplied by vectors."""
        num_seeds, samples, _ = self.seeds.shape
        size = num_seeds * samples
        k = min(k, size)
        if self.trace(block) == 0:  # saturated outputs; on the zero matrix ARPACK stops
            return np.zeros(k, like=self.seeds)
        if size <= max(_DENSE_UP_TO, 4 * k):
            return float64(spectrum.largest_eigenvalues(self._dual(block), k))

        def dual(v: Array) -> Array:
            vector = devices.as_like(v.reshape(num_seeds, samples), self.seeds)
            fields = np.einsum("rtk,rt->tk", self.seeds, vector)
            product: Array = devices.on_host(np.einsum("rtk,tk->rt", self.seeds, block.product(fields)).ravel())
            return product

        # ARPACK's vectors are the host's, also where the matrix lies on a GPU
        operator = LinearOperator((size, size), matvec=dual, dtype=np.float64)
        top: Array = devices.as_like(spectrum.largest_of_operator(operator, k), self.seeds)
        return top

    def eigenvalues(self, block: Block) -> Array:
        """All R T eigenvalues."""
        return float64(spectrum.eigenvalues(self._dual(block)))

    def _dual(self, block: Block) -> Array:
        num_seeds, samples, num_outputs = self.seeds.shape
        size = num_seeds * samples
        require_memory(3 * 8 * size**2, f"the predicted dual of size {size}", "use fewer samples", self.seeds)
        flat = self.seeds.reshape(size, num_outputs)
        dual = (flat @ flat.T).reshape(num_seeds, samples, num_seeds, samples)
        dual *= block.matrix[None, :, None, :]
        return dual.reshape(size, size)
