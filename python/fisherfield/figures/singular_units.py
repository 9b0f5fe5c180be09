r"""Two hidden units near their overlap: paths of learning, and how the Fisher information vanishes.

Amari, Park, Ozeki (2006); Wei et al. (2008): students :math:`v_1 \phi(w_1 x) + v_2 \phi(w_2 x)` of one input in the
coordinates :math:`u = w_1 - w_2`, :math:`z = (v_1 - v_2) / (v_1 + v_2)` of the overlap, with tanh. Dashed are the slow
manifold of the standard gradient, to leading order in u, and the powers with which eigenvalues vanish at u = 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validate import FloatArray
from ..learning.singular import METHODS, Approach, SingleUnit, TwoUnits, slow_manifold
from ..plot.style import INK, LEVEL, MARKS, OPEN, RUNS, THEORY, THEORY_LINE
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import select

__all__ = ["FIGURE"]

MODEL = TwoUnits("tanh")
Z, V, W = 0.2, 1.3, 0.8  # of the teacher
PICTURE = 0.5  # u of the teacher in the portraits
NEAR = (0.025, 0.05)  # u of the teachers at which the slow manifold is measured
STARTS = (-0.6, -0.3, 0.0, 0.3, 0.6)  # z
POINTS = 200
SMALL = np.geomspace(1e-4, 1e-3, 6)  # u, where powers are measured
POWERS = {-2: 2, -1: 6}  # rank of the eigenvalue: of u
COLOURS = {"standard": INK, "natural": RUNS[5]["color"]}


def cells(quick: bool) -> list[Cell]:
    """A cell for each path: a few seconds in all, quick or not."""
    portraits = [
        {"gap": PICTURE, "z": z, "start": start, "method": method}
        for method in METHODS
        for start in (0.1, 0.8)
        for z in STARTS
    ]
    return portraits + [
        {"gap": gap, "z": z, "start": 0.4 * gap, "method": "standard"} for gap in NEAR for z in (0.1, 0.35, 0.6)
    ]


def compute(gap: float, z: float, start: float, method: str) -> Numbers:
    """Follow a student from u = ``start`` to a teacher at u = ``gap``."""
    one, near = single_unit(gap), gap <= max(NEAR)
    flow = MODEL.flow(
        MODEL.from_overlap(start, z, one.v, one.w),
        MODEL.from_overlap(gap, Z, V, W),
        method,
        damping=1e-6,
        until_loss=1e-18 if near else 1e-9,
        max_time=1e4 / gap**2 if near else 1e6,
    )
    points = [MODEL.overlap(parameters) for parameters in flow.parameters]
    u, zs, v = (np.array(values) for values in zip(*((p.u[0], p.z, p.v) for p in points), strict=True))
    shown = np.unique(np.linspace(0, len(u) - 1, POINTS).astype(int))
    return {"u": u[shown], "z": zs[shown], "law": moved(u, zs, v, one) if near else None}


def single_unit(gap: float) -> SingleUnit:
    """The best single unit, where students start but for their u and z."""
    return MODEL.single_unit(MODEL.from_overlap(gap, Z, V, W))


def moved(u: Any, z: Any, v: Any, one: SingleUnit) -> dict[str, float]:
    """Change of z along the middle of the way in u^2 / 2, and by the law of the slow manifold."""
    half = u**2 / 2
    way = np.abs(half - half[0]) / abs(half[-1] - half[0])
    i, j = int(np.argmax(way > 0.25)), int(np.argmax(way > 0.75))
    law = slow_manifold(z[i], half[[i, j]], v=v[i], c1=MODEL.slow_coefficient(one.w))
    return {"measured": z[j] - z[i], "theory": law[-1] - z[i]}


def approach(distances: FloatArray) -> Approach:
    """Eigenvalues on the way to the overlap."""
    return MODEL.approach(MODEL.from_overlap(0.5, 0.3, V, W), "overlap", distances=distances)


def draw(results: Results, figure: Any) -> None:
    """Paths of both gradients near the overlap, and the smallest eigenvalues on the way to it."""
    *portraits, right = figure.subplots(1, 3)
    for ax, method in zip(portraits, METHODS, strict=True):
        draw_portrait(ax, select(results, gap=PICTURE, method=method), method)
    found = approach(np.geomspace(1e-4, 0.3, 8))
    u = found.distances
    for (rank, power), style in zip(POWERS.items(), ({}, OPEN), strict=True):
        values = found.eigenvalues[:, rank]
        right.plot(u, values, label=rf"measured, $\propto u^{power}$ in theory", **MARKS | style)
        label = "theory" if power == 6 else None
        right.plot(u, values[0] * (u / u[0]) ** power, label=label, **THEORY_LINE)
    right.set(xscale="log", yscale="log", xlabel="$u = w_1 - w_2$", ylabel="smallest eigenvalues of $F$")
    right.set_title("on the way to the overlap", fontsize="small", loc="left", pad=12)
    right.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize="small")


def draw_portrait(ax: Any, results: Results, method: str) -> None:
    """Paths in the plane of z and u."""
    one = single_unit(PICTURE)
    for first, (cell, numbers) in zip([True] + [False] * len(results), results, strict=False):
        u, z = np.array(numbers["u"]), np.array(numbers["z"])
        ax.plot(z, u, color=COLOURS[method], label="path" if first else None)
        ax.plot(z[0], u[0], color=COLOURS[method], marker="o", markerfacecolor="white", linestyle="none", zorder=3)
        if method == "standard" and cell["start"] < PICTURE:
            half = np.linspace(u[0], u.max(), POINTS) ** 2 / 2
            law = slow_manifold(z[0], half, v=one.v, c1=MODEL.slow_coefficient(one.w))
            ax.plot(law, np.sqrt(2 * half), label="slow manifold" if first else None, **THEORY_LINE)
    ax.plot(Z, PICTURE, color=THEORY, marker="*", markersize=13, linestyle="none", label="teacher", zorder=4)
    ax.axhline(0, linestyle=":", label="overlap $u = 0$", **LEVEL)
    ax.set(xlabel="$z = (v_1 - v_2) / (v_1 + v_2)$", ylabel="$u = w_1 - w_2$", ylim=(-0.05, 1.15))
    ax.set_title(f"{method} gradient", fontsize="small", loc="left", pad=12)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small", loc="upper center", ncols=2)


def agreements(results: Results) -> list[Agreement]:
    """The law of the slow manifold in the limit of small u, and the powers, whose next order is smaller by u.

    The law's relative error is proportional to u to leading order: two teachers give the limit, up to the product of
    their u.
    """
    near, far = NEAR
    found = []
    for z in sorted({cell["z"] for cell, _ in select(results, gap=near)}):
        ratios = [
            law["measured"] / law["theory"]
            for gap in NEAR
            for _, numbers in select(results, gap=gap, z=z)
            for law in [numbers["law"]]
        ]
        limit = (far * ratios[0] - near * ratios[1]) / (far - near)
        found.append(Agreement(f"dz / d(u^2 / 2) over the law, z = {z:g}", 1.0, limit, near * far))
    exponents = approach(SMALL).exponents
    return found + [
        Agreement(f"power of eigenvalue {rank}", power, float(exponents[rank]), float(SMALL.max()))
        for rank, power in POWERS.items()
    ]


FIGURE = Figure(
    name="singular-units",
    title="two units near their overlap: paths and vanishing eigenvalues",
    source="Amari, Park, Ozeki (2006), overlapping units",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(13.0, 4.4),
)
