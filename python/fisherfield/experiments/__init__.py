"""Experiments: computations that set theory beside measurement, for the command line, scripts and notebooks."""

from .spectrum import SpectrumComparison, compare

__all__ = ["SpectrumComparison", "compare"]
