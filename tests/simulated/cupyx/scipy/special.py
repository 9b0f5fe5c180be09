"""Special functions of elements."""

from cupy._core import SPECIAL

globals().update(SPECIAL)
