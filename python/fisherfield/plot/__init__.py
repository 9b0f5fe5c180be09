"""Pictures. A drawing function draws into ``ax`` (without one, into a new figure) and returns the axes."""

from .estimators import diagonal_variance, save_diagonal_variance
from .files import check_path
from .singular import cone_phase_portrait, plateau, save_cone_phase_portrait, save_plateau
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
    "cone_phase_portrait",
    "diagonal_variance",
    "plateau",
    "save_conditional_spectrum",
    "save_cone_phase_portrait",
    "save_diagonal_variance",
    "save_plateau",
    "save_spectrum",
    "save_training_map",
    "spectral_density",
    "spectrum",
    "training_map",
]
