"""Networks from parameters of Flax, which is not imported: a layer is a mapping with a kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..architecture import ActivationLike
from ..network import Network
from .stack import REORDER, collect, optional_dtype, to_network

__all__ = ["from_flax"]

_PARTS = {"kernel": "weight", "bias": "bias"}


def from_flax(
    params: Mapping[str, Any],
    *,
    activation: ActivationLike | Sequence[ActivationLike],
    layers: Sequence[str] | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Network:
    """Return the network of a tree of Flax parameters.

    Parameters
    ----------
    params : mapping
        Nested mappings whose leaves are ``kernel``, shape (M_in, M_out), and ``bias``, shape (M_out,), arrays of JAX or
        NumPy: what ``model.init`` of Linen gives, with or without ``"params"`` around it, or
        ``nnx.to_pure_dict(nnx.state(model, nnx.Param))``.
    activation : str, Activation, callable, or a sequence with one of these per hidden layer
        Parameters do not know it. See :func:`fisherfield.activations.get`. Flax's ``gelu`` is an approximation unless
        called with ``approximate=False``; ours is exact.
    layers : sequence of str, optional
        Names of the layers from input to output, ``"encoder/Dense_0"`` for a nested one. Needed unless the names
        differ in their numbers alone, as ``Dense_0, Dense_1, ...`` do: JAX sorts the names of a tree by the alphabet.
        Linen numbers layers as they are made: in ``Dense(2)(relu(Dense(20)(x)))`` the outer one is ``Dense_0``, and
        ``layers=("Dense_1", "Dense_0")`` is needed.
    dtype : {"float32", "float64"}, optional
        Precision to convert the parameters to. Default: as they are, float32 or float64.

    Returns
    -------
    Network
        On the CPU, with copies of the parameters; :meth:`Network.to <fisherfield.Network.to>` moves it.

    Raises
    ------
    ValueError
        For parameters of other layers than dense ones, names without an order, shapes that do not chain, and biases in
        some layers only.
    TypeError
        If ``params`` is no mapping, or parameters are neither float32 nor float64 and no ``dtype`` is given.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.readers import from_flax
    >>> params = {
    ...     "Dense_0": {"kernel": np.ones((3, 5)), "bias": np.zeros(5)},
    ...     "Dense_1": {"kernel": np.ones((5, 2)), "bias": np.zeros(2)},
    ... }
    >>> from_flax({"params": params}, activation="relu")
    Network(widths=(3, 5, 2), activation=relu, biases=True, dtype=float64)
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"params: expected nested mappings of parameters, got an object of {type(params).__name__}")
    if "params" in params:
        if others := [str(name) for name in params if name != "params"]:
            raise ValueError(
                f"params: expected parameters alone, got {', '.join(others)} beside them; layers with a state of their "
                "own (BatchNorm) are not supported"
            )
        params = params["params"]
    tensors = {}
    for path, leaf in _leaves(params, ()):
        layer, part = "/".join(path[:-1]), _PARTS.get(path[-1])
        if part is None or not layer:
            raise ValueError(
                f"{'/'.join(path)}: expected the kernel or bias of a dense layer in a mapping of its own, got another "
                "parameter; normalisation, embeddings and attention are not supported"
            )
        tensors["/".join(path)] = (layer, part, np.asarray(leaf))
    return to_network(collect(tensors, layers, optional_dtype(dtype), transposed=True), activation, reorder=REORDER)


def _leaves(tree: Mapping[Any, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the value of every leaf; keys may be integers (lists of layers in NNX)."""
    for key, value in tree.items():
        path = (*above, str(key))
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        else:
            yield path, value
