"""Pictures. A drawing function draws into ``ax`` (without one, into a new figure) and returns the axes."""

from .estimators import diagonal_variance, save_diagonal_variance
from .files import check_path
from .monitor import monitor_path, save_monitor
from .natural import descents, save_descents
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
    "descents",
    "diagonal_variance",
    "monitor_path",
    "plateau",
    "save_conditional_spectrum",
    "save_cone_phase_portrait",
    "save_descents",
    "save_diagonal_variance",
    "save_monitor",
    "save_plateau",
    "save_spectrum",
    "save_training_map",
    "spectral_density",
    "spectrum",
    "training_map",
]
