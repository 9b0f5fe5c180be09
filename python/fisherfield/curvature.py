r"""Second derivatives of the outputs with respect to single weights, from those with respect to pre-activations.

A weight acts through the pre-activation of its unit. The gradient of seed r at sample t is therefore an outer product,
and its second derivative with respect to :math:`W_{ij}` one of second derivatives and squares,

.. math:: \frac{\partial^2 f_r}{\partial W_{ij}^2} = D[r, t, i]\, A[t, j]^2, \qquad
    D[r, t, i] = \frac{\partial^2 f_r}{(\partial u^l_i)^2} = \sum_{m \ge l} \sum_j c^m_j
    \Bigl(\frac{\partial u^m_j}{\partial u^l_i}\Bigr)^2, \quad
    c^m = \phi''(u^m) \circ \frac{\partial f_r}{\partial h^m}

(differentiate :math:`u^{m+1} = W h^m + b` twice along :math:`u^l_i`). The terms m = l and m = l + 1 take one more
backward step, through :math:`W \circ W`; the others follow the tangents of all units of layer l, a product of
matrices per sample and pair of layers. In networks with one or two hidden layers there are none, and where activations
are piecewise linear every D is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from . import devices
from ._validate import FloatArray
from .factors import LayerFactors, backward, require_finite_outputs
from .network import Network

__all__ = ["CurvedLayer", "SecondDerivatives"]


@dataclass(frozen=True)
class CurvedLayer(LayerFactors):
    """The gradients of one dense layer, and the second derivatives of some of their seeds.

    Attributes
    ----------
    D : array, shape (R', T, M_out)
        Second derivatives of the last R' seeds with respect to the layer's pre-activations.
    """

    D: FloatArray


class SecondDerivatives:
    """Sweeps forward and backward that give second derivatives beside gradients.

    Per sample they take the ``2 sum M_l M_{l-1}`` operations of the forward pass, ``2 R sum_{l>1} M_l M_{l-1}`` for R
    seeds, ``2 R' sum_{1<l<L} M_l M_{l-1}`` more for the second derivatives of R' of them, and
    ``2 sum_{l < m - 1} M_l M_m M_{m-1}`` over pairs of hidden layers l, m, whatever R' (with ``2 R' M_l M_m`` each).

    Parameters
    ----------
    net : Network
    """

    def __init__(self, net: Network) -> None:
        self._net = net
        with np.errstate(over="ignore"):  # they may not be needed
            self._squared_weights = [W * W for W in net.weights[1:-1]]  # into hidden layers 2, 3, ...

    def __call__(
        self,
        X: FloatArray,
        seeds: Callable[[FloatArray], FloatArray],
        num_bent: int,
        executor: Executor | None = None,
    ) -> tuple[CurvedLayer, ...]:
        """Return the layers' factors for the seeds (R, T, C) of the outputs (T, C), and D of the last ``num_bent``.

        Raises
        ------
        ValueError
            If an output is not finite.
        """
        net = self._net
        A, slopes, bends = [X], [], []
        for h, slope, bend in net.hidden_layers(X, order=2, executor=executor):
            A.append(h)
            slopes.append(slope)
            bends.append(bend)
        outputs = net.affine(net.depth - 1, A[-1], executor=executor)
        require_finite_outputs(outputs)
        B = [seeds(outputs)]
        c: list[FloatArray] = []
        for l in range(net.depth - 1, 0, -1):
            bent = np.empty((num_bent, *slopes[l - 1].shape), net.dtype, like=X)
            B.insert(0, backward(B[0], net.weights[l], slopes[l - 1], net.skips[l], executor, bends[l - 1], bent))
            c.insert(0, bent)
        D = [*self._unit_curvatures(slopes, c, executor), np.zeros((num_bent, *outputs.shape), net.dtype, like=X)]
        return tuple(CurvedLayer(a, b, net.has_biases, d) for a, b, d in zip(A, B, D, strict=True))

    def _unit_curvatures(
        self, slopes: list[FloatArray], c: list[FloatArray], executor: Executor | None
    ) -> list[FloatArray]:
        """D of every hidden layer from c^m, each (R', T, M_l)."""
        net = self._net
        last = max((m for m, bent in enumerate(c) if bent.any()), default=-1)  # above it nothing bends
        D = []
        for l, own in enumerate(c):
            total = own.copy()
            if l < last:
                W, skip = net.weights[l + 1], net.skips[l + 1]
                total += backward(c[l + 1], self._squared_weights[l], slopes[l] ** 2, skip, executor)
                if skip:  # of (1 + W_ii phi')^2
                    total += 2 * c[l + 1] * (W.diagonal() * slopes[l])
            if l + 1 < last:
                steps = [(net.weights[m], slopes[m - 1], c[m], net.skips[m]) for m in range(l + 1, last + 1)]
                devices.of(total).add_upper_curvature(steps, total, executor)
            D.append(total)
        return D
