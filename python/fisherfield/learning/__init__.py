"""Learning: gradient descent, natural gradients, a training monitor, singular models."""

from . import singular
from .training import Descent, Step, Training, train

__all__ = ["Descent", "Step", "Training", "singular", "train"]
