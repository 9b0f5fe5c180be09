"""The figures of the source papers, theory beside measurement: ``fisherfield reproduce``.

One module a figure, which reads like the paper's caption: its cells, what is computed in each, the picture, and how far
theory and measurement agree.
"""

from __future__ import annotations

from ._figure import Agreement, Figure
from .catalogue import find, names
from .reproduction import Reproduction, reproduce

__all__ = ["Agreement", "Figure", "Reproduction", "find", "names", "reproduce"]
