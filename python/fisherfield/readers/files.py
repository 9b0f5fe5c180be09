"""Networks from files of named tensors."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..architecture import ActivationLike
from ..network import Network
from .stack import REORDER, collect, optional_dtype, refuse_precision, to_network

__all__ = ["load"]

Stored = dict[str, tuple[str, Any]]  # by name, the precision a tensor was stored in and its values

# precisions of safetensors: name, and how NumPy reads them; bfloat16 is the upper half of a float32
_CODES = {"F64": ("float64", "<f8"), "F32": ("float32", "<f4"), "F16": ("float16", "<f2"), "BF16": ("bfloat16", "<u2")}
_NAME = re.compile(r"(?:(?P<layer>.+)\.(?P<part>weight|bias))|(?P<letter>[Wb])(?P<number>\d+)")


def load(
    path: str | os.PathLike[str],
    *,
    activation: ActivationLike | Sequence[ActivationLike],
    layers: Sequence[str] | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Network:
    """Read a network from a ``.safetensors`` or ``.npz`` file.

    Parameters
    ----------
    path : str or path
        A file with tensors named as in a state dict of PyTorch (``0.weight``, ``0.bias``, ``2.weight``, ... or
        ``layers.0.weight``, ...) or ``W1, b1, W2, b2, ...``. Weights have shape (M_out, M_in), biases (M_out,).
        ``.safetensors`` files need the extra ``safetensors``.
    activation : str, Activation, callable, or a sequence with one of these per hidden layer
        Files do not know it. See :func:`fisherfield.activations.get`.
    layers : sequence of str, optional
        Names of the layers from input to output, ``"encoder.0"`` for ``encoder.0.weight``, ``"1"`` for ``W1``. Needed
        unless the names differ in their numbers alone: files do not keep the order.
    dtype : {"float32", "float64"}, optional
        Precision to convert the parameters to. Default: as they are, float32 or float64.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        For other files, names of tensors and shapes, names without an order, and biases in some layers only.
    TypeError
        If tensors are neither float32 nor float64 and no ``dtype`` is given.
    OSError
        If the file cannot be read.
    ImportError
        Without safetensors: ``pip install 'fisherfield[safetensors]'``.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from fisherfield.readers import load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/net.npz", W1=np.ones((5, 3)), b1=np.zeros(5), W2=np.ones((2, 5)), b2=np.zeros(2))
    ...     load(f"{folder}/net.npz", activation="tanh")
    Network(widths=(3, 5, 2), activation=tanh, biases=True, dtype=float64)
    """
    file = Path(path)
    read = _FORMATS.get(file.suffix.lower())
    if read is None:
        hint = (
            "; load it with torch and give the model to from_torch, or write it with safetensors.torch.save_file"
            if file.suffix.lower() in (".pt", ".pth", ".bin", ".ckpt")
            else ""
        )
        raise ValueError(f"path: expected a file ending in {', '.join(_FORMATS)}, got {file.name!r}{hint}")
    if not file.is_file():
        raise FileNotFoundError(f"path: no such file: {file}")
    wanted, tensors = optional_dtype(dtype), {}
    for name, (precision, value) in read(file).items():
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(
                f"{name}: expected a tensor named like '0.weight', '0.bias', 'W1' or 'b1', got another in {file.name}; "
                "networks of dense layers alone are supported"
            )
        if wanted is None and precision == "bfloat16":
            refuse_precision(name, precision)
        part = found["part"] or {"W": "weight", "b": "bias"}[found["letter"]]
        tensors[name] = (found["layer"] or found["number"], part, value)
    return to_network(collect(tensors, layers, wanted, transposed=False), activation, reorder=REORDER)


def _read_safetensors(path: Path) -> Stored:
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError as error:
        raise ImportError(
            ".safetensors files need the package of that name: pip install 'fisherfield[safetensors]'"
        ) from error
    try:
        return {name: _tensor(name, entry) for name, entry in deserialize(path.read_bytes())}
    except SafetensorError as error:
        raise ValueError(f"{path.name}: cannot be read as a safetensors file: {error}") from error


def _tensor(name: str, entry: dict[str, Any]) -> tuple[str, Any]:
    kind = entry["dtype"]
    if kind not in _CODES:
        refuse_precision(name, kind)
    precision, code = _CODES[kind]
    values = np.frombuffer(entry["data"], code).reshape(entry["shape"])
    return precision, (values.astype("<u4") << 16).view("<f4") if kind == "BF16" else values


def _read_npz(path: Path) -> Stored:
    try:
        with path.open("rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise ValueError("expected named arrays, got a single one")
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path.name}: cannot be read as a NumPy file of named numbers: {error}") from error
    return {name: (array.dtype.name, array) for name, array in arrays.items()}


_FORMATS: dict[str, Callable[[Path], Stored]] = {".safetensors": _read_safetensors, ".npz": _read_npz}
