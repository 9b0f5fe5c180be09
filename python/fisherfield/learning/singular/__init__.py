"""Singular models: where the Fisher information degenerates, and what that does to estimation and learning."""

from __future__ import annotations

from .cone import (
    METHODS,
    ConeErrors,
    ConeEstimate,
    ConeFlow,
    ConeModel,
    GeneralizationTable,
    generalization_table,
)
from .two_units import SINGULARITIES, Approach, Overlap, SingleUnit, TwoUnits, UnitFlow, slow_manifold

__all__ = [
    "METHODS",
    "SINGULARITIES",
    "Approach",
    "ConeErrors",
    "ConeEstimate",
    "ConeFlow",
    "ConeModel",
    "GeneralizationTable",
    "Overlap",
    "SingleUnit",
    "TwoUnits",
    "UnitFlow",
    "generalization_table",
    "slow_manifold",
]
