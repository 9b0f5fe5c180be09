r"""A network linearised at its inputs: forward- and reverse-mode sweeps, whatever the number of outputs.

The derivative of the outputs along a direction of the parameters runs through the layers as they do themselves, and the
transposed derivative runs back. A pair of sweeps takes :math:`8 T \sum_l M_l M_{l-1}` operations for any number of
outputs, where the factored Jacobian needs backpropagated seeds for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from . import _executor, devices
from ._validate import FloatArray
from .factors import LayerFactors, backward, require_finite_outputs, stored
from .network import Network

__all__ = ["Chart", "LinearizedNetwork"]


@dataclass(frozen=True)
class Chart:
    """How a layer moves with its coordinates in a metric.

    Attributes
    ----------
    weights, biases : float
        dW and db over their coordinates; ``biases=0`` where there are none.
    inputs : bool
        The coordinates are those of the layer's input instead: db = W v.
    """

    weights: float = 1.0
    biases: float = 1.0
    inputs: bool = False

    def dimension(self, W: FloatArray) -> int:
        """How many coordinates there are."""
        if self.inputs:
            return int(W.shape[1])
        return int(W.size) + (W.shape[0] if self.biases else 0)

    def tangent(self, W: FloatArray, v: FloatArray) -> tuple[FloatArray | None, FloatArray | None]:
        """Return dW and db for a step v of the coordinates."""
        if self.inputs:
            out = np.empty((1, W.shape[0]), W.dtype, like=W)
            devices.of(W).layer_forward(v[None], W, None, None, out, executor=_executor.SERIAL)
            return None, out[0]
        dW, db = v[: W.size].reshape(W.shape), v[W.size :]
        return _scaled(self.weights, dW), _scaled(self.biases, db) if self.biases else None

    def cotangent(self, W: FloatArray, A: FloatArray, delta: FloatArray, executor: Executor | None) -> FloatArray:
        """Return the sum over samples of the gradients: of inputs A (T, M_in) and delta (1, T, M_out)."""
        layer = LayerFactors(A[:, :0] if self.inputs else A, delta, self.inputs or self.biases != 0)
        out = np.empty(layer.num_parameters, W.dtype, like=W)
        layer.summed_gradient(0, 1.0, out, executor)
        if self.inputs:
            one = np.ones_like(W, shape=(1, W.shape[1]))
            back: FloatArray = backward(out[None, None], W, one, False, _executor.SERIAL)[0, 0]
            return back
        out[: W.size] *= self.weights
        out[W.size :] *= self.biases
        return out


def _scaled(factor: float, array: FloatArray) -> FloatArray:
    return array if factor == 1 else factor * array


class LinearizedNetwork:
    """The derivative of a network's outputs at some inputs, as a linear map of coordinates.

    Parameters
    ----------
    net : Network
    X : array, shape (T, M_0)
        Checked inputs.
    charts : sequence of Chart
        One per layer of the network.
    layers : slice
        The layers whose coordinates there are.
    storage : dtype
        Precision in which signals and slopes are held between sweeps.
    executor : concurrent.futures.Executor or None

    Attributes
    ----------
    outputs : array, shape (T, C)
    """

    def __init__(
        self,
        net: Network,
        X: FloatArray,
        charts: Sequence[Chart],
        layers: slice,
        storage: np.dtype[np.floating],
        executor: Executor | None,
    ) -> None:
        self._net, self._charts, self._executor = net, charts, executor
        self._layers = range(net.depth)[layers]
        self._signals, self._slopes = [X], []
        h = X
        for h, slope in net.hidden_layers(X, executor=executor):
            self._signals.append(stored(h, storage))
            self._slopes.append(stored(slope, storage))
        self.outputs = net.affine(net.depth - 1, h, executor=executor)
        require_finite_outputs(self.outputs)

    def times(self, v: FloatArray) -> FloatArray:
        """Return the derivative of the outputs along v (P,), shape (T, C): one forward-mode sweep."""
        net, parts = self._net, dict(zip(self._layers, self._slices, strict=True))
        dh: FloatArray | None = None
        du: FloatArray | None = None
        for l in range(self._layers.start, net.depth):
            W = net.weights[l]
            dW, db = self._charts[l].tangent(W, v[parts[l]]) if l in parts else (None, None)
            h = self._read(self._signals[l]) if dW is not None else None
            slope = self._read(self._slopes[l]) if l < net.depth - 1 else None
            dskip = du if net.skips[l] else None
            out = np.empty((len(self.outputs), W.shape[0]), W.dtype, like=W)
            du = np.empty_like(out) if l < net.depth - 1 and net.skips[l + 1] else None
            devices.of(W).layer_tangent(h, dW, db, dh, W, slope, out, dskip, du, self._executor)
            dh = out
        assert dh is not None
        return dh

    def transposed_times(self, y: FloatArray) -> FloatArray:
        """Return the transposed derivative applied to y (T, C), shape (P,): one reverse-mode sweep."""
        net = self._net
        out = np.empty(self._slices[-1].stop, net.dtype, like=y)
        parts = dict(zip(self._layers, self._slices, strict=True))
        delta = y[None]
        for l in range(net.depth - 1, self._layers.start - 1, -1):
            if l in parts:
                A = self._read(self._signals[l])
                out[parts[l]] = self._charts[l].cotangent(net.weights[l], A, delta, self._executor)
            if l > self._layers.start:
                slope = self._read(self._slopes[l - 1])
                delta = backward(delta, net.weights[l], slope, net.skips[l], self._executor)
        return out

    @property
    def _slices(self) -> list[slice]:
        """Where the coordinates of each layer lie."""
        ends = accumulate(self._charts[l].dimension(self._net.weights[l]) for l in self._layers)
        return [slice(begin, end) for begin, end in pairwise([0, *ends])]

    def _read(self, array: FloatArray) -> FloatArray:
        """A held array in the precision of the network."""
        return array.astype(self._net.dtype, copy=False)
