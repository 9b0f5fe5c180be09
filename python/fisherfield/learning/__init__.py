"""Learning: gradient descent, natural gradients, a training monitor, singular models."""

from . import singular
from .approximations import ApproximateFisher, Isotropy, approximate_fisher
from .monitor import MonitorRecord, TrainingMonitor
from .natural_gradient import NaturalGradient, NaturalGradientRun, NaturalGradientStep
from .training import Descent, Step, Training, train

__all__ = [
    "ApproximateFisher",
    "Descent",
    "Isotropy",
    "MonitorRecord",
    "NaturalGradient",
    "NaturalGradientRun",
    "NaturalGradientStep",
    "Step",
    "Training",
    "TrainingMonitor",
    "approximate_fisher",
    "singular",
    "train",
]
