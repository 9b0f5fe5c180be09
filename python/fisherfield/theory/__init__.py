"""Mean-field theory: what a random, wide network's Fisher information matrix looks like."""

from .bulk import BulkLaw
from .gaussian import Moments, PairMoments, QuadratureWarning, gauss_hermite, moments, pair_moments
from .inputs import InputStatistics, OrderParameters
from .isometry import IsometryPoint, TwoHiddenLayers, isometry_point, top_atom
from .metric import LayerSum, PredictedMetric
from .outputs import Betas
from .prediction import MeanField, WideOutputBounds, mean_field
from .single_layer import SingleHiddenLayer

__all__ = [
    "Betas",
    "BulkLaw",
    "InputStatistics",
    "IsometryPoint",
    "LayerSum",
    "MeanField",
    "Moments",
    "OrderParameters",
    "PairMoments",
    "PredictedMetric",
    "QuadratureWarning",
    "SingleHiddenLayer",
    "TwoHiddenLayers",
    "WideOutputBounds",
    "gauss_hermite",
    "isometry_point",
    "mean_field",
    "moments",
    "pair_moments",
    "top_atom",
]
