"""Pictures. A drawing function draws into ``ax`` (without one, into a new figure) and returns the axes."""

from .estimators import diagonal_variance, save_diagonal_variance
from .files import check_path
from .spectra import (
    conditional_spectrum,
    save_conditional_spectrum,
    save_spectrum,
    spectral_density,
    spectrum,
)
from .training import save_training_map, training_map

__all__ = [
    "check_path",
    "conditional_spectrum",
    "diagonal_variance",
    "save_conditional_spectrum",
    "save_diagonal_variance",
    "save_spectrum",
    "save_training_map",
    "spectral_density",
    "spectrum",
    "training_map",
]
