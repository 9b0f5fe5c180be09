"""Computations that set theory beside measurement."""

from .spectrum import SpectrumComparison, compare

__all__ = ["SpectrumComparison", "compare"]
