"""Activation functions with their first two derivatives: the built-in ones, and any Python callable."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._native import kernels
from ._validate import FloatArray, number, positive_int

__all__ = ["Activation", "available", "custom", "elu", "get", "leaky_relu"]

Function = Callable[[Any], Any]

# Parameter of the built-in functions that have one: its name and default.
_PARAMETERS = {"leaky_relu": ("slope", 0.01), "elu": ("alpha", 1.0)}


@functools.cache
def _native(name: str, parameter: float | None) -> Any:
    return kernels.Activation(name, 0.0 if parameter is None else parameter)


@dataclass(frozen=True, repr=False)
class Activation:
    """An activation function phi, applied entry by entry, with its first and second derivative.

    Made by :func:`get`, :func:`leaky_relu`, :func:`elu` or :func:`custom`. Where a derivative does not exist the
    built-in functions take 0 for ``relu``, ``abs`` and ``hard_tanh``, and the derivative from the left for
    ``leaky_relu``, ``elu`` and ``selu``; second derivatives leave out the delta functions at the kinks. NaN gives NaN.

    Attributes
    ----------
    name : str
        Name of the function.
    parameter : float or None
        Slope of ``leaky_relu``, alpha of ``elu``; None for the others.
    kinks : tuple of float
        Points, ascending, where phi or one of its derivatives jumps; integrals split there.
    is_odd : bool
        Whether ``phi(-u) == -phi(u)`` is known to hold for all u. Always False for custom functions.
    functions : tuple of callable or None
        ``(phi, phi', phi'')`` of a custom function, None for a derivative that is computed numerically; None for
        the built-in functions.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield import activations
    >>> tanh = activations.get("tanh")
    >>> value, first = tanh.evaluate(np.array([0.0, 1.0]))
    >>> first.round(6).tolist()
    [1.0, 0.419974]
    """

    name: str
    parameter: float | None = None
    kinks: tuple[float, ...] = ()
    is_odd: bool = False
    functions: tuple[Function, Function | None, Function | None] | None = None

    @property
    def native(self) -> Any:
        """The compiled ``kernels.Activation``, or None for a custom function."""
        return None if self.functions else _native(self.name, self.parameter)

    def __call__(self, u: npt.ArrayLike) -> FloatArray:
        """Return phi(u), of the shape and dtype of ``u``."""
        return self.evaluate(u, order=0)[0]

    def evaluate(self, u: npt.ArrayLike, order: int = 1) -> tuple[FloatArray, ...]:
        """Return phi(u) and its derivatives up to ``order``.

        Parameters
        ----------
        u : array_like, any shape
            Where to evaluate; a float32 or float64 array, or Python numbers (taken as float64).
        order : {0, 1, 2}, default 1
            Highest derivative.

        Returns
        -------
        tuple of ndarray
            ``(phi(u), phi'(u), ...)``: ``order + 1`` arrays of the shape and dtype of ``u``.

        Raises
        ------
        TypeError
            If ``u`` has another dtype, or ``order`` is not an integer.
        ValueError
            If ``order`` is not 0, 1 or 2, or a custom callable returns an array of another shape or dtype.
        """
        array = _as_floats(u, "u")
        if positive_int(order, "order", minimum=0) > 2:
            raise ValueError(f"order: expected 0, 1 or 2, got {order}")
        if self.functions:
            return _evaluate_custom(self, array, order)
        outputs: tuple[FloatArray, ...] = self.native.evaluate(array, order)
        return outputs

    def __repr__(self) -> str:
        if self.functions:
            return f"Activation({self.name!r}, custom, kinks={self.kinks})"
        if self.parameter is None:
            return f"Activation({self.name!r})"
        return f"Activation({self.name!r}, {_PARAMETERS[self.name][0]}={self.parameter!r})"


def _as_floats(value: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(value)
    if not hasattr(value, "dtype") and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(
            f"{name}: expected a float32 or float64 array, got dtype {array.dtype}; "
            f"convert it explicitly, for instance {name}.astype('float64')"
        )
    # ascontiguousarray would turn shape () into (1,)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


# --- built-in functions -------------------------------------------------------------------------------------------


def available() -> tuple[str, ...]:
    """Return the names of the built-in activation functions."""
    names: tuple[str, ...] = kernels.activation_names
    return names


def _built_in(name: str, parameter: float | None = None) -> Activation:
    native = _native(name, parameter)
    return Activation(name, parameter, kinks=native.kinks, is_odd=native.is_odd)


def leaky_relu(slope: float = 0.01) -> Activation:
    """Return phi(u) = u for u > 0 and ``slope * u`` otherwise."""
    return _built_in("leaky_relu", number(slope, "slope"))


def elu(alpha: float = 1.0) -> Activation:
    """Return phi(u) = u for u > 0 and ``alpha * (exp(u) - 1)`` otherwise."""
    return _built_in("elu", number(alpha, "alpha"))


def get(spec: str | Activation | Function) -> Activation:
    """Return the activation function that ``spec`` names.

    Parameters
    ----------
    spec : str, Activation or callable
        One of :func:`available`, an ``Activation`` (returned as it is), or a vectorised Python callable
        (see :func:`custom`).

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If ``spec`` is neither a name nor callable.

    Examples
    --------
    >>> from fisherfield import activations
    >>> activations.get("relu").kinks
    (0.0,)
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        if spec not in available():
            close = difflib.get_close_matches(spec, available(), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"activation: expected one of {', '.join(available())}, got {spec!r}{hint}")
        return _built_in(spec, _PARAMETERS[spec][1] if spec in _PARAMETERS else None)
    if callable(spec):
        return custom(spec)
    raise TypeError(f"activation: expected a name, an Activation or a callable, got {spec!r}")


# --- custom functions ---------------------------------------------------------------------------------------------


def custom(
    function: Function,
    first: Function | None = None,
    second: Function | None = None,
    *,
    kinks: Sequence[float] = (),
    name: str | None = None,
) -> Activation:
    """Return an activation function made of vectorised Python callables."""
    points = tuple(sorted({number(kink, "kinks") for kink in kinks}))
    label = name if name is not None else getattr(function, "__name__", type(function).__name__)
    return Activation(label, kinks=points, functions=(function, first, second))


def _apply(function: Function, u: FloatArray, what: str) -> FloatArray:
    out = np.asarray(function(u))
    if out.shape != u.shape or out.dtype != u.dtype:
        raise ValueError(
            f"{what}: expected an array of the shape and dtype of u, {u.shape} and {u.dtype}, got {out.shape} and "
            f"{out.dtype}; write it with NumPy functions that act entry by entry and keep the dtype"
        )
    return out


def _difference(function: Callable[[FloatArray], FloatArray], u: FloatArray) -> FloatArray:
    h = 2e-3
    d1, d2, d3 = (function(u + k * h) - function(u - k * h) for k in (1, 2, 3))
    return np.asarray((45 * d1 - 9 * d2 + d3) / (60 * h), dtype=u.dtype)


def _evaluate_custom(phi: Activation, u: FloatArray, order: int) -> tuple[FloatArray, ...]:
    assert phi.functions is not None
    outputs = []
    previous: Callable[[FloatArray], FloatArray] | None = None
    for k, function in enumerate(phi.functions[: order + 1]):
        if function is not None:
            current = functools.partial(
                _apply, function, what=f"{phi.name}, derivative {k}" if k else phi.name
            )
        else:
            assert previous is not None
            current = functools.partial(_difference, previous)
        outputs.append(current(u))
        previous = current
    return tuple(outputs)
