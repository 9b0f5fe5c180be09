"""Activation functions with their first two derivatives: the built-in ones, and any Python callable."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import devices
from ._native import kernels
from ._validate import FloatArray, as_floats, as_sequence, number, positive_int, same_device

__all__ = ["Activation", "available", "custom", "elu", "get", "leaky_relu"]

Function = Callable[[Any], Any]

# Parameter of the built-in functions that have one: its name and default.
_PARAMETERS = {"leaky_relu": ("slope", 0.01), "elu": ("alpha", 1.0)}


@functools.cache
def _native(name: str, parameter: float | None) -> Any:
    return kernels.Activation(name, 0.0 if parameter is None else parameter)


def _require_built_in(name: str) -> None:
    if name not in available():
        close = difflib.get_close_matches(str(name), available(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"activation: expected one of {', '.join(available())}, got {name!r}{hint}")


@dataclass(frozen=True, repr=False)
class Activation:
    """An activation function phi, applied entry by entry, with its first and second derivative.

    Made by :func:`fisherfield.activations.get`, :func:`leaky_relu`, :func:`elu` or :func:`custom`;
    ``Activation(name)`` is ``get(name)``, and kinks and oddness of a built-in function are always its own. ``erf`` is
    the plain error function, ``gelu`` the exact ``u Phi(u)`` and ``shifted_relu`` is ``max(u, -1/2)``. Where a
    derivative does not exist the built-in functions take 0 for ``relu``, ``abs``, ``hard_tanh`` and ``shifted_relu``,
    and the derivative from the left for ``leaky_relu``, ``elu`` and ``selu``; second derivatives leave out the delta
    functions at the kinks. Infinite arguments give the limits (NaN for ``sin`` and ``cos``), NaN gives NaN.

    Attributes
    ----------
    name : str
        Name of the function.
    parameter : float or None
        Slope of ``leaky_relu`` (default 0.01), alpha of ``elu`` (default 1); None for the others.
    kinks : tuple of float
        Points, ascending, where phi or one of its derivatives jumps; integrals split there.
    is_odd : bool
        Whether ``phi(-u) == -phi(u)`` is known to hold for all u. Always False for custom functions.
    functions : tuple of callable or None
        ``(phi, phi', phi'')`` of a custom function; None for the built-in functions.

    Raises
    ------
    ValueError
        If the name of a function that is not custom is unknown, or its parameter is not finite or not one.

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
    functions: tuple[Function, Function, Function] | None = None

    def __post_init__(self) -> None:
        if self.functions:
            return
        _require_built_in(self.name)
        parameter = self.parameter
        if self.name in _PARAMETERS:
            label, default = _PARAMETERS[self.name]
            parameter = default if parameter is None else number(parameter, label)
        elif parameter is not None:
            raise ValueError(f"parameter: expected None, because {self.name} has no parameter, got {parameter!r}")
        native, set_field = _native(self.name, parameter), object.__setattr__
        set_field(self, "parameter", parameter)
        set_field(self, "kinks", native.kinks)
        set_field(self, "is_odd", native.is_odd)

    @property
    def native(self) -> Any:
        """Compiled ``kernels.Activation``, or None for a custom function."""
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
        array = as_floats(u, "u")
        if not array.flags.c_contiguous:  # ascontiguousarray would turn shape () into (1,)
            array = devices.contiguous(array)
        if positive_int(order, "order", minimum=0) > 2:
            raise ValueError(f"order: expected 0, 1 or 2, got {order}")
        if self.functions:
            labels = (self.name, f"first derivative of {self.name}", f"second derivative of {self.name}")
            return tuple(_apply(*pair, array) for pair in zip(self.functions[: order + 1], labels, strict=False))
        outputs: tuple[FloatArray, ...] = devices.of(array).evaluate(self.native, array, order)
        return outputs

    def __repr__(self) -> str:
        if self.functions:
            return f"Activation({self.name!r}, custom, kinks={self.kinks})"
        if self.parameter is None:
            return f"Activation({self.name!r})"
        return f"Activation({self.name!r}, {_PARAMETERS[self.name][0]}={self.parameter!r})"


def available() -> tuple[str, ...]:
    """Return the names of the built-in activation functions.

    Returns
    -------
    tuple of str
    """
    names: tuple[str, ...] = kernels.activation_names
    return names


def leaky_relu(slope: float = 0.01) -> Activation:
    """Return phi(u) = u for u > 0 and ``slope * u`` otherwise.

    Parameters
    ----------
    slope : float, default 0.01
        Derivative below zero.

    Returns
    -------
    Activation

    Raises
    ------
    ValueError, TypeError
        If the slope is no finite number.
    """
    return Activation("leaky_relu", number(slope, "slope"))


def elu(alpha: float = 1.0) -> Activation:
    """Return phi(u) = u for u > 0 and ``alpha * (exp(u) - 1)`` otherwise.

    Parameters
    ----------
    alpha : float, default 1.0
        The limit far below zero is ``-alpha``.

    Returns
    -------
    Activation

    Raises
    ------
    ValueError, TypeError
        If alpha is no finite number.
    """
    return Activation("elu", number(alpha, "alpha"))


def get(spec: str | Activation | Function) -> Activation:
    """Return the activation function that ``spec`` names.

    Parameters
    ----------
    spec : str, Activation or callable
        One of :func:`available`, an ``Activation`` (returned as it is), or a vectorised Python callable
        (see :func:`custom`).

    Returns
    -------
    Activation

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
        return Activation(spec)
    if callable(spec):
        return custom(spec)
    raise TypeError(f"activation: expected a name, an Activation or a callable, got {spec!r}")


def custom(
    function: Function,
    first: Function | None = None,
    second: Function | None = None,
    *,
    kinks: Sequence[float] = (),
    name: str | None = None,
) -> Activation:
    """Return an activation function made of vectorised Python callables.

    A derivative that is left out is computed by a nine-point difference formula in float64, which stays on
    one side of the kinks (at a kink: the left). For functions whose derivatives are of order 1 its error is
    near 1e-12 for a first derivative and 1e-10 for a second one from ``function`` alone; within 0.04 of a
    kink, where the formula is one-sided, near 1e-10 and 1e-8. A derivative that is given is checked against
    the formula on points of [-4, 4].

    Parameters
    ----------
    function, first, second : callable
        phi, phi' and phi''. Each takes an array of any shape and returns, entry by entry, an array of the
        same shape and dtype (float32 or float64).
    kinks : sequence of float, optional
        Points where phi or one of its derivatives jumps.
    name : str, optional
        Name to show; by default that of ``function``.

    Returns
    -------
    Activation

    Raises
    ------
    TypeError
        If an argument is not callable, or ``kinks`` is not a sequence of numbers.
    ValueError
        If a callable returns another shape or dtype or numbers that are not finite, if a given derivative
        contradicts the function, or if kinks lie too close together for a numerical derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield import activations
    >>> swish2 = activations.custom(lambda u: u / (1 + np.exp(-2 * u)), name="swish2")
    >>> swish2.evaluate(0.0, order=2)[2].round(8).item()
    1.0
    """
    for argument, value in (("function", function), ("first", first), ("second", second)):
        if not callable(value) and (value is not None or argument == "function"):
            raise TypeError(f"{argument}: expected a callable, got {value!r}")
    kinks = as_sequence(kinks, "kinks", "a sequence of numbers")
    points = tuple(sorted({number(kink, "kinks") for kink in kinks}))
    numerical_first = NumericalDerivative(function, 1, points)
    numerical_second = (
        NumericalDerivative(function, 2, points) if first is None else NumericalDerivative(first, 1, points)
    )
    _check_probe(function, "function", points)
    if first is not None:
        _check_derivative(first, "first", numerical_first)
    if second is not None:
        _check_derivative(second, "second", numerical_second)
    label = name if name is not None else getattr(function, "__name__", type(function).__name__)
    return Activation(label, kinks=points, functions=(function, first or numerical_first, second or numerical_second))


def _apply(function: Function, what: str, u: FloatArray) -> FloatArray:
    frozen = devices.read_only(u.view())  # no function may change what the next one is given
    values = devices.as_array(function(frozen))
    if values.shape != u.shape or values.dtype != u.dtype:
        raise ValueError(
            f"{what}: expected an array of the shape and dtype of u, {u.shape} and {u.dtype}, got "
            f"{values.shape} "
            f"and {values.dtype}; write it with NumPy functions that act entry by entry and keep the dtype"
        )
    same_device(("u", u), (what, values))
    contiguous: FloatArray = values if values.flags.c_contiguous else devices.contiguous(values)
    return contiguous


@dataclass(frozen=True)
class NumericalDerivative:
    """First or second derivative of a function that is smooth between its kinks, by a nine-point formula."""

    function: Function
    order: int
    kinks: tuple[float, ...]

    @property
    def step(self) -> float:
        # Balances rounding, eps / step**order, with truncation, step**8 times the ninth or tenth derivative.
        return 2.0**-9 if self.order == 1 else 2.0**-7

    def __post_init__(self) -> None:
        closest = min(np.diff(self.kinks), default=np.inf)
        if closest < _KINK_DISTANCE * self.step:
            raise ValueError(
                f"kinks: expected points at least {_KINK_DISTANCE * self.step:.3g} apart for a numerical "
                f"derivative, "
                f"got {closest:.3g}; pass the derivatives first and second"
            )

    def __call__(self, u: FloatArray) -> FloatArray:
        x = u.astype(np.float64)
        shift = np.zeros(x.shape, np.int64, like=x)
        for kink in self.kinks:
            near = np.abs(x - kink) < _REACH * self.step
            shift[near] = np.where(x[near] > kink, _REACH + 1, -_REACH - 1)
        result = np.empty_like(x)
        for centre in np.unique(shift):
            chosen = shift == centre
            result[chosen] = self._difference(x[chosen], int(centre))
        return result.astype(u.dtype)

    def _difference(self, x: FloatArray, centre: int) -> FloatArray:
        offsets = range(centre - _REACH, centre + _REACH + 1)
        total = np.zeros_like(x)
        for offset, weight in zip(offsets, _difference_weights(centre, self.order), strict=True):
            total += weight * _apply(self.function, "function", x + offset * self.step)
        return total / self.step**self.order


_REACH = 4  # the stencil is a centre with four points on either side; near a kink the centre moves away from it
_KINK_DISTANCE = 3 * _REACH + 1


@functools.cache
def _difference_weights(centre: int, order: int) -> tuple[float, ...]:
    """Return the weights of f(centre - 4), ..., f(centre + 4) in the derivative at 0 of their interpolant."""
    offsets = np.arange(centre - _REACH, centre + _REACH + 1)
    others = [np.delete(offsets, j) for j in range(len(offsets))]
    return tuple(
        float(math.factorial(order) * np.poly(rest)[-1 - order] / np.prod(offset - rest))
        for offset, rest in zip(offsets, others, strict=True)
    )


def _probe_points(kinks: tuple[float, ...]) -> FloatArray:
    usual_kinks = np.array([-1.0, 0.0, 1.0])  # so that one left out of kinks shows
    points = np.concatenate([np.linspace(-4.03, 4.01, 97), usual_kinks + 1e-3])
    return np.array([u for u in points if all(abs(u - kink) > 0.04 for kink in kinks)])


def _check_probe(function: Function, what: str, kinks: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    u = _probe_points(kinks)
    values = _apply(function, what, u)
    if not np.isfinite(values).all():
        j = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"{what}: expected finite values on [-4, 4], got {values[j]} at u = {u[j]:.6g}")
    return u, values


def _check_derivative(derivative: Function, what: str, numerical: NumericalDerivative) -> None:
    u, got = _check_probe(derivative, what, numerical.kinks)
    expected = numerical(u)
    scale = np.abs(expected) + np.abs(numerical.function(u)) + 1e-3
    worst = int(np.argmax(np.abs(got - expected) / scale))
    if abs(got[worst] - expected[worst]) > 1e-6 * scale[worst]:
        raise ValueError(
            f"{what}: expected {expected[worst]:.8g} at u = {u[worst]:.6g} (numerical derivative), got "
            f"{got[worst]:.8g}; correct {what}, leave it out to have it computed, or list the kinks of "
            f"the function"
        )
