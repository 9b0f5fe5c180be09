"""Arrays of the stand-in, and how NumPy's functions are called on them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy import special as scipy_special

from . import _device, _table

SCALARS = (bool, int, float, complex, np.generic)
DTYPES = "?bhilqBHILQefdFD"
IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
# answers about arrays that are no arrays
ON_HOST = {
    *("broadcast_shapes", "can_cast", "iscomplexobj", "isrealobj", "isscalar", "may_share_memory", "min_scalar_type"),
    *("ndim", "result_type", "shape", "shares_memory", "size"),
}
# they launch no kernel: the array may lie on any device
VIEWS = ON_HOST | {
    *("broadcast_to", "diagonal", "expand_dims", "matrix_transpose", "moveaxis", "permute_dims", "reshape", "rollaxis"),
    *("squeeze", "swapaxes", "transpose", "view"),
}
JOINING = {"column_stack", "concat", "concatenate", "dstack", "hstack", "stack", "vstack"}
REDUCED = {"add": "sum", "multiply": "prod"}
ACCUMULATED = {"add": "cumsum", "multiply": "cumprod"}
SCATTERED = {"add", "maximum", "minimum"}


class Pointer:
    """Where an array's data lie."""

    def __init__(self, ptr: int, memory: _device.Memory) -> None:
        self.ptr, self.mem, self.device_id = ptr, memory, memory.device

    @property
    def device(self) -> Any:
        from .cuda import Device

        return Device(self.device_id)

    def __int__(self) -> int:
        return self.ptr


class Flags:
    """Contiguity; as CuPy's it takes any attribute and ignores it."""

    def __init__(self, flags: Any) -> None:
        self.c_contiguous, self.f_contiguous = flags.c_contiguous, flags.f_contiguous
        self.owndata, self.forc = flags.owndata, flags.forc

    def __getitem__(self, name: str) -> bool:
        return bool(getattr(self, name.lower()))


