"""cuBLAS of the stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _table
from ._core import ndarray, on_current_device, wrap


def gemm(
    transa: Any, transb: Any, a: ndarray, b: ndarray, out: ndarray | None = None, alpha: float = 1.0, beta: float = 0.0
) -> ndarray:
    """``out = alpha op(a) op(b) + beta out``; a new ``out`` is in Fortran's order."""
    assert a.ndim == b.ndim == 2
    assert a.dtype == b.dtype
    product = alpha * (_op(transa, a) @ _op(transb, b))
    return _written(product, a, out, beta)


def syrk(
    trans: Any, a: ndarray, out: ndarray | None = None, alpha: float = 1.0, beta: float = 0.0, lower: bool = False
) -> ndarray:
    """``out = alpha op(a) op(a)^T + beta out`` in one triangle; the other is left as it is."""
    assert a.ndim == 2
    half = np.tril if lower else np.triu
    rows = _op(trans, a)
    target = wrap(np.zeros((len(rows),) * 2, a.dtype, order="F")) if out is None else out
    rest = target._host - half(target._host)
    return _written(half(alpha * (rows @ rows.T) + (0 if out is None else beta) * target._host) + rest, a, target, 0.0)


def gemv(transa: Any, alpha: float, a: ndarray, x: ndarray, beta: float, y: ndarray) -> None:
    """``y = alpha op(a) x + beta y``."""
    assert a.dtype == x.dtype == y.dtype
    _written(alpha * (_op(transa, a) @ x._host), a, y, beta)


def _op(trans: Any, a: ndarray) -> np.ndarray:
    on_current_device([a])
    if a.dtype.char not in "fdFD":
        raise TypeError("invalid dtype")
    return {"N": a._host, "T": a._host.T, "H": a._host.T.conj()}[{0: "N", 1: "T", 2: "H"}.get(trans, trans)]


def _written(product: np.ndarray, a: ndarray, out: ndarray | None, beta: float) -> ndarray:
    if out is None:
        return wrap(np.asfortranarray(product.astype(a.dtype)))
    assert out.shape == product.shape
    assert out.dtype == a.dtype
    on_current_device([out])
    out._host[...] = product + (beta * out._host if beta else 0)
    return out


assert {"gemm", "gemv", "syrk"} == _table.SIGNATURES["cublas"].keys()
