"""Mean-field theory: what a random, wide network's Fisher information matrix looks like."""

from .bulk import BulkLaw
from .gaussian import Moments, PairMoments, QuadratureWarning, gauss_hermite, moments, pair_moments
from .inputs import InputStatistics, OrderParameters
from .metric import LayerSum, PredictedMetric
from .outputs import Betas
from .prediction import MeanField, WideOutputBounds, mean_field

__all__ = [
    "Betas",
    "BulkLaw",
    "InputStatistics",
    "LayerSum",
    "MeanField",
    "Moments",
    "OrderParameters",
    "PairMoments",
    "PredictedMetric",
    "QuadratureWarning",
    "WideOutputBounds",
    "gauss_hermite",
    "mean_field",
    "moments",
    "pair_moments",
]
