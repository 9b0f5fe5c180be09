"""The Fisher information matrix of deep networks two ways: mean-field theory beside measurement.

>>> import fisherfield as ff
>>> arch = ff.MLP(widths=(1000, 1000, 1000, 1), activation="tanh", weight_var=3.0, bias_var=0.64)
"""

from . import activations, likelihoods
from ._config import show_config
from .activations import Activation
from .architecture import MLP, ResidualMLP
from .conditional import ConditionalFisher, conditional_fisher
from .devices.pool import GPUPool
from .diagonal import DiagonalEstimate, DiagonalVariance, diagonal_variance, estimate_diagonal
from .experiments.rates import CriticalLearningRate, critical_learning_rate
from .features import FeatureMetric, feature_metric
from .fisher import Fisher
from .learning import NaturalGradient, TrainingMonitor, approximate_fisher, train
from .losses import hessian_diagonal, loss_gradient, loss_value
from .network import Network
from .readers import from_flax, from_keras, from_sklearn, from_torch, load
from .report import Report, html_report
from .statistics import FisherStatistics
from .tangent import TangentKernel, ntk
from .theory import (
    ConditionalSpectrum,
    InputStatistics,
    IsometryPoint,
    MeanField,
    QuadratureWarning,
    conditional_spectrum,
    isometry_point,
    mean_field,
)

__all__ = [
    "MLP",
    "Activation",
    "ConditionalFisher",
    "ConditionalSpectrum",
    "CriticalLearningRate",
    "DiagonalEstimate",
    "DiagonalVariance",
    "FeatureMetric",
    "Fisher",
    "FisherStatistics",
    "GPUPool",
    "InputStatistics",
    "IsometryPoint",
    "MeanField",
    "NaturalGradient",
    "Network",
    "QuadratureWarning",
    "Report",
    "ResidualMLP",
    "TangentKernel",
    "TrainingMonitor",
    "activations",
    "approximate_fisher",
    "conditional_fisher",
    "conditional_spectrum",
    "critical_learning_rate",
    "diagonal_variance",
    "estimate_diagonal",
    "feature_metric",
    "from_flax",
    "from_keras",
    "from_sklearn",
    "from_torch",
    "hessian_diagonal",
    "html_report",
    "isometry_point",
    "likelihoods",
    "load",
    "loss_gradient",
    "loss_value",
    "mean_field",
    "ntk",
    "show_config",
    "train",
]
