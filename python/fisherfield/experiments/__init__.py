"""Computations that set theory beside measurement."""

from .isometry import (
    ConditionalComparison,
    DepthLaw,
    compare_conditional,
    learning_rate_boundary,
    rates_by_depth,
    top_mass,
)
from .rates import CriticalLearningRate, critical_learning_rate
from .spectrum import METRICS, SYMBOLS, SpectrumComparison, check_draws, compare, predicted_metric
from .training import TrainingMap, training_map

__all__ = [
    "METRICS",
    "SYMBOLS",
    "ConditionalComparison",
    "CriticalLearningRate",
    "DepthLaw",
    "SpectrumComparison",
    "TrainingMap",
    "check_draws",
    "compare",
    "compare_conditional",
    "critical_learning_rate",
    "learning_rate_boundary",
    "predicted_metric",
    "rates_by_depth",
    "top_mass",
    "training_map",
]