class ndarray:
    """An array on a simulated device: it mixes with no other kind, and only ``get()`` brings it to the host."""

    __slots__ = ("__weakref__", "_host", "_memory")
    __array_priority__ = 100

    _host: np.ndarray
    _memory: _device.Memory

    def __new__(cls, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C") -> Any:
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in makes no arrays from pointers or strides")
        return wrap(poisoned(np.empty(shape, dtype, order)))

    # --- what it is -------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        self._host = self._host.reshape(shape, copy=False)

    @property
    def data(self) -> Pointer:
        return Pointer(self._host.ctypes.data, self._memory)

    @property
    def device(self) -> Any:
        return self.data.device

    @property
    def flags(self) -> Flags:
        return Flags(self._host.flags)

    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    T = property(lambda self: wrap(self._host.T, self))
    mT = property(lambda self: wrap(self._host.mT, self))
    real = property(lambda self: answered(self._host.real, [self]))
    imag = property(lambda self: wrap(self._host.imag, self))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "strides": None if self._host.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
            "version": 3,
            "stream": 1,
        }

    # --- to and from the host ---------------------------------------------------------------------------

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        _device.transfers.to_host.append(self.nbytes)
        if out is None:
            return self._host.copy(order)
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        if out.dtype != self.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        if out.shape != self.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        out[...] = self._host
        return out

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._host.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        _device.transfers.to_device.append(arr.nbytes)
        self._host[...] = arr

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(IMPLICIT)

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        return bool(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __reduce__(self) -> Any:
        return array, (self.get(),)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.data.device_id

    def __dlpack__(self, **options: Any) -> Any:
        return Capsule(self)

    # --- elements ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> ndarray:
        found, advanced = as_index(index)
        if advanced:
            on_current_device([self, *arrays_in(index)])
        return wrap(self._host[found], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        found, advanced = as_index(index)
        on_current_device([self, *arrays_in(index), *arrays_in(value)])
        if isinstance(value, ndarray):
            self._host[found] = value._host
        elif isinstance(value, SCALARS):
            self._host[found] = value
        elif advanced:
            sent = np.asarray(value)
            _device.transfers.to_device.append(sent.nbytes)
            self._host[found] = sent
        else:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")

    def fill(self, value: Any) -> None:
        self[...] = value

    # --- copies -----------------------------------------------------------------------------------------

    def astype(self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True) -> Any:
        if casting is not None:
            raise TypeError("casting is not supported yet")
        if subok is not None:
            raise TypeError("subok is not supported yet")
        on_current_device([self])
        found = self._host.astype(checked(np.dtype(dtype)), order=order, copy=copy)
        return self if found is self._host else wrap(found, self)

    def copy(self, order: str = "C") -> ndarray:
        return on_device(self, order)

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return wrap(self._host.view() if dtype is None else self._host.view(dtype), self)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    def take(self, indices: Any, axis: int | None = None, out: ndarray | None = None) -> Any:
        return take(self, indices, axis, out)

    def scatter_add(self, slices: Any, value: Any) -> None:
        UFUNCS["add"].at(self, slices, value)

    # --- NumPy's protocols ------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        found = UFUNCS.get(ufunc.__name__) or SPECIAL.get(ufunc.__name__)
        if ufunc is np.matmul:
            found = matmul
        if found is None:
            return NotImplemented
        if "out" in kwargs:
            if len(kwargs["out"]) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            (kwargs["out"],) = kwargs["out"]
        if method != "__call__":
            return getattr(found, method)(*inputs, **kwargs)
        if not all(isinstance(x, (ndarray, np.ndarray, *SCALARS)) for x in inputs):
            return NotImplemented
        if ufunc.__name__ in COMPARED.values():
            inputs = tuple(x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs)
        if "where" in kwargs:
            kwargs["_where"] = kwargs.pop("where")
        return found(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        import cupy

        path = [*function.__module__.split(".")[1:], function.__name__]
        try:
            found = functools.reduce(getattr, path, cupy)
        except AttributeError:
            return NotImplemented
        if found is function or not all(kind in (ndarray, np.ndarray) for kind in types):
            return NotImplemented
        return found(*args, **kwargs)

    __hash__ = None  # type: ignore[assignment]


class Capsule:
    """What ``__dlpack__`` hands out; ``from_dlpack`` takes it back."""

    def __init__(self, held: ndarray) -> None:
        self.held = held


ndarray.__module__ = "cupy"


# --- in and out ---------------------------------------------------------------------------------------------


def checked(dtype: np.dtype) -> np.dtype:
    if dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def poisoned(host: np.ndarray) -> np.ndarray:
    """What fresh memory holds: anything, so that nothing may rely on it."""
    host.fill(np.nan if host.dtype.kind in "fc" else 1)
    return host


def wrap(host: Any, *parents: ndarray) -> Any:
    """An array of the stand-in around one of NumPy: a view of a parent's memory if it is one, else a new one."""
    host = np.asarray(host)
    checked(host.dtype)
    root = host
    while isinstance(root.base, np.ndarray):
        root = root.base
    made = object.__new__(ndarray)
    made._host = host
    for parent in parents:
        if parent._memory.host is root:
            made._memory = parent._memory
            return made
    made._memory = _device.Memory(root, _device.current())
    return made


def wrapped(found: Any, parents: list[ndarray]) -> Any:
    """The same of an answer with arrays in it."""
    if isinstance(found, (np.ndarray, *SCALARS)):
        return wrap(found, *parents)
    if isinstance(found, list):
        return [wrapped(part, parents) for part in found]
    return tuple(wrapped(part, parents) for part in found) if isinstance(found, tuple) else found


def unwrapped(value: Any) -> Any:
    """What NumPy computes with; arrays of NumPy are refused."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        return type(value)(unwrapped(part) for part in value)
    return value


def arrays_in(value: Any) -> list[ndarray]:
    if isinstance(value, ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for part in value for found in arrays_in(part)] if isinstance(value, (list, tuple)) else []


def in_range(numbers: list[int], arrays: list[ndarray]) -> None:
    """Refuse Python's integers that the arrays' dtype cannot hold; CuPy compares with what is left of them in it."""
    dtype = np.result_type(*(found.dtype for found in arrays))
    for number in numbers:
        if dtype.kind in "iu" and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
            raise OverflowError(f"Python integer {number} out of bounds for {dtype}")


def on_current_device(arrays: list[ndarray]) -> None:
    """Refuse arrays of another device; CuPy reads them where the hardware lets it, and warns."""
    device = _device.current()
    for found in arrays:
        if found.data.device_id != device:
            raise ValueError(
                f"The device where the array resides ({found.data.device_id}) is different from the current device "
                f"({device}). Peer access is unavailable between these devices."
            )


def as_index(index: Any) -> tuple[Any, bool]:
    """An index for NumPy that gives an array, also of no dimensions, and whether it gathers elements."""
    parts = list(index) if isinstance(index, tuple) else [index]
    advanced = False
    for i, part in enumerate(parts):
        if isinstance(part, ndarray):
            parts[i], advanced = part._host, True
        elif isinstance(part, (np.ndarray, list, tuple)):
            parts[i], advanced = np.asarray(part if len(part) else np.empty(0, int)), True
            _device.transfers.to_device.append(parts[i].nbytes)
        elif isinstance(part, (bool, np.bool_)):
            advanced = True
    if Ellipsis not in [part for part in parts if part is Ellipsis]:
        parts.append(Ellipsis)
    return tuple(parts), advanced


# --- functions ----------------------------------------------------------------------------------------------


def function(section: str, name: str, on_host: Any) -> Any:
    """CuPy's function: called as the table says, computed by NumPy's."""

    @functools.wraps(on_host, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        _table.check(section, name, args, kwargs)
        parents = arrays_in([*args, kwargs])
        if name not in VIEWS:
            on_current_device(parents)
        if name in JOINING and any(not isinstance(part, ndarray) for part in args[0]):
            raise TypeError("Only cupy arrays can be concatenated")
        if name == "einsum" and (unknown := kwargs.keys() - {"dtype", "optimize"}):
            raise TypeError(f"Did not understand the following kwargs: {sorted(unknown)}")
        hosts, options = unwrapped(args), {key: unwrapped(value) for key, value in kwargs.items()}
        with np.errstate(all="ignore"):
            found = on_host(*hosts, **options)
        if name == "einsum" and found.ndim > 1 and found.base is None:
            found = np.asfortranarray(found)  # CuPy leaves its axes as the products of matrices gave them
        return found if name in ON_HOST else answered(found, parents)

    return call


def answered(found: Any, parents: list[ndarray]) -> Any:
    """The argument that the answer was written to, else the answer as an array of the stand-in."""
    for parent in parents:
        if found is parent._host:
            return parent
    return wrapped(found, parents)


class ufunc:
    """A function of elements."""

    def __init__(self, section: str, name: str, on_host: Any) -> None:
        self.section, self.name, self.__name__, self.on_host = section, f"cupy_{name}", name, on_host

    def __call__(self, *args: Any, _where: Any = True, **kwargs: Any) -> Any:
        _table.check(self.section, self.__name__, args, kwargs)
        for value in (*args, *([kwargs["out"]] if kwargs.get("out") is not None else []), _where):
            if not isinstance(value, (ndarray, tuple, *SCALARS)):
                raise TypeError(f"Unsupported type {type(value)}")
        parents = arrays_in([*args, kwargs, _where])
        on_current_device(parents)
        if self.__name__ in COMPARED.values():
            in_range([value for value in args if type(value) is int], parents)
        options = {key: unwrapped(value) for key, value in kwargs.items()}
        if _where is not True:
            options["where"] = unwrapped(_where)
            options.setdefault("out", None)
        with np.errstate(all="ignore"):
            return answered(self.on_host(*unwrapped(args), **options), parents)

    def outer(self, A: Any, B: Any, **kwargs: Any) -> Any:
        return self(wrap(A._host.reshape(A.shape + (1,) * B.ndim), A), B, **kwargs)

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        if self.__name__ not in REDUCED:
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return getattr(array, REDUCED[self.__name__])(axis, dtype, out, keepdims)

    def accumulate(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        if self.__name__ not in ACCUMULATED:
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return getattr(array, ACCUMULATED[self.__name__])(axis, dtype, out)

    def reduceat(self, array: ndarray, indices: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        if self.__name__ != "add":
            raise NotImplementedError(f"`{self.name}.reduceat` is not supported yet")
        return wrap(np.add.reduceat(array._host, unwrapped(indices), axis, dtype), array)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.__name__ not in SCATTERED:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        on_current_device(arrays_in([a, indices, b]))
        self.on_host.at(a._host, as_index(indices)[0], unwrapped(b))


def method(name: str) -> Any:
    """A method of arrays: called as the table says, computed by NumPy's."""

    def call(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        _table.check("ndarray", name, (self, *args), kwargs)
        parents = [self, *arrays_in([*args, kwargs])]
        if name not in VIEWS:
            on_current_device(parents)
        hosts, options = unwrapped(args), {key: unwrapped(value) for key, value in kwargs.items()}
        with np.errstate(all="ignore"):
            return answered(getattr(self._host, name)(*hosts, **options), parents)

    call.__name__ = name
    return call


def binary(name: str, reflected: bool = False, inplace: bool = False) -> Any:
    """An operator: the ufunc, for arrays of the stand-in and scalars; arrays of NumPy are refused."""

    def call(self: ndarray, other: Any) -> Any:
        if not isinstance(other, (ndarray, np.ndarray, list, *SCALARS)):
            return NotImplemented
        compute = matmul if name == "matmul" else UFUNCS[name]
        options = {"out": self} if inplace else {}
        return compute(*((other, self) if reflected else (self, other)), **options)

    return call


def unary(name: str) -> Any:
    return lambda self: UFUNCS[name](self)


UFUNCS = {name: ufunc("ufuncs", name, getattr(np, name)) for name in _table.SIGNATURES["ufuncs"] if hasattr(np, name)}
SPECIAL = {
    name: ufunc("special", name, getattr(scipy_special, name))
    for name in _table.SIGNATURES["special"]
    if hasattr(scipy_special, name)
}
FUNCTIONS = {
    name: function("functions", name, getattr(np, name)) for name in _table.SIGNATURES["functions"] if hasattr(np, name)
}
matmul = FUNCTIONS["matmul"]

for _name in _table.SIGNATURES["ndarray"]:
    if _name not in ndarray.__dict__ and hasattr(np.ndarray, _name):
        setattr(ndarray, _name, method(_name))
BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide"}
BINARY |= {"mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
COMPARED = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
for _name, _ufunc in BINARY.items():
    setattr(ndarray, f"__{_name}__", binary(_ufunc))
    setattr(ndarray, f"__r{_name}__", binary(_ufunc, reflected=True))
    setattr(ndarray, f"__i{_name}__", binary(_ufunc, inplace=True))
ndarray.__matmul__, ndarray.__rmatmul__ = binary("matmul"), binary("matmul", reflected=True)
for _name, _ufunc in COMPARED.items():
    setattr(ndarray, f"__{_name}__", binary(_ufunc))
for _name, _ufunc in {"neg": "negative", "abs": "absolute", "invert": "invert", "pos": "positive"}.items():
    setattr(ndarray, f"__{_name}__", unary(_ufunc))


# --- creation -----------------------------------------------------------------------------------------------


def array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: Any = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    """As NumPy's; from the host it is a copy to the current device, from another device also."""
    if subok:
        raise NotImplementedError
    order = order or "K"
    if isinstance(obj, ndarray):
        here = on_device(obj, order) if copy or obj.data.device_id != _device.current() else obj
        found = here if dtype is None else here.astype(dtype, copy=False)
        return found if found.ndim >= ndmin else wrap(np.array(found._host, copy=None, ndmin=ndmin), found)
    if hasattr(obj, "__cuda_array_interface__"):
        return array(of_interface(obj), dtype, copy, order, ndmin=ndmin)
    if found := arrays_in(obj):
        on_current_device(found)
        return wrap(np.array(unwrapped(obj), dtype, order=order, ndmin=ndmin))
    host = np.array(obj, dtype, order=order, ndmin=ndmin)
    checked(host.dtype)
    _device.transfers.to_device.append(host.nbytes)
    return wrap(host)


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False) -> ndarray:
    """As NumPy's."""
    return array(a, dtype, bool(copy), order)


def on_device(a: ndarray, order: str = "C") -> ndarray:
    """A copy on the current device."""
    copied = wrap(np.array(a._host, order=order, copy=True))
    if a.data.device_id != copied.data.device_id:
        _device.transfers.between_devices.append(a.nbytes)
    return copied


def of_interface(obj: Any) -> ndarray:
    """A view of what an object of another library offers by the CUDA array interface."""
    if isinstance(obj, ndarray):
        return obj
    described = type("Described", (), {"__array_interface__": obj.__cuda_array_interface__})()
    view = np.asarray(described)
    made = object.__new__(ndarray)
    made._host = view
    made._memory = _device.Memory(view, _device.current(), owned=False)
    return made


def from_dlpack(array: Any, /, *, device: Any = None, copy: Any = None) -> ndarray:
    """A view of what an object of another library offers by DLPack; it must lie on a device."""
    kind, _ = array.__dlpack_device__()
    if kind != 2:
        raise RuntimeError("CPU arrays cannot be directly imported to CuPy. Use `cupy.array(numpy.from_dlpack(input))`")
    return wrap(array.__dlpack__(stream=1).held._host, array.__dlpack__(stream=1).held)


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    """A copy on the host."""
    if isinstance(a, ndarray):
        return a.get(order=order, out=out)
    return np.asarray(a, order=order)


def take(a: ndarray, indices: Any, axis: int | None = None, out: ndarray | None = None) -> Any:
    """As NumPy's; the indices may lie on the host."""
    on_current_device(arrays_in([a, indices, out]))
    (found, *_), _ = as_index(indices)
    return answered(np.take(a._host, found, axis, unwrapped(out)), arrays_in([a, out]))


def uninitialised(on_host: Any, name: str) -> Any:
    """``empty`` and ``empty_like``: their memory holds anything."""
    call = function("functions", name, on_host)

    @functools.wraps(on_host, updated=())
    def made(*args: Any, **kwargs: Any) -> ndarray:
        found = call(*args, **kwargs)
        poisoned(found._host)
        return found

    return made


FUNCTIONS |= {"array": array, "asarray": asarray, "asanyarray": asarray, "asnumpy": asnumpy, "take": take}
for _name in ("empty", "empty_like"):
    FUNCTIONS[_name] = uninitialised(getattr(np, _name), _name)
