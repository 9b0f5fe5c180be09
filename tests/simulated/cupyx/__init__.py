"""What CuPy offers besides NumPy's functions."""

import contextlib
from collections.abc import Iterator
from typing import Any

from cupy.linalg import state


@contextlib.contextmanager
def errstate(*, linalg: Any = None, **others: Any) -> Iterator[None]:
    """With ``linalg="raise"`` failures of cuSOLVER are errors."""
    before = state["linalg"]
    state["linalg"] = linalg
    try:
        yield
    finally:
        state["linalg"] = before


def scatter_add(a: Any, slices: Any, value: Any) -> None:
    """``a[slices] += value``, also where indices repeat."""
    a.scatter_add(slices, value)
