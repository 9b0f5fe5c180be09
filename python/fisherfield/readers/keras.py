"""Networks from Keras, which is not imported: layers are known by their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import activations
from ..activations import Activation
from ..architecture import ActivationLike
from ..network import Network
from .stack import LIKELIHOODS, Dense, Stack, library_class, optional_dtype, read_array, to_network

__all__ = ["from_keras"]

_UNCHANGED = ("InputLayer", "Flatten", "Identity", "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise")
_FUNCTIONS = ("linear", "relu", "tanh", "sigmoid", "elu", "selu", "softplus", "silu", "gelu", "hard_tanh")
_SLOPE = 0.2  # of the function leaky_relu; the layer has its own

_LAYERS: dict[str, Callable[[Any], Activation]] = {
    "LeakyReLU": lambda layer: activations.leaky_relu(float(layer.negative_slope)),
    "ELU": lambda layer: activations.elu(float(layer.alpha)),
}


def from_keras(
    model_or_weights: Any,
    *,
    activation: ActivationLike | Sequence[ActivationLike] | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Network:
    """Return the network of a Keras model (Keras 3), or of its list of weights.

    Parameters
    ----------
    model_or_weights : keras.Sequential, or sequence of arrays
        A model of ``Dense`` layers with their activations, with ``Sequential`` inside if wanted, and ``Activation``,
        ``ReLU``, ``LeakyReLU``, ``ELU`` layers. ``Flatten``, ``Identity`` and dropout change nothing. The last
        ``Dense`` must have no activation. Or what ``model.get_weights()`` gives for such a model: kernels, shape
        (M_in, M_out), each followed by its bias if there are biases. The latter says nothing of the outputs, so it
        reads a model with a softmax or sigmoid at the end as well.
    activation : str, Activation, callable, or a sequence with one of these per hidden layer
        With a list of weights, which does not know it; see :func:`fisherfield.activations.get`.
    dtype : {"float32", "float64"}, optional
        Precision to convert the parameters to. Default: as they are, float32 or float64.

    Returns
    -------
    Network
        On the CPU, with copies of the parameters.

    Raises
    ------
    ValueError
        For layers and activations that are not listed above, a model that is not built, layers with and without
        biases, and an activation after the last layer. The error names the layer.
    TypeError
        If ``activation`` is given with a model or missing with weights, or parameters are neither float32 nor float64
        and no ``dtype`` is given.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.readers import from_keras
    >>> weights = [np.ones((3, 5)), np.zeros(5), np.ones((5, 2)), np.zeros(2)]  # model.get_weights()
    >>> from_keras(weights, activation="tanh")
    Network(widths=(3, 5, 2), activation=tanh, biases=True, dtype=float64)
    """
    precision = optional_dtype(dtype)
    if isinstance(model_or_weights, (list, tuple)):
        if activation is None:
            raise TypeError(
                "activation: expected the activation of the hidden layers, which weights do not know, got None"
            )
        return to_network(_pairs(model_or_weights, precision), activation)
    if not hasattr(model_or_weights, "get_weights"):
        raise TypeError(
            "model_or_weights: expected a keras.Sequential or its get_weights(), got an object of "
            f"{type(model_or_weights).__name__}"
        )
    if activation is not None:
        raise TypeError(f"activation: expected None with a model, which knows its own, got {activation!r}")
    stack = Stack("or give model.get_weights() and activation=")
    _walk(model_or_weights, "model", stack, precision)
    return stack.network()


def _pairs(weights: Sequence[Any], dtype: np.dtype[Any] | None) -> list[Dense]:
    """Dense layers of kernels that are each followed by a bias, or none of them."""
    if not weights:
        raise ValueError("weights: expected [kernel, bias, kernel, bias, ...], got none; build the model first")
    layers: list[Dense] = []
    for index, weight in enumerate(weights):
        name, array = f"weights[{index}]", np.asarray(weight)
        if array.ndim == 1 and layers and layers[-1].bias is None:
            kernel = layers.pop()
            layers.append(Dense(kernel.name, kernel.weight, read_array(array, name, 1, dtype)))
        else:
            layers.append(Dense(name, read_array(array.T, name, 2, dtype), None))
    return layers


def _walk(layer: Any, name: str, stack: Stack, dtype: np.dtype[Any] | None) -> None:
    kind = library_class(layer, "keras", "call")
    if kind == "Sequential":
        for position, child in enumerate(layer.layers):
            _walk(child, f"{name}.layers[{position}]", stack, dtype)
    elif kind == "Dense":
        stack.require_new(layer, name)
        stack.add_dense(_dense(layer, name, dtype))
        _apply(layer.activation, name, stack)
    elif kind == "Activation":
        _apply(layer.activation, name, stack)
    elif kind in _LAYERS:
        stack.add_activation(name, kind, _LAYERS[kind](layer))
    elif kind == "ReLU" and layer.max_value is None and not layer.threshold:
        slope = float(layer.negative_slope)
        stack.add_activation(name, kind, activations.leaky_relu(slope) if slope else activations.get("relu"))
    elif kind == "Softmax":
        stack.refuse_output(name, kind)
    elif kind not in _UNCHANGED:
        known = ("Sequential", "Dense", "Activation", "ReLU (without max_value and threshold)", *_LAYERS, *_UNCHANGED)
        raise ValueError(
            f"{name}: expected a layer of Keras, one of {', '.join(known)}, got {type(layer).__name__}; for another "
            "order of layers or function write Network(weights, biases, activation=...)"
        )


def _dense(layer: Any, name: str, dtype: np.dtype[Any] | None) -> Dense:
    arrays = layer.get_weights()
    if not arrays:
        raise ValueError(f"{name}: expected a model that is built, got no weights; call model.build((None, M_0)) first")
    if len(arrays) != 1 + bool(layer.use_bias):
        raise ValueError(
            f"{name}: expected a kernel and at most a bias, got {len(arrays)} arrays; adapted (LoRA) and quantised "
            "layers are not supported"
        )
    bias = read_array(arrays[1], f"{name}.bias", 1, dtype) if layer.use_bias else None
    return Dense(name, read_array(arrays[0].T, f"{name}.kernel", 2, dtype), bias)


def _apply(function: Any, name: str, stack: Stack) -> None:
    """Append an activation that Keras has as a function; linear is none."""
    label = getattr(function, "__name__", type(function).__name__)
    ours = getattr(function, "__module__", "").partition(".")[0] == "keras"
    if ours and label == "linear":
        return
    if ours and label == "leaky_relu":
        stack.add_activation(name, label, activations.leaky_relu(_SLOPE))
    elif ours and label in _FUNCTIONS:
        stack.add_activation(name, label, activations.get(label))
    elif ours and label in LIKELIHOODS:
        stack.refuse_output(name, label)
    else:
        raise ValueError(
            f"{name}: expected an activation of Keras, one of {', '.join(_FUNCTIONS)}, leaky_relu, got {label}; give "
            "model.get_weights() and activation="
        )
