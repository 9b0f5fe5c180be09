r"""The factored Jacobian, the waist between what makes gradients and what asks questions of them.

For a dense layer :math:`u = W h + b` the gradient of seed r at sample t is the outer product
:math:`B[r, t] \otimes A[t]`, so that a layer is kept as two thin arrays. Everything asked of the Fisher information
matrix is a function of the factors, and every source of factors needs to know nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from . import _executor
from ._native import kernels
from ._validate import FloatArray
from .likelihoods import Likelihood
from .network import Network

__all__ = ["FactoredJacobian", "LayerFactors", "factorize"]


@dataclass(frozen=True)
class LayerFactors:
    """The gradients of one dense layer.

    Attributes
    ----------
    A : array, shape (T, M_in)
        Inputs of the layer.
    B : array, shape (R, T, M_out)
        Backpropagated seeds: derivatives with respect to the layer's pre-activations.
    bias : bool
        Whether the layer has biases: one more input that is constantly 1.
    """

    A: FloatArray
    B: FloatArray
    bias: bool

    @property
    def num_parameters(self) -> int:
        """Weights and biases of the layer."""
        return self.B.shape[2] * (self.A.shape[1] + self.bias)


@dataclass(frozen=True)
class FactoredJacobian:
    """Factors of all layers, first layer first, for the same seeds and samples."""

    layers: tuple[LayerFactors, ...]

    @property
    def num_seeds(self) -> int:
        """R."""
        return int(self.layers[0].B.shape[0])

    @property
    def num_samples(self) -> int:
        """T."""
        return int(self.layers[0].B.shape[1])

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Precision of the factors."""
        return self.layers[0].A.dtype

    @property
    def num_parameters(self) -> int:
        """P."""
        return sum(layer.num_parameters for layer in self.layers)

    def samples(self, begin: int, end: int) -> FactoredJacobian:
        """Return the factors of the samples [begin, end)."""
        return FactoredJacobian(
            tuple(
                LayerFactors(layer.A[begin:end], np.ascontiguousarray(layer.B[:, begin:end]), layer.bias)
                for layer in self.layers
            )
        )

    def squared_norms(self) -> FloatArray:
        """Squared norm of every gradient, shape (R, T), float64."""
        total = np.zeros((self.num_seeds, self.num_samples))
        for layer in self.layers:
            inputs = np.square(layer.A, dtype=np.float64).sum(axis=1) + layer.bias
            total += np.square(layer.B, dtype=np.float64).sum(axis=2) * inputs
        return total

    def jacobian(self) -> FloatArray:
        """Write out the Jacobian, shape (T, R, P), parameters layer by layer, W (row-major) then b."""
        out = np.empty((self.num_samples, self.num_seeds, self.num_parameters), self.dtype)
        offset = 0
        for layer in self.layers:
            kernels.layer_jacobian(layer.A, layer.B, layer.bias, out, offset)
            offset += layer.num_parameters
        return out

    def diagonal(self, scale: float, executor: Executor | None = None) -> FloatArray:
        """Return ``scale * sum_t sum_r (gradient)^2`` for every parameter, shape (P,)."""
        out = np.empty(self.num_parameters, self.dtype)
        offset = 0
        for layer in self.layers:
            part = out[offset : offset + layer.num_parameters]
            blocks = _executor.column_blocks(layer.B.shape[2], self.dtype.itemsize, executor)
            _executor.run(
                lambda block, layer=layer, part=part: kernels.layer_diagonal(
                    layer.A, layer.B, layer.bias, scale, part, *block
                ),
                blocks,
                executor,
            )
            offset += layer.num_parameters
        return out

    def __iter__(self) -> Iterator[LayerFactors]:
        return iter(self.layers)


def bytes_per_sample(net: Network, likelihood: Likelihood) -> int:
    """Memory that the factors of one sample take, the derivatives of the activations included."""
    widths = net.widths
    seeds = likelihood.num_seeds(net.num_outputs)
    numbers = sum(widths[:-1]) + sum(widths[1:-1]) + seeds * sum(widths[1:])
    return numbers * net.dtype.itemsize


def factorize(
    net: Network, X: FloatArray, likelihood: Likelihood, executor: Executor | None = None
) -> FactoredJacobian:
    """Run the network forward and the likelihood's seeds backward (Karakida, Akaho, Amari 2019, Eqs. 5-7).

    Raises
    ------
    ValueError
        If an output is not finite.
    """
    A, slopes = [X], []
    for l in range(net.depth - 1):
        h, slope = net.layer_forward(l, A[-1], executor=executor)
        A.append(h)
        slopes.append(slope)
    outputs = net.affine(net.depth - 1, A[-1], executor=executor)
    if not np.isfinite(outputs).all():
        t = int(np.argwhere(~np.isfinite(outputs))[0, 0])
        raise ValueError(
            f"the network's output at sample {t} is not finite: the pre-activations overflow {net.dtype}; "
            "scale the inputs or weights down" + (", or use float64" if net.dtype == np.float32 else "")
        )
    B = [likelihood.seeds(outputs)]
    for l in range(net.depth - 1, 0, -1):
        W, slope, upper = net.weights[l], slopes.pop(), B[0]
        lower = np.empty((upper.shape[0], len(X), W.shape[1]), net.dtype)
        blocks = _executor.column_blocks(W.shape[1], net.dtype.itemsize, executor)
        _executor.run(
            lambda block, W=W, slope=slope, upper=upper, lower=lower: kernels.layer_backward(
                upper, W, slope, lower, *block
            ),
            blocks,
            executor,
        )
        B.insert(0, lower)
    return FactoredJacobian(tuple(LayerFactors(a, b, net.has_biases) for a, b in zip(A, B, strict=True)))
