r"""The factored Jacobian, the waist between what makes gradients and what asks questions of them.

For a dense layer :math:`u = W h + b` the gradient of seed r at sample t is the outer product
:math:`B[r, t] \otimes A[t]`, so that a layer is kept as two thin arrays. Everything asked of the Fisher information
matrix is a function of the factors, and every source of factors needs to know nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from . import devices
from ._validate import FloatArray
from .network import Network

__all__ = [
    "BATCH_BYTES",
    "FactoredJacobian",
    "LayerFactors",
    "add_power_sum",
    "backpropagated",
    "backward",
    "bytes_per_sample",
    "factorize",
    "require_finite_outputs",
    "stored",
    "unit_seeds",
]

BATCH_BYTES = 2**26  # sums over samples hold the factors of one batch; batches do not depend on threads


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
        return int(self.B.shape[2] * (self.A.shape[1] + self.bias))

    def sum_of_squares(self, executor: Executor | None = None) -> FloatArray:
        """Return ``sum_r B[r, t]^2``, entry by entry, shape (T, M_out)."""
        out = np.empty(self.B.shape[1:], self.B.dtype, like=self.B)
        devices.of(self.B).sum_of_squares(self.B, out, executor)
        return out

    def diagonal(self, scale: float, out: FloatArray, executor: Executor | None = None) -> None:
        """Write ``scale * sum_t sum_r (gradient)^2`` of the layer's parameters to ``out``."""
        out[:] = 0
        add_power_sum(self.A, self.sum_of_squares(executor), self.bias, 2, out, executor)
        out *= scale

    def summed_gradient(self, seed: int, scale: float, out: FloatArray, executor: Executor | None = None) -> None:
        """Write ``scale * sum_t gradient`` of one seed to ``out``."""
        devices.of(self.A).layer_gradient(self.A, self.B, self.bias, seed, scale, out, executor)

    def add_product(self, v: FloatArray, out: FloatArray, executor: Executor | None = None) -> None:
        """Add to ``out`` (R, T) the gradients' products with v (P_l,): one matrix product whatever R."""
        devices.of(self.A).layer_product(self.A, self.B, self.bias, v, out, executor)

    def transposed_product(self, u: FloatArray, out: FloatArray, executor: Executor | None = None) -> None:
        """Write to ``out`` (P_l,) the sum of the gradients weighted by u (R, T): one matrix product whatever R."""
        devices.of(self.A).layer_transposed_product(self.A, self.B, self.bias, u, out, executor)


def add_power_sum(
    A: FloatArray, weights: FloatArray, bias: bool, power: int, out: FloatArray, executor: Executor | None = None
) -> None:
    """Add ``sum_t weights[t, i] A[t, j]^power`` (2 or 4) to the layer's parameters ``out``: one matrix product.

    The sums go on from what ``out`` holds, so that their bits do not depend on where samples are cut into batches.
    """
    devices.of(A).add_power_sum(A, weights, bias, power, out, executor)


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
                LayerFactors(layer.A[begin:end], devices.contiguous(layer.B[:, begin:end]), layer.bias)
                for layer in self.layers
            )
        )

    def astype(self, dtype: npt.DTypeLike) -> FactoredJacobian:
        """Return the factors in another precision, themselves where it is theirs."""
        if self.dtype == dtype:
            return self
        return FactoredJacobian(
            tuple(LayerFactors(stored(layer.A, dtype), stored(layer.B, dtype), layer.bias) for layer in self.layers)
        )

    def squared_norms(self) -> FloatArray:
        """Squared norm of every gradient, shape (R, T), float64."""
        total = np.zeros((self.num_seeds, self.num_samples), like=self.layers[0].A)
        for layer in self.layers:
            inputs = np.square(layer.A, dtype=np.float64).sum(axis=1) + layer.bias
            total += np.square(layer.B, dtype=np.float64).sum(axis=2) * inputs
        return total

    def jacobian(self) -> FloatArray:
        """Write out the Jacobian, shape (T, R, P), parameters layer by layer, W (row-major) then b."""
        out = self._empty((self.num_samples, self.num_seeds, self.num_parameters))
        for layer, part in zip(self.layers, self._slices, strict=True):
            devices.of(out).layer_jacobian(layer.A, layer.B, layer.bias, out, part.start)
        return out

    def diagonal(self, scale: float, executor: Executor | None = None) -> FloatArray:
        """Return ``scale * sum_t sum_r (gradient)^2`` for every parameter, shape (P,)."""
        out = self._empty((self.num_parameters,))
        for layer, part in zip(self.layers, self._slices, strict=True):
            layer.diagonal(scale, out[part], executor)
        return out

    def summed_gradients(self, scale: float, executor: Executor | None = None) -> FloatArray:
        """Return ``scale * sum_t gradient`` for every seed, shape (R, P): one product per layer and seed."""
        out = self._empty((self.num_seeds, self.num_parameters))
        for layer, part in zip(self.layers, self._slices, strict=True):
            for r in range(self.num_seeds):
                layer.summed_gradient(r, scale, out[r, part], executor)
        return out

    def times(self, v: FloatArray, executor: Executor | None = None) -> FloatArray:
        """Return the products of every gradient with v (P,), shape (R, T)."""
        out = np.zeros((self.num_seeds, self.num_samples), self.dtype, like=v)
        for layer, part in zip(self.layers, self._slices, strict=True):
            layer.add_product(v[part], out, executor)
        return out

    def transposed_times(self, u: FloatArray, executor: Executor | None = None) -> FloatArray:
        """Return the sum of all gradients weighted by u (R, T), shape (P,)."""
        out = self._empty((self.num_parameters,))
        for layer, part in zip(self.layers, self._slices, strict=True):
            layer.transposed_product(u, out[part], executor)
        return out

    def _empty(self, shape: tuple[int, ...]) -> FloatArray:
        """An array beside the factors, in their precision."""
        return np.empty(shape, self.dtype, like=self.layers[0].A)

    @property
    def _slices(self) -> list[slice]:
        """Where each layer lies among the P entries."""
        ends = list(accumulate(layer.num_parameters for layer in self.layers))
        return [slice(begin, end) for begin, end in pairwise([0, *ends])]

    def __iter__(self) -> Iterator[LayerFactors]:
        return iter(self.layers)


