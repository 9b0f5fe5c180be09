"""Checks of user input: every error names the argument, what was expected, what came, and what to do."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import devices

Float = np.float32 | np.float64
FloatArray = npt.NDArray[np.floating[Any]]

__all__ = [
    "Float",
    "FloatArray",
    "as_dtype",
    "as_float_array",
    "as_floats",
    "as_generator",
    "as_momentum",
    "as_seeds",
    "as_sequence",
    "boolean",
    "choice",
    "non_negative",
    "number",
    "positive_int",
    "require_cpu",
    "require_finite",
    "same_device",
    "same_dtype",
]


def as_dtype(dtype: npt.DTypeLike, name: str = "dtype") -> np.dtype[Any]:
    """Return ``dtype`` as float32 or float64, the two precisions of the kernels."""
    try:
        resolved = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{name}: expected 'float32' or 'float64', got {dtype!r}") from error
    if resolved not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"{name}: expected 'float32' or 'float64', got {str(resolved)!r}")
    return resolved


def as_floats(value: Any, name: str) -> FloatArray:
    """Return ``value`` as a float32 or float64 array; lists of integers become float64, other dtypes are refused."""
    array: FloatArray = devices.as_array(value)
    if not hasattr(value, "dtype") and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(
            f"{name}: expected a float32 or float64 array, got dtype {array.dtype}; "
            f"convert it explicitly, for instance {name}.astype('float64')"
        )
    return array


def as_float_array(value: Any, name: str, *, ndim: int, shape: Sequence[int | None] | None = None) -> FloatArray:
    """Return ``value`` as a C-contiguous float32 or float64 array with finite entries and no empty axis.

    Lists of numbers become float64; an array of another dtype is refused rather than cast.
    """
    if np.ma.isMaskedArray(value) and np.ma.is_masked(value):
        raise ValueError(f"{name}: expected numbers only, got masked entries; fill or remove them")
    try:
        array = as_floats(value, name)
    except ValueError as error:
        raise ValueError(f"{name}: expected {ndim} dimensions, got rows of different lengths") from error
    devices.require_current(array, name)
    if array.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension{'s' * (ndim != 1)}, got shape {array.shape}")
    if shape is not None and any(
        want is not None and want != got for want, got in zip(shape, array.shape, strict=True)
    ):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: expected shape ({wanted}), got {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one entry along every axis, got shape {array.shape}")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}: expected finite numbers, got {array[where]} at index {where}")
    contiguous: FloatArray = devices.contiguous(array)
    return contiguous


def as_sequence(value: Any, name: str, expected: str) -> Sequence[Any]:
    """Return ``value`` if it is a list, tuple, array of at least one dimension or another sequence (not a string)."""
    if (isinstance(value, np.ndarray) or devices.is_cuda(value)) and value.ndim > 0:
        return list(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return value
    raise TypeError(f"{name}: expected {expected}, got {value!r}")


def same_dtype(arrays: Iterable[tuple[str, FloatArray]]) -> np.dtype[Any]:
    """Return the one dtype of all named arrays; mixed precision, or arrays on several devices, raise ``TypeError``."""
    pairs = list(arrays)
    first_name, first = pairs[0]
    for name, array in pairs[1:]:
        if array.dtype != first.dtype:
            raise TypeError(
                f"{name}: expected {first.dtype} like {first_name}, got {array.dtype}; "
                "give every array the same precision, for instance with .astype"
            )
        same_device((first_name, first), (name, array))
    return first.dtype


def same_device(reference: tuple[str, FloatArray], other: tuple[str, FloatArray]) -> None:
    """Refuse an array on another device than the reference."""
    wanted, found = (devices.name_of(array) for _, array in (reference, other))
    if wanted != found:
        move = "cupy.asnumpy" if wanted == "cpu" else "cupy.asarray"
        raise TypeError(
            f"{other[0]}: expected an array on {wanted} like {reference[0]}, got one on {found}; move it with {move} "
            f"(a network with net.to)"
        )


def require_cpu(array: Any, name: str, what: str) -> None:
    """Refuse an array on a GPU where only the processor works."""
    if devices.is_cuda(array):
        raise TypeError(
            f"{name}: expected one on the cpu, where alone {what}, got one on {devices.name_of(array)}; move it with "
            "net.to('cpu') or cupy.asnumpy"
        )


def require_finite(result: npt.ArrayLike, name: str) -> None:
    """Refuse a result that overflowed on the way from finite inputs."""
    if not np.isfinite(result).all():
        dtype = getattr(result, "dtype", np.dtype(np.float64))
        raise ValueError(
            f"{name}: expected finite numbers, got inf or NaN: squares of gradients overflow {dtype}; "
            "scale the inputs or weights down" + (", or use float64" if dtype == np.float32 else "")
        )


def positive_int(value: Any, name: str, *, minimum: int = 1) -> int:
    """Return ``value`` as an int of at least ``minimum``."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        integer = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from error
    if integer < minimum:
        raise ValueError(f"{name}: expected an integer >= {minimum}, got {integer}")
    return integer


def as_seeds(value: Any, name: str = "seeds") -> tuple[int, ...]:
    """Return ``value`` as different integers >= 0, at least one."""
    listed = as_sequence(value, name, "a sequence of integers")
    numbers = tuple(positive_int(seed, name, minimum=0) for seed in listed)
    if not numbers:
        raise ValueError(f"{name}: expected at least one seed, got none")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{name}: expected different seeds, got {', '.join(map(str, numbers))}")
    return numbers


def number(value: Any, name: str) -> float:
    """Return ``value`` as a finite float."""
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a number, got {value!r}") from error
    except OverflowError as error:
        raise ValueError(f"{name}: expected a number that a float64 can hold, got a larger one") from error
    if not math.isfinite(result):
        raise ValueError(f"{name}: expected a finite number, got {result}")
    return result


def non_negative(value: Any, name: str, *, strict: bool = False) -> float:
    """Return ``value`` as a finite float >= 0 (> 0 if ``strict``)."""
    result = number(value, name)
    if result < 0 or (strict and result == 0):
        raise ValueError(f"{name}: expected a number {'> 0' if strict else '>= 0'}, got {result}")
    return result


def as_momentum(value: Any, name: str = "momentum") -> float:
    """Return ``value`` as a coefficient of momentum, 0 <= mu < 1."""
    result = non_negative(value, name)
    if result >= 1:
        raise ValueError(f"{name}: expected 0 <= momentum < 1, got {result:g}")
    return result


def boolean(value: Any, name: str) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def choice(value: Any, name: str, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``allowed``."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def as_generator(seed: Any, name: str = "seed", *, stream: str = "") -> np.random.Generator:
    """Return a NumPy generator from an int, a ``Generator`` (used as it is) or None (fresh entropy).

    Streams of different names are independent of each other and of ``numpy.random.default_rng``, from the same int
    too: users draw network, inputs and targets from one and the same.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is None:
        return np.random.default_rng()
    return np.random.default_rng(
        np.random.SeedSequence(positive_int(seed, name, minimum=0), spawn_key=tuple(stream.encode()))
    )
