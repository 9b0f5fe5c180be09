r"""The plateau of two overlapping units, with the standard and with the natural gradient.

Amari, Park, Ozeki (2006): two inputs, tanh, a teacher of two different units, and a student that starts near the
overlap and first becomes the best single unit. To the right a student starts there, but for a distance u of its units:
the standard gradient leaves it like :math:`e^{\mu t}`, :math:`-\mu` the negative eigenvalue of the Hessian, so that its
plateau takes :math:`\ln 10 / \mu` longer for every factor of ten. The natural gradient has none: ln 2 is what
:math:`e^{-2 t}` takes from twice to half of anything.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import plot
from ..learning.singular import SingleUnit, TwoUnits, UnitFlow
from ..plot.style import MARKS, OPEN, THEORY_LINE
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import select

__all__ = ["FIGURE"]

MODEL = TwoUnits("tanh", inputs=2)
TEACHER = MODEL.parameters([[1.0, 0.5], [-0.3, 1.0]], [1.0, 0.8])
STUDENT = MODEL.from_overlap(u=[0.05, 0.02], z=0.3, v=0.8, w=[0.5, 0.4])
STANDARD = 33.492  # length of its plateau with the standard gradient
DAMPING = 1e-4
GAPS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
STEP = 1e-5  # of the differences for the Hessian
TIGHT = 1e-3


def cells(quick: bool) -> list[Cell]:
    """A cell for each flow: seconds, quick or not. Without a gap it is that of the student near the overlap."""
    pairs = (("standard", DAMPING), ("natural", 1e-2), ("natural", DAMPING))
    alone = [{"gap": None, "method": method, "damping": damping} for method, damping in pairs]
    return alone + [
        {"gap": gap, "method": method, "damping": DAMPING} for method in ("standard", "natural") for gap in GAPS
    ]


def compute(gap: float | None, method: str, damping: float) -> Numbers:
    """Follow one flow."""
    start = STUDENT
    if gap is not None:
        one = MODEL.single_unit(TEACHER)
        start = MODEL.from_overlap(u=[0.8 * gap, 0.6 * gap], z=0.0, v=one.v, w=one.w)
    flow = MODEL.flow(start, TEACHER, method, damping=damping)
    return {"length": flow.plateau_length, "flow": vars(flow) if gap is None else None}


def kept(numbers: Numbers) -> UnitFlow:
    """The flow that was computed."""
    fields: dict[str, Any] = {
        name: np.array(value) if isinstance(value, list) else value for name, value in numbers["flow"].items()
    }
    return UnitFlow(**fields | {"plateau": SingleUnit(**fields["plateau"])})


def growth() -> float:
    """Rate at which the standard gradient leaves the best single unit: by differences of the gradient."""
    one = MODEL.single_unit(TEACHER)
    here = MODEL.from_overlap(u=[0.0, 0.0], z=0.0, v=one.v, w=one.w)
    steps = STEP * np.eye(len(here))
    columns = [(MODEL.gradient(here + d, TEACHER) - MODEL.gradient(here - d, TEACHER)) / (2 * STEP) for d in steps]
    hessian = np.array(columns)
    return -float(np.linalg.eigvalsh((hessian + hessian.T) / 2)[0])


def lengths(results: Results, method: str) -> list[float]:
    """Of the plateaus of students that start at the best single unit, for each gap."""
    return [numbers["length"] for gap in GAPS for _, numbers in select(results, gap=gap, method=method)]


def draw(results: Results, figure: Any) -> None:
    """Loss and smallest eigenvalue against time, and lengths of plateaus against the distance of the units."""
    left, middle, right = figure.subplots(1, 3)
    flows = [kept(numbers) for _, numbers in select(results, gap=None)]
    plot.plateau(flows, ax=left)
    plot.plateau(flows, quantity="smallest_eigenvalue", ax=middle)
    middle.get_legend().remove()  # the same as on the left
    standard = lengths(results, "standard")
    right.plot(GAPS, standard, label="standard gradient", **MARKS)
    right.plot(GAPS, lengths(results, "natural"), label="natural gradient", **MARKS | OPEN | {"marker": "s"})
    line = standard[-1] - np.log(np.array(GAPS) / GAPS[-1]) / growth()
    right.plot(GAPS, line, label=r"slope $1 / \mu$ of the Hessian", **THEORY_LINE)
    right.set(xscale="log", xlabel="$|u|$ at the start", ylabel="length of the plateau")
    right.set_title("from the best single unit", fontsize="small", loc="left", pad=12)
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize="small")


def agreements(results: Results) -> list[Agreement]:
    """Lengths of the plateaus, and what a factor of ten in the distance of the units costs."""

    def length(method: str, damping: float) -> float:
        (numbers,) = (n for _, n in select(results, gap=None, method=method, damping=damping))
        return float(numbers["length"])

    standard = lengths(results, "standard")
    return [
        Agreement("plateau, standard gradient", STANDARD, length("standard", DAMPING), TIGHT),
        Agreement("plateau, natural gradient", math.log(2), length("natural", DAMPING), TIGHT),
        Agreement("standard, for a factor of ten", math.log(10) / growth(), standard[-1] - standard[-2], TIGHT),
    ]


FIGURE = Figure(
    name="singular-plateau",
    title="the plateau of overlapping units, standard and natural gradient",
    source="Amari, Park, Ozeki (2006), plateaus",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(13.0, 4.2),
)
