"""Computations that set theory beside measurement."""

from .isometry import (
    ConditionalComparison,
    DepthLaw,
    compare_conditional,
    learning_rate_boundary,
    rates_by_depth,
    top_mass,
)
from .spectrum import METRICS, SYMBOLS, SpectrumComparison, check_draws, compare, predicted_metric

__all__ = [
    "METRICS",
    "SYMBOLS",
    "ConditionalComparison",
    "DepthLaw",
    "SpectrumComparison",
    "check_draws",
    "compare",
    "compare_conditional",
    "learning_rate_boundary",
    "predicted_metric",
    "rates_by_depth",
    "top_mass",
]
