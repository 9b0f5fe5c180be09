r"""The spectrum of the neural tangent kernel: C outliers that grow with the number of samples, not with the width.

Karakida, Akaho, Amari (2021), section on the NTK: ReLU, L = 3, C = 2, weight variance 2 and no bias, M = 1000, 400
networks. The number of samples is not known to us; here N = 100 unit Gaussian inputs. In the NTK parametrisation the
mean is :math:`\kappa_1'`, the maximum :math:`\kappa_1' + (N - 1) \kappa_2'`, C times. To the right theory's maximum
against N beside that of networks.
"""

from __future__ import annotations

from typing import Any

from ..architecture import MLP
from ..experiments import compare
from ..plot.style import THEORY_LINE
from ..theory import mean_field
from ._figure import Agreement, Cell, Figure, Numbers, Results
from ._panels import (
    MAXIMUM,
    MEAN,
    SQUARE,
    draw_points,
    draw_spectrum,
    finish_panel,
    measured_and_predicted,
    select,
    share_legend,
    statistics_agreements,
)

__all__ = ["FIGURE"]

OUTPUTS, SAMPLES = 2, 100


def architecture(width: int) -> MLP:
    """Two hidden ReLU layers."""
    return MLP((width, width, width, OUTPUTS), "relu", weight_var=2.0, bias_var=0.0)


def cells(quick: bool) -> list[Cell]:
    """A cell for every network; few of other widths and numbers of samples."""
    largest, networks = (300, 20) if quick else (1000, 400)
    return [
        {"width": width, "samples": samples, "seed": seed}
        for width in (largest // 4, largest)
        for samples in (10, 30, 100, 300)
        for seed in range(networks if (width, samples) == (largest, SAMPLES) else 6)
    ]


def compute(width: int, samples: int, seed: int) -> Numbers:
    """Eigenvalues of one network on inputs of its own."""
    return measured_and_predicted(compare(architecture(width), samples, (seed,), metric="ntk"))


def draw(results: Results, figure: Any) -> None:
    """All eigenvalues, and the largest ones against N."""
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    draw_spectrum(left, main(results), "all eigenvalues", symbol="Theta")
    counts = sorted({cell["samples"] for cell, _ in results})
    widths = sorted({cell["width"] for cell, _ in results})
    for kind, width in reversed(list(enumerate(widths))):  # the small marks on the large ones
        draw_points(right, select(results, width=width), "samples", "top_mean", kind, f"their mean, M = {width}")
    limits = [mean_field(architecture(100), count).ntk("ntk").statistics.maximum for count in counts]
    right.plot(counts, limits, label="their mean, theory", **THEORY_LINE)
    right.set(xscale="log", yscale="log", xlabel="number of samples $N$", ylabel=f"mean of the {OUTPUTS} largest")
    finish_panel(right, "the largest eigenvalues")
    share_legend(figure, (left, right), 4)


def main(results: Results) -> Results:
    """Networks of the histogram."""
    return select(results, width=max(cell["width"] for cell, _ in results), samples=SAMPLES)


def agreements(results: Results) -> list[Agreement]:
    """Statistics of the networks of the histogram."""
    chosen = main(results)
    M = chosen[0][0]["width"]
    gaps = {"mean": MEAN / M, "second_moment": SQUARE / M, "top_mean": MAXIMUM / M}
    return statistics_agreements(chosen, gaps, f"relu, M = {M}")


FIGURE = Figure(
    name="spectrum-ntk",
    title="the spectrum of the neural tangent kernel",
    source="Karakida, Akaho, Amari (2021), spectra of the NTK",
    cells=cells,
    compute=compute,
    draw=draw,
    agreements=agreements,
    size=(9.6, 4.2),
)
