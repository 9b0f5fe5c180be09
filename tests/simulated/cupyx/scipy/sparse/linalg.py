"""Operators and their eigenvectors; a strict subset of CuPy's."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np
from scipy.sparse import linalg


class LinearOperator:
    """A matrix known by its products, given as functions or by a subclass's ``_matvec`` or ``_matmat``."""

    ndim = 2

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(Given if cls is LinearOperator else cls)

    def __init__(self, dtype: Any, shape: Any) -> None:
        self.dtype, self.shape = None if dtype is None else np.dtype(dtype), tuple(shape)

    def _init_dtype(self) -> None:
        if self.dtype is None:
            self.dtype = self.matvec(cupy.zeros(self.shape[-1])).dtype

    def _matmat(self, X: Any) -> Any:
        return cupy.hstack([self.matvec(column.reshape(-1, 1)) for column in X.T])

    def _matvec(self, x: Any) -> Any:
        return self.matmat(x.reshape(-1, 1))

    def matvec(self, x: Any) -> Any:
        rows, columns = self.shape
        if x.shape not in ((columns,), (columns, 1)):
            raise ValueError("dimension mismatch")
        return self._matvec(x).reshape(*(rows, 1)[: x.ndim])

    def matmat(self, X: Any) -> Any:
        if X.ndim != 2 or len(X) != self.shape[1]:
            raise ValueError(f"dimension mismatch: {self.shape}, {X.shape}")
        return self._matmat(X)

    def rmatvec(self, x: Any) -> Any:
        return self.H.matvec(x)

    def rmatmat(self, X: Any) -> Any:
        return self.H.matmat(X)

    def _adjoint(self) -> LinearOperator:
        return Adjoint(self)

    def __matmul__(self, x: Any) -> Any:
        return self.matvec(x) if x.ndim == 1 or x.shape[1] == 1 else self.matmat(x)

    H = property(lambda self: self._adjoint())
    dot = __call__ = __mul__ = __matmul__


class Given(LinearOperator):
    """An operator given by functions."""

    def __init__(
        self, shape: Any, matvec: Any, rmatvec: Any = None, matmat: Any = None, dtype: Any = None, rmatmat: Any = None
    ) -> None:
        super().__init__(dtype, shape)
        self._forth, self._back = (matvec, matmat), (rmatvec, rmatmat)
        self._init_dtype()

    def _matvec(self, x: Any) -> Any:
        if self._forth[0] is None:
            raise NotImplementedError("rmatvec is not defined")
        return self._forth[0](x)

    def _matmat(self, X: Any) -> Any:
        return super()._matmat(X) if self._forth[1] is None else self._forth[1](X)

    def _adjoint(self) -> LinearOperator:
        forth, back = self._forth, self._back
        return Given(self.shape[::-1], back[0], forth[0], back[1], self.dtype, forth[1])


class Adjoint(LinearOperator):
    """The adjoint of a subclass that has ``_rmatvec`` or ``_rmatmat``."""

    def __init__(self, of: LinearOperator) -> None:
        super().__init__(of.dtype, of.shape[::-1])
        self._of = of

    def _matvec(self, x: Any) -> Any:
        return self._of._rmatvec(x)

    def _matmat(self, X: Any) -> Any:
        return self._of._rmatmat(X)


class MatrixLinearOperator(LinearOperator):
    """A matrix."""

    def __init__(self, A: Any) -> None:
        super().__init__(A.dtype, A.shape)
        self.A = A

    def _matmat(self, X: Any) -> Any:
        return self.A.dot(X)

    def _adjoint(self) -> LinearOperator:
        return MatrixLinearOperator(self.A.T.conj())


def aslinearoperator(A: Any) -> LinearOperator:
    """An operator, a matrix, or an object with ``shape`` and ``matvec`` as an operator."""
    if isinstance(A, LinearOperator):
        return A
    if isinstance(A, cupy.ndarray):
        if A.ndim > 2:
            raise ValueError("array must have ndim <= 2")
        return MatrixLinearOperator(cupy.atleast_2d(A))
    if hasattr(A, "shape") and hasattr(A, "matvec"):
        others = {name: getattr(A, name, None) for name in ("rmatvec", "dtype")}
        return LinearOperator(A.shape, A.matvec, **others)
    raise TypeError("type not understood")


def eigsh(
    a: Any,
    k: int = 6,
    *,
    which: str = "LM",
    v0: Any = None,
    ncv: int | None = None,
    maxiter: int | None = None,
    tol: float = 0,
    return_eigenvectors: bool = True,
) -> Any:
    """As SciPy's, ascending; ``v0`` is overwritten, and what has not converged is returned as it is."""
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(f"expected square matrix (shape: {a.shape})")
    if a.dtype.char not in "fdFD":
        raise TypeError(f"unsupported dtype (actual: {a.dtype})")
    if not 0 < k < a.shape[0]:
        raise ValueError(f"k must be greater than 0 and smaller than n (actual: {k})")
    if which not in ("LM", "LA", "SA"):
        raise ValueError(f"which must be 'LM','LA'or'SA' (actual: {which})")

    def product(x: np.ndarray) -> np.ndarray:
        return cupy._core.ndarray.get(a @ cupy._core.wrap(x.copy()))

    operator = linalg.LinearOperator(a.shape, matvec=product, dtype=a.dtype)
    start = None if v0 is None else v0._host.copy()
    before = len(cupy.simulation.transfers.to_host)
    try:
        values, vectors = linalg.eigsh(operator, k, which=which, v0=start, maxiter=maxiter, tol=tol)
    except linalg.ArpackNoConvergence:
        values, vectors = np.full(k, np.nan, a.dtype), np.full((a.shape[0], k), np.nan, a.dtype)
    del cupy.simulation.transfers.to_host[before:]
    if v0 is not None:
        v0.fill(np.nan)
    order = np.argsort(values)
    found = cupy._core.wrap(values[order]), cupy._core.wrap(vectors[:, order])
    return found if return_eigenvectors else found[0]
