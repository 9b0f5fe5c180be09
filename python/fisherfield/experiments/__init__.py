"""Computations that set theory beside measurement."""

from .spectrum import METRICS, SYMBOLS, SpectrumComparison, compare, predicted_metric

__all__ = ["METRICS", "SYMBOLS", "SpectrumComparison", "compare", "predicted_metric"]
