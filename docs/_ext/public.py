"""Modules whose ``__all__`` the reference covers, those that exist."""

import importlib.util

MODULES = [
    name
    for name in (
        "fisherfield",
        "fisherfield.activations",
        "fisherfield.data",
        "fisherfield.estimators",
        "fisherfield.experiments",
        "fisherfield.figures",
        "fisherfield.lanczos",
        "fisherfield.learning",
        "fisherfield.learning.singular",
        "fisherfield.likelihoods",
        "fisherfield.plot",
        "fisherfield.readers",
        "fisherfield.report",
        "fisherfield.theory",
    )
    if importlib.util.find_spec(name) is not None
]
