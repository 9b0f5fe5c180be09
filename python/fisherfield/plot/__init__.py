"""Pictures. A drawing function draws into ``ax`` (without one, into a new figure) and returns the axes.

All have the look of :mod:`.style`. Its ``save_`` companion writes a file in the format of its ending, say ``.png`` or
``.svg``.
"""

from .blocks import layers, save_layers
from .estimators import diagonal_variance, save_diagonal_variance
from .files import check_path, svg
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
from .style import require_matplotlib
from .training import save_training_map, training_map

__all__ = [
    "check_path",
    "conditional_spectrum",
    "cone_phase_portrait",
    "descents",
    "diagonal_variance",
    "layers",
    "monitor_path",
    "plateau",
    "require_matplotlib",
    "save_conditional_spectrum",
    "save_cone_phase_portrait",
    "save_descents",
    "save_diagonal_variance",
    "save_layers",
    "save_monitor",
    "save_plateau",
    "save_spectrum",
    "save_training_map",
    "spectral_density",
    "spectrum",
    "svg",
    "training_map",
]
