"""Learning: gradient descent, natural gradients, a training monitor, singular models."""

from .training import Descent, Step, Training, train

__all__ = ["Descent", "Step", "Training", "train"]
