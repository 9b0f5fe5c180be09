"""All figures by name, in the order of the papers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from .._validate import choice
from ._figure import Figure

__all__ = ["find", "names"]

# name of the figure: its module
_MODULES = {
    "statistics-width": "statistics_width",
    "statistics-samples": "statistics_samples",
    "training-map": "training_map",
    "training-map-data": "training_map_data",
    "spectrum-regression": "spectrum_regression",
    "spectrum-softmax": "spectrum_softmax",
    "spectrum-mean-subtraction": "spectrum_mean_subtraction",
    "spectrum-ntk": "spectrum_ntk",
    "spectrum-features": "spectrum_features",
    "isometry-depth": "isometry_depth",
    "isometry-eps": "isometry_eps",
    "isometry-two-layers": "isometry_two_layers",
    "isometry-rates": "isometry_rates",
    "estimators-layers": "estimators_layers",
    "estimators-training": "estimators_training",
    "monitor-batches": "monitor_batches",
    "monitor-rates": "monitor_rates",
    "singular-cone": "singular_cone",
    "singular-errors": "singular_errors",
    "singular-units": "singular_units",
    "singular-plateau": "singular_plateau",
}


def names() -> tuple[str, ...]:
    """Return the names of all figures.

    Examples
    --------
    >>> from fisherfield import figures
    >>> "statistics-width" in figures.names()
    True
    """
    return tuple(_MODULES)


def find(wanted: str | Sequence[str]) -> list[Figure]:
    """Return figures by name; ``"all"`` are all."""
    asked = [wanted] if isinstance(wanted, str) else list(wanted)
    if asked == ["all"]:
        asked = list(_MODULES)
    for name in asked:
        choice(name, "figure", ("all", *_MODULES))
    return [load(name) for name in asked]


def load(name: str) -> Figure:
    """Return one figure."""
    module = importlib.import_module(f".{_MODULES[name]}", __package__)
    figure: Figure = module.FIGURE
    return figure
