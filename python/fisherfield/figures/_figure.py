"""What a figure is made of: cells that are computed one by one, a picture of them, and how far theory agrees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Agreement", "Cell", "Figure", "Numbers", "Results"]

Cell = dict[str, Any]  # arguments of ``compute``, in terms of JSON: seeds, widths, names
Numbers = dict[str, Any]  # what it found, in terms of JSON
Results = list[tuple[Cell, Numbers]]


@dataclass(frozen=True)
class Agreement:
    """One number of theory beside the measured one.

    Attributes
    ----------
    quantity : str
    theory, measured : float
    allowed : float
        Largest ``|measured / theory - 1|`` that the theory's own error and the sampling leave room for.
    """

    quantity: str
    theory: float
    measured: float
    allowed: float

    @classmethod
    def of_samples(cls, quantity: str, theory: float, values: Sequence[float], gap: float) -> Agreement:
        """Compare theory with the mean of independent values.

        Allowed are the theory's own relative ``gap``, say of finite width, and three standard errors of the mean.
        """
        mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
        return cls(quantity, theory, mean, gap + 3 * error / abs(theory))

    @property
    def deviation(self) -> float:
        """``measured / theory - 1``."""
        return self.measured / self.theory - 1

    @property
    def holds(self) -> bool:
        """Whether the deviation is within what is allowed."""
        return abs(self.deviation) <= self.allowed


@dataclass(frozen=True)
class Figure:
    """A figure of a paper.

    Attributes
    ----------
    name : str
        On the command line.
    title : str
        One line.
    source : str
        Paper and figure.
    cells : callable
        ``cells(quick)`` lists what is to be computed, cell by cell; every cell names its seeds.
    compute : callable
        ``compute(**cell)`` gives the numbers of a cell.
    draw : callable
        ``draw(results, figure)`` draws on a Matplotlib figure.
    agreements : callable
        ``agreements(results)`` compares theory and measurement.
    size : (float, float)
        Of the picture, in inches.
    """

    name: str
    title: str
    source: str
    cells: Callable[[bool], list[Cell]]
    compute: Callable[..., Numbers]
    draw: Callable[[Results, Any], None]
    agreements: Callable[[Results], list[Agreement]]
    size: tuple[float, float] = (6.4, 4.0)
