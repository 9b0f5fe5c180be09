"""Finite networks: weights, biases, activations, and the forward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from . import devices
from ._executor import check_executor
from ._validate import FloatArray, as_float_array, as_sequence, boolean, same_dtype
from .activations import Activation
from .architecture import MLP, ActivationLike, require_room_for_skips, resolve_activations, skip_layers

__all__ = ["Network"]


class Network:
    r"""A fully connected network with given weights, with or without skips.

    .. math:: u^l = W^l h^{l-1} + b^l, \quad h^l = \phi(u^l), \quad h^0 = x, \qquad f(x) = u^L.

    In a residual network (:class:`~fisherfield.ResidualMLP`) :math:`u^{l-1}` is added to :math:`u^l` for
    1 < l < L, and the read-out sees :math:`h^{L-1} = u^{L-1}`.

    Parameters
    ----------
    weights : sequence of arrays
        ``W_l`` of shape (M_l, M_{l-1}), l = 1, ..., L; all float64 or all float32.
    biases : sequence of arrays or None
        ``b_l`` of shape (M_l,), of the dtype of the weights. None: the network has no biases.
    activation : str, Activation, callable, or a sequence with one of these per hidden layer
        See :func:`fisherfield.activations.get`. In a residual network there is one per block, L - 2 in all.
    residual : bool, default False
        Whether the network has skips: then all hidden widths are equal, and there are at least three matrices.

    Raises
    ------
    ValueError
        If shapes do not chain, do not fit the skips, or an entry is not finite.
    TypeError
        If precisions are mixed or not float32/float64.

    Notes
    -----
    The arrays are not copied if they are C-contiguous; do not change them while a
    :class:`~fisherfield.Fisher` of the network is in use.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> net = ff.Network(weights=[np.eye(2), np.ones((1, 2))], biases=None, activation="relu")
    >>> net(np.array([[1.0, -2.0], [3.0, 4.0]]))
    array([[1.],
           [7.]])
    """

    def __init__(
        self,
        weights: Sequence[Any],
        biases: Sequence[Any] | None = None,
        *,
        activation: ActivationLike | Sequence[ActivationLike] = "tanh",
        residual: bool = False,
    ) -> None:
        weights = as_sequence(weights, "weights", "a sequence of matrices W_1, ..., W_L")
        if len(weights) == 0:
            raise ValueError("weights: expected at least one matrix, got none")
        self.weights: tuple[FloatArray, ...] = tuple(
            as_float_array(w, f"weights[{l}]", ndim=2) for l, w in enumerate(weights)
        )
        for l in range(1, len(self.weights)):
            fan_in, previous = self.weights[l].shape[1], self.weights[l - 1].shape[0]
            if fan_in != previous:
                raise ValueError(
                    f"weights[{l}]: expected shape (any, {previous}) to follow weights[{l - 1}] of shape "
                    f"{self.weights[l - 1].shape}, got {self.weights[l].shape}"
                )
        self.biases: tuple[FloatArray, ...] | None = None
        if biases is not None:
            biases = as_sequence(biases, "biases", "a sequence of vectors b_1, ..., b_L or None")
            if len(biases) != len(self.weights):
                raise ValueError(
                    f"biases: expected one vector per weight matrix ({len(self.weights)}) or None, got {len(biases)}"
                )
            self.biases = tuple(
                as_float_array(b, f"biases[{l}]", ndim=1, shape=(self.weights[l].shape[0],))
                for l, b in enumerate(biases)
            )
        named = [(f"weights[{l}]", w) for l, w in enumerate(self.weights)]
        named += [(f"biases[{l}]", b) for l, b in enumerate(self.biases or ())]
        self.dtype = same_dtype(named)
        self.residual = boolean(residual, "residual")
        if self.residual:
            require_room_for_skips(self.widths, "weights")
        self.activations: tuple[Activation, ...] = resolve_activations(
            activation, len(self.weights) - 1, residual=self.residual
        )
        self.architecture: MLP | None = None  # from which it was sampled

    @property
    def widths(self) -> tuple[int, ...]:
        """``(M_0, ..., M_L)``."""
        return (self.weights[0].shape[1], *(w.shape[0] for w in self.weights))

    @property
    def depth(self) -> int:
        """Number of weight layers L."""
        return len(self.weights)

    @property
    def skips(self) -> tuple[bool, ...]:
        """For each weight layer, whether the pre-activations of the layer before are added to its own."""
        return skip_layers(self.depth, self.residual)

    @property
    def num_outputs(self) -> int:
        """Number of outputs C."""
        return int(self.weights[-1].shape[0])

    @property
    def has_biases(self) -> bool:
        """Whether the biases are parameters."""
        return self.biases is not None

    @property
    def num_parameters(self) -> int:
        """P: all weights and biases."""
        return sum(w.size for w in self.weights) + sum(b.size for b in self.biases or ())

    def parameters(self) -> FloatArray:
        """Return a copy of all parameters, shape (P,), layer by layer, W row by row, then b."""
        return np.concatenate(
            [part.ravel() for l, W in enumerate(self.weights) for part in (W, *(self.biases or ())[l : l + 1])]
        )

    def with_parameters(self, parameters: Any) -> Network:
        """Return a network of the same widths and activations with other parameters.

        Parameters
        ----------
        parameters : array, shape (P,)
            In the order of :meth:`parameters` and in the precision of the network; copied.

        Returns
        -------
        Network
            Without ``architecture``: it is no sample of one.

        Raises
        ------
        ValueError, TypeError
            For another shape or dtype, NaN or infinity.

        Examples
        --------
        >>> import fisherfield as ff
        >>> net = ff.MLP((3, 4, 2), "tanh").sample(seed=0)
        >>> net.with_parameters(0.5 * net.parameters()).weights[0].shape
        (4, 3)
        """
        flat = as_float_array(parameters, "parameters", ndim=1, shape=(self.num_parameters,))
        same_dtype([("weights[0]", self.weights[0]), ("parameters", flat)])
        other, flat, offset = copy.copy(self), flat.copy(), 0
        weights, biases = [], []
        for W in self.weights:
            weights.append(flat[offset : offset + W.size].reshape(W.shape))
            offset += W.size
            if self.has_biases:
                biases.append(flat[offset : offset + len(W)])
                offset += len(W)
        other.weights, other.biases = tuple(weights), tuple(biases) if self.has_biases else None
        other.architecture = None  # it is no sample any more
        return other

    def to(self, device: str) -> Network:
        """Return the network with its parameters on a device; where they are decides where the work on it is done.

        Parameters
        ----------
        device : str
            ``"cpu"``, ``"cuda"`` (the current GPU of CuPy) or ``"cuda:1"``.

        Returns
        -------
        Network
            Another one; parameters that are there already are shared.

        Raises
        ------
        ValueError
            For other names, or a GPU that is not there.
        ImportError
            Without CuPy: ``pip install fisherfield[cuda13]``.

        Examples
        --------
        >>> import fisherfield as ff
        >>> net = ff.MLP((3, 4, 2), "tanh").sample(seed=0)
        >>> net.to("cpu").device
        'cpu'
        """
        other = copy.copy(self)
        other.weights = tuple(devices.moved(W, device) for W in self.weights)
        other.biases = None if self.biases is None else tuple(devices.moved(b, device) for b in self.biases)
        return other

    @property
    def device(self) -> str:
        """Where the parameters are: ``"cpu"`` or ``"cuda:0"``."""
        return devices.name_of(self.weights[0])

    def __call__(self, X: Any, *, executor: Executor | None = None) -> FloatArray:
        """Return the outputs f(X).

        Parameters
        ----------
        X : array, shape (T, M_0)
            One input a row, in the precision of the weights.
        executor : concurrent.futures.Executor, optional
            Threads to use (default: a shared pool). The result does not depend on it.

        Returns
        -------
        array, shape (T, C)
        """
        check_executor(executor)
        h = self.check_inputs(X)
        for (value,) in self.hidden_layers(h, order=0, executor=executor):
            h = value
        return self.affine(self.depth - 1, h, executor=executor)

    def check_inputs(self, X: Any, name: str = "X") -> FloatArray:
        """Return ``X`` as an array in the precision of the weights, or raise.

        Parameters
        ----------
        X : array, shape (T, M_0)
            One input a row.
        name : str
            What errors call it (default ``"X"``).

        Returns
        -------
        array, shape (T, M_0)
            C-contiguous; not copied if it was.

        Raises
        ------
        ValueError, TypeError
            For another shape, NaN or infinity, another precision or device than that of the weights.
        """
        array = as_float_array(X, name, ndim=2, shape=(None, self.widths[0]))
        same_dtype([("weights[0]", self.weights[0]), (name, array)])
        return array

    def affine(self, l: int, h: FloatArray, *, executor: Executor | None = None) -> FloatArray:
        """Return ``W h + b`` of one layer, for every row of ``h``.

        Parameters
        ----------
        l : int
            The layer, counted from 0.
        h : array, shape (T, M_l)
            Its inputs, in the precision of the network and on its device.
        executor : concurrent.futures.Executor, optional
            Threads to use (default: a shared pool).

        Returns
        -------
        array, shape (T, M_{l+1})
        """
        return self._affine(l, h, executor)

    def hidden_layers(
        self, X: FloatArray, *, order: int = 1, executor: Executor | None = None
    ) -> Iterator[tuple[FloatArray, ...]]:
        """Yield phi(u) and its derivatives up to ``order``, hidden layer by hidden layer.

        Parameters
        ----------
        X : array, shape (T, M_0)
            Of :meth:`check_inputs`.
        order : int
            Highest derivative (default 1).
        executor : concurrent.futures.Executor, optional
            Threads to use (default: a shared pool).

        Yields
        ------
        tuple of ``order + 1`` arrays, shape (T, M_l)
            For l = 1, ..., L - 1.
        """
        h, u = X, None
        for l, carried in enumerate(self.skips[1:]):
            jet, u = self._layer_forward(l, h, u if self.skips[l] else None, carried, order, executor)
            h = jet[0]
            yield jet

    def _layer_forward(
        self, l: int, h: FloatArray, skip: FloatArray | None, carried: bool, order: int, executor: Executor | None
    ) -> tuple[tuple[FloatArray, ...], FloatArray | None]:
        """``phi(u)`` and its derivatives up to ``order``, and u itself if it is carried to the next layer."""
        phi = self.activations[l]
        if phi.native is not None:
            shape = (len(h), self.weights[l].shape[0])
            derivatives = tuple(np.empty(shape, self.dtype, like=h) for _ in range(order))
            pre = np.empty(shape, self.dtype, like=h) if carried else None
            return (self._affine(l, h, executor, phi.native, derivatives, skip, pre), *derivatives), pre
        u = self._affine(l, h, executor, skip=skip)
        return phi.evaluate(u, order), u if carried else None

    def _affine(
        self,
        l: int,
        h: FloatArray,
        executor: Executor | None,
        phi: Any = None,
        derivatives: tuple[FloatArray, ...] = (),
        skip: FloatArray | None = None,
        pre: FloatArray | None = None,
    ) -> FloatArray:
        """``phi(u)``, ``u = W h + b + skip``; writes derivatives and u where asked."""
        slope, bend = (*derivatives, None, None)[:2]
        out = np.empty((len(h), self.weights[l].shape[0]), self.dtype, like=h)
        bias = None if self.biases is None else self.biases[l]
        devices.of(h).layer_forward(h, self.weights[l], bias, phi, out, slope, bend, skip, pre, executor)
        return out

    def __repr__(self) -> str:
        applied = self.activations[:-1] if self.residual else self.activations
        names = ", ".join(dict.fromkeys(phi.name for phi in applied)) or "none"
        skips = ", residual=True" if self.residual else ""
        return f"Network(widths={self.widths}, activation={names}{skips}, biases={self.has_biases}, dtype={self.dtype})"
