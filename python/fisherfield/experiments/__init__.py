"""Computations that set theory beside measurement."""

from .spectrum import METRICS, SYMBOLS, SpectrumComparison, check_draws, compare, predicted_metric

__all__ = ["METRICS", "SYMBOLS", "SpectrumComparison", "check_draws", "compare", "predicted_metric"]