def unit_seeds(samples: int, outputs: int, like: FloatArray) -> FloatArray:
    """Return the unit vectors of output space at every sample, (C, T, C), on the device and in the precision given."""
    return np.repeat(devices.identity(outputs, like)[:, None], samples, axis=1)


def stored(array: FloatArray, dtype: npt.DTypeLike) -> FloatArray:
    """Return the array in another precision, if it has the range."""
    found = array.astype(dtype, copy=False)
    if found.itemsize < array.itemsize and array.size:
        largest = float(np.abs(array).max())
        info = np.finfo(found.dtype)
        if largest > float(info.max) or 0 < largest < float(info.tiny / info.eps):
            raise ValueError(
                f"storage: expected factors within the range of {found.dtype}, got a largest one of {largest:.1e}; "
                "leave storage at the precision of the network"
            )
    return found


def bytes_per_sample(net: Network, num_seeds: int) -> int:
    """Memory that the factors of one sample take, the derivatives of the activations included."""
    widths = net.widths
    numbers = sum(widths[:-1]) + sum(widths[1:-1]) + num_seeds * sum(widths[1:])
    return numbers * net.dtype.itemsize


def factorize(
    net: Network, X: FloatArray, seeds: Callable[[FloatArray], FloatArray], executor: Executor | None = None
) -> FactoredJacobian:
    """Run the network forward and the seeds backward (Karakida, Akaho, Amari 2019, Eqs. 5-7).

    ``seeds`` makes from the outputs (T, C) the vectors of output space that are sent back, (R, T, C).

    Raises
    ------
    ValueError
        If an output is not finite.
    """
    return FactoredJacobian(tuple(backpropagated(net, X, seeds, executor))[::-1])


def backpropagated(
    net: Network, X: FloatArray, seeds: Callable[[FloatArray], FloatArray], executor: Executor | None = None
) -> Iterator[LayerFactors]:
    """Yield the factors of :func:`factorize` from the last layer to the first, each to be used or dropped at once."""
    A: list[FloatArray] = [X]
    slopes: list[Any] = []  # freed one by one on the way back
    for h, slope in net.hidden_layers(X, executor=executor):
        A.append(h)
        slopes.append(slope)
    outputs = net.affine(net.depth - 1, A[-1], executor=executor)
    require_finite_outputs(outputs)
    B = seeds(outputs)
    yield LayerFactors(A.pop(), B, net.has_biases)
    for W, skip in zip(net.weights[:0:-1], net.skips[:0:-1], strict=True):
        B = backward(B, W, slopes.pop(), skip, executor)
        yield LayerFactors(A.pop(), B, net.has_biases)


def require_finite_outputs(outputs: FloatArray) -> None:
    """Refuse outputs of a network that are not finite."""
    if not np.isfinite(outputs).all():
        t, k = (int(i) for i in np.argwhere(~np.isfinite(outputs))[0])
        raise ValueError(
            f"net(X): expected finite outputs, got {outputs[t, k]} at sample {t}: a pre-activation overflows "
            f"{outputs.dtype} or an activation is not finite; scale the inputs or weights down"
            + (", or use float64" if outputs.dtype == np.float32 else "")
        )


def backward(
    delta: FloatArray,
    W: FloatArray,
    slope: FloatArray,
    skip: bool,
    executor: Executor | None,
    bend: FloatArray | None = None,
    bent: FloatArray | None = None,
) -> FloatArray:
    """``(delta W) o slope (+ delta)``: seeds (R, T, M_l) through W (M_l, M_{l-1}) and the derivatives (T, M_{l-1}).

    Of the last seeds ``(delta W) o bend`` is written to ``bent`` (R', T, M_{l-1}), if given.
    """
    out = np.empty((*delta.shape[:2], W.shape[1]), W.dtype, like=W)
    devices.of(W).layer_backward(delta, W, slope, out, skip, bend, bent, executor)
    return out
