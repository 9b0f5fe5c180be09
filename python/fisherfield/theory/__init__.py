"""Mean-field theory: what a random, wide network's Fisher information matrix looks like."""

from .bulk import BulkLaw
from .conditional import ConditionalSpectrum, conditional_spectrum, layered_law
from .discrete_law import Atoms, DiscreteLaw
from .free_law import ConvergenceWarning, FreeLaw, Transform
from .gaussian import Moments, PairMoments, QuadratureWarning, gauss_hermite, moments, pair_moments
from .inputs import InputStatistics, OrderParameters
from .isometry import IsometryPoint, TwoHiddenLayers, isometry_point, top_atom
from .metric import LayerSum, PredictedMetric
from .outliers import goe_maximum, outlier_spread
from .outputs import Betas
from .prediction import MeanField, WideOutputBounds, mean_field
from .series import free_cumulants, free_moments
from .single_layer import SingleHiddenLayer
from .slopes import slope_law

__all__ = [
    "Atoms",
    "Betas",
    "BulkLaw",
    "ConditionalSpectrum",
    "ConvergenceWarning",
    "DiscreteLaw",
    "FreeLaw",
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
    "Transform",
    "TwoHiddenLayers",
    "WideOutputBounds",
    "conditional_spectrum",
    "free_cumulants",
    "free_moments",
    "gauss_hermite",
    "goe_maximum",
    "isometry_point",
    "layered_law",
    "mean_field",
    "moments",
    "outlier_spread",
    "pair_moments",
    "slope_law",
    "top_atom",
]
