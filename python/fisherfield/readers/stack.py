"""What all readers share: dense layers with the names they have elsewhere, their order, and their checks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import activations, devices
from .._validate import FloatArray, as_dtype, as_sequence
from ..activations import Activation
from ..network import Network

__all__ = [
    "LIKELIHOODS",
    "REORDER",
    "Dense",
    "Stack",
    "collect",
    "in_order",
    "library_class",
    "optional_dtype",
    "read_array",
    "refuse_precision",
    "to_network",
]

_PRECISIONS = ("float32", "float64")
_CONVERTIBLE = ("float16", "bfloat16", *_PRECISIONS)

# activations whose place is after the last layer, in the likelihood: by the name a library gives them, in lower case
LIKELIHOODS = {
    "softmax": "categorical",
    "logsoftmax": "categorical",
    "log_softmax": "categorical",
    "sigmoid": "bernoulli",
    "logsigmoid": "bernoulli",
    "log_sigmoid": "bernoulli",
    "exponential": "poisson",
}


@dataclass(frozen=True)
class Dense:
    """A dense layer ``u = W h + b``, with the name that the user knows it by.

    Attributes
    ----------
    name : str
        For errors.
    weight : array, shape (M_out, M_in)
    bias : array, shape (M_out,), or None
    """

    name: str
    weight: FloatArray
    bias: FloatArray | None


def optional_dtype(dtype: npt.DTypeLike | None) -> np.dtype[Any] | None:
    """Return the precision to convert to, or None to take parameters as they are.

    Parameters
    ----------
    dtype : str, dtype or None

    Returns
    -------
    numpy.dtype or None

    Raises
    ------
    TypeError
        For another than float32 and float64.
    """
    return None if dtype is None else as_dtype(dtype)


def read_array(value: Any, name: str, ndim: int, dtype: np.dtype[Any] | None) -> FloatArray:
    """Return a copy of a parameter, C-contiguous, float32 or float64, converted only if ``dtype`` says so.

    Parameters
    ----------
    value : array
        The parameter.
    name : str
        What errors call it.
    ndim : int
        2 for weights, 1 for biases.
    dtype : numpy.dtype or None
        Precision to convert to, from float16 and bfloat16 too; None takes it as it is.

    Returns
    -------
    array, with ``ndim`` axes

    Raises
    ------
    TypeError
        For another precision.
    ValueError
        For another number of axes.
    """
    array = devices.as_array(value)
    precision = array.dtype.name
    if precision not in (_PRECISIONS if dtype is None else _CONVERTIBLE):
        refuse_precision(name, precision)
    if array.ndim != ndim:
        what = "matrix" if ndim == 2 else "vector"
        raise ValueError(
            f"{name}: expected the {what} of a dense layer, got shape {tuple(array.shape)}; convolutions, embeddings "
            "and normalisation layers are not supported"
        )
    devices.require_current(array, name)
    with np.errstate(over="ignore"):  # what becomes infinite is refused with the network
        copied: FloatArray = array.astype(np.dtype(precision) if dtype is None else dtype, order="C", copy=True)
    return copied


def refuse_precision(name: str, precision: str) -> None:
    """Raise for a precision that is not that of a network, and say how to convert it if it can be.

    Parameters
    ----------
    name : str
        What the error calls the parameter.
    precision : str
        Name of its dtype.

    Raises
    ------
    TypeError
        Always.
    """
    if precision in _CONVERTIBLE:
        raise TypeError(f"{name}: expected float32 or float64, got {precision}; give dtype='float32' to convert it")
    raise TypeError(f"{name}: expected float32 or float64, got {precision}; quantised parameters are not supported")


def to_network(layers: Iterable[Dense], activation: Any, *, reorder: str = "") -> Network:
    """Return the network of dense layers in order, all checked.

    Parameters
    ----------
    layers : iterable of Dense
        At least one, from input to output.
    activation : str, Activation or sequence of them
        One, or one per hidden layer.
    reorder : str
        End of the error about shapes that do not chain: how the user changes the order.

    Returns
    -------
    Network

    Raises
    ------
    ValueError, TypeError
        For shapes that do not chain, biases in some layers only, mixed precision, NaN or infinity.
    """
    layers = list(layers)
    for before, layer in itertools.pairwise(layers):
        (_, fan_in), width = layer.weight.shape, len(before.weight)
        if fan_in != width:
            raise ValueError(
                f"{layer.name}: expected {width} inputs, the outputs of {before.name}, got {fan_in}; the layers are "
                f"read in the order {', '.join(one.name for one in layers)}{reorder}"
            )
    first = layers[0]
    for layer in layers:
        if layer.bias is not None and layer.bias.shape != layer.weight.shape[:1]:
            raise ValueError(
                f"{layer.name}: expected a bias of shape {layer.weight.shape[:1]} beside a weight of "
                f"{layer.weight.shape[0]} outputs, got {layer.bias.shape}"
            )
        if (layer.bias is None) != (first.bias is None):
            bare, full = (layer, first) if layer.bias is None else (first, layer)
            raise ValueError(
                f"{bare.name}: expected a bias, which {full.name} has, got none; biases are parameters, so a network "
                "has them in every layer or in none: rebuild the model with one or the other"
            )
        for array in (layer.weight, *([] if layer.bias is None else [layer.bias])):
            if array.dtype != first.weight.dtype:
                raise TypeError(
                    f"{layer.name}: expected {first.weight.dtype} like {first.name}, got {array.dtype}; give dtype= to "
                    "convert all parameters"
                )
    biases = None if first.bias is None else [layer.bias for layer in layers]
    return Network([layer.weight for layer in layers], biases, activation=activation)


class Stack:
    """Dense layers and activations, collected in the order in which a model applies them.

    Two dense layers without an activation between them have the linear one.

    Parameters
    ----------
    leave_out : str
        How the user gets rid of the last activation, for errors.
    """

    def __init__(self, leave_out: str) -> None:
        self.leave_out = leave_out  # how the user gets rid of the last activation
        self.layers: list[Dense] = []
        self.applied: list[Activation] = []
        self.pending: tuple[str, str, Activation] | None = None  # after the last dense layer so far
        self.seen: dict[int, tuple[str, Any]] = {}

    def require_new(self, part: Any, name: str) -> None:
        """Refuse a layer or a parameter that came before: shared parameters would count twice.

        Parameters
        ----------
        part : object
            The layer or parameter; kept.
        name : str
            What the user knows it by.

        Raises
        ------
        ValueError
            If it came before by another name.
        """
        first, _ = self.seen.setdefault(id(part), (name, part))  # kept alive, so that no other gets its id
        if first != name:
            raise ValueError(
                f"{name}: expected parameters of its own, got those of {first}; shared parameters count once in P and "
                "cannot be expressed in a network"
            )

    def add_dense(self, layer: Dense) -> None:
        """Append a dense layer.

        Parameters
        ----------
        layer : Dense
            What follows in the order in which the model applies its layers.
        """
        if self.layers:
            self.applied.append(self.pending[2] if self.pending else activations.get("linear"))
        self.layers.append(layer)
        self.pending = None

    def add_activation(self, name: str, label: str, phi: Activation) -> None:
        """Append an activation.

        Parameters
        ----------
        name : str
            What the user knows it by.
        label : str
            What its library calls it.
        phi : Activation

        Raises
        ------
        ValueError
            Before the first dense layer, or right after another activation.
        """
        if not self.layers:
            raise ValueError(f"{name}: expected a dense layer first, got {label}; apply it to the inputs X instead")
        if self.pending is not None:
            raise ValueError(
                f"{name}: expected a dense layer after {self.pending[0]} ({self.pending[1]}), got a second activation "
                f"in a row, {label}; write a Network with their composition as its activation"
            )
        self.pending = (name, label, phi)

    def refuse_output(self, name: str, label: str) -> None:
        """Refuse an activation that belongs to the outputs.

        Parameters
        ----------
        name, label : str
            As of :meth:`add_activation`.

        Raises
        ------
        ValueError
            Always.
        """
        likelihood = LIKELIHOODS.get(label.lower())
        then = (
            f" and choose likelihood={likelihood!r}, which applies it"
            if likelihood
            else ": outputs are those before it, and so is the Fisher information"
        )
        raise ValueError(
            f"{name}: expected the network to end with a dense layer, got {label}; leave it out "
            f"({self.leave_out}){then}"
        )

    def network(self) -> Network:
        """Return the network of what was collected."""
        if not self.layers:
            raise ValueError("model: expected at least one dense layer, got none")
        if self.pending is not None:
            self.refuse_output(*self.pending[:2])
        return to_network(self.layers, self.applied)


def library_class(part: Any, root: str, method: str) -> str | None:
    """Return the name of the class below a package whose forward pass an object has.

    Parameters
    ----------
    part : object
    root : str
        The package, with dots.
    method : str
        Name of the method of the forward pass.

    Returns
    -------
    str or None
        None for other classes.
    """
    own = type(part)
    for cls in own.__mro__:
        if cls.__module__.partition(".")[0] == root.partition(".")[0]:
            inherited = getattr(own, method, None) is getattr(cls, method, None)
            return cls.__name__ if inherited and f"{cls.__module__}.".startswith(f"{root}.") else None
    return None


REORDER = "; give layers= for another order"


def collect(
    tensors: Mapping[str, tuple[str, str, Any]], layers: Any, dtype: np.dtype[Any] | None, *, transposed: bool
) -> list[Dense]:
    """Return the dense layers of a flat collection of parameters.

    Parameters
    ----------
    tensors : mapping of str to (layer, part, array)
        By the name a user knows; part is ``"weight"`` or ``"bias"``.
    layers : sequence of str or None
        See :func:`in_order`.
    dtype : numpy.dtype or None
        Precision to convert to; None takes parameters as they are.
    transposed : bool
        Whether weights have shape (M_in, M_out).

    Returns
    -------
    list of Dense
        From input to output; weights of shape (M_out, M_in).

    Raises
    ------
    ValueError, TypeError
        For a bias without a weight, and as of :func:`read_array` and :func:`in_order`.
    """
    found: dict[str, dict[str, FloatArray]] = {}
    for name, (layer, part, value) in tensors.items():
        array = read_array(value, name, 2 if part == "weight" else 1, dtype)
        found.setdefault(layer, {})[part] = devices.contiguous(array.T) if transposed and part == "weight" else array
    for name, (layer, _, _) in tensors.items():
        if "weight" not in found[layer]:
            raise ValueError(f"{name}: expected the weight of a dense layer beside its bias, got the bias alone")
    return [Dense(name, found[name]["weight"], found[name].get("bias")) for name in in_order(list(found), layers)]


def in_order(names: list[str], layers: Any) -> list[str]:
    """Return names of layers from input to output: as given, or by the numbers in them if they differ in nothing else.

    Libraries sort names by the alphabet when they store or map them, so the order they come in says nothing.

    Parameters
    ----------
    names : list of str
        Different ones, in any order.
    layers : sequence of str or None
        The same names from input to output; None goes by their numbers.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError, TypeError
        If there are no names, if None does not tell their order, or ``layers`` does not hold each of them once.
    """
    if not names:
        raise ValueError("expected the parameters of at least one dense layer, got none")
    listed = ", ".join(map(repr, sorted(names)))
    if layers is None:
        if len({re.sub(r"\d+", "#", name) for name in names}) > 1:
            raise ValueError(
                f"layers: expected the names of the layers from input to output, because their numbers do not tell "
                f"their order, got None; give layers=({listed}) in the right order"
            )
        return sorted(names, key=lambda name: [int(digits) for digits in re.findall(r"\d+", name)])
    given = list(as_sequence(layers, "layers", "the names of the layers from input to output"))
    if sorted(map(str, given)) != sorted(names):
        raise ValueError(f"layers: expected each of {listed} once, got {', '.join(map(repr, given))}")
    return [str(name) for name in given]
