"""What a report says: the measurement, the theory beside it, and what follows from the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import devices, likelihoods
from .._memory import available_beside
from .._validate import FloatArray
from ..fisher import Fisher
from ..lanczos import SpectralDensity
from ..statistics import FisherStatistics, critical_learning_rate
from ..theory import InputStatistics, MeanField, mean_field
from .tables import Comparison, Row, format_number

__all__ = ["Findings", "Layer", "Measurement", "Prediction", "find_layers", "measure", "predict", "sentences"]

_DENSE = 4000  # largest matrix whose eigenvalues are all computed
_PAIRWISE = 2000  # samples up to which theory takes all pairs of them, rather than their mean overlap
_PICTURED = 3000  # size up to which all predicted eigenvalues are computed
_OUTLIERS = 30  # most eigenvalues that are looked for one by one
_PROBES, _STEPS = 4, 48  # of the density
_TOLERANCE = 1e-4  # relative residual of an eigenvalue found by products
_LAYER_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class Measurement:
    """The spectrum of one matrix.

    Attributes
    ----------
    statistics : FisherStatistics
        ``top_mean`` is NaN where not all outliers were computed.
    errors : dict from str to float
        Of statistics that are estimates: standard error, or for eigenvalues the residual, which bounds the error.
    outliers : array, shape (k,)
        The largest eigenvalues, as many as are expected outside the bulk or 30.
    eigenvalues : array, shape (min(P, R T),), or None
        All that are possibly not zero, descending; None where the matrix is too large.
    density : SpectralDensity or None
        Their density, where there are no eigenvalues.
    converged : bool
        Whether all outliers are as accurate as was asked for.
    """

    statistics: FisherStatistics
    errors: dict[str, float]
    outliers: FloatArray
    eigenvalues: FloatArray | None
    density: SpectralDensity | None
    converged: bool

    @property
    def method(self) -> str:
        """How the spectrum was found, in words."""
        if self.density is None:
            return "a solver for all eigenvalues, of the smaller of F and its dual"
        return f"products with F: block Lanczos, and stochastic Lanczos with {self.density.probes} random vectors"

    @property
    def positive(self) -> FloatArray | None:
        """The eigenvalues above the rounding of the solver."""
        if self.eigenvalues is None:
            return None
        floor = self.eigenvalues[0] * len(self.eigenvalues) * np.finfo(self.eigenvalues.dtype).eps
        kept: FloatArray = self.eigenvalues[self.eigenvalues > max(floor, 0)]
        return kept

    @property
    def condition(self) -> float | None:
        """Largest over smallest eigenvalue that is not zero; None where the smallest is not known."""
        positive = self.positive
        return None if positive is None or len(positive) == 0 else float(positive[0]) / float(positive[-1])

    @property
    def trace(self) -> float:
        """``tr F``."""
        return self.statistics.mean * self.statistics.num_parameters

    @property
    def outlier_share(self) -> float | None:
        """Part of the trace that is in the outliers."""
        return float(self.outliers.sum(dtype=np.float64)) / self.trace if self.trace > 0 else None

    @property
    def effective_rank(self) -> float | None:
        """``(tr F)^2 / tr F^2``: so many equal eigenvalues have the same trace and the same sum of squares."""
        squares = self.statistics.second_moment * self.statistics.num_parameters
        return self.trace**2 / squares if squares > 0 else None


def measure(fim: Fisher, seed: int) -> Measurement:
    """Measure the spectrum: with all eigenvalues if a matrix fits, otherwise by products.

    Parameters
    ----------
    fim : Fisher
    seed : int
        Of the random vectors, where products are taken.

    Returns
    -------
    Measurement
    """
    size = min(fim.dimension, fim.num_seeds * fim.num_samples)
    room = fim._budget or available_beside(fim.X)
    if size <= _DENSE and (room is None or fim.estimate("eigenvalues").bytes <= room):
        statistics = fim.statistics()  # first: the same bits as of one who asks for nothing else
        values = devices.on_host(fim.eigenvalues())
        count = min(fim.num_outliers, _OUTLIERS, len(values))
        return Measurement(statistics, {}, values[:count], values, None, True)
    return _measure_by_products(fim, seed)


def _measure_by_products(fim: Fisher, seed: int) -> Measurement:
    count = min(fim.num_outliers, _OUTLIERS, fim.rank_bound)
    top = fim.top_eigenpairs(count, _TOLERANCE, vectors=True, method="matrix-free", seed=seed)
    density = fim.spectral_density(probes=_PROBES, steps=_STEPS, deflate=top, seed=seed)
    values, residuals = (devices.on_host(array) for array in (top.values, top.residuals))
    second = density.second_moment
    statistics = FisherStatistics(
        mean=fim.trace() / fim.dimension,
        second_moment=second.value,
        maximum=float(values[0]),
        top_mean=float(values.mean(dtype=np.float64)) if count == fim.num_outliers else math.nan,
        num_parameters=fim.dimension,
        num_samples=fim.num_samples,
        num_outputs=fim.net.num_outputs,
        num_outliers=fim.num_outliers,
    )
    errors = {"second_moment": second.standard_error, "maximum": float(residuals[0])}
    if count == fim.num_outliers:
        errors["top_mean"] = float(residuals.mean())
    return Measurement(statistics, errors, values, None, density, top.converged)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The theory beside a measurement.

    Attributes
    ----------
    theory : MeanField
    statistics, refined : FisherStatistics
        Leading order in the width; with the exact counts of the network.
    outliers : array, shape (k,)
        Refined, descending.
    eigenvalues : array or None
        All predicted ones, where they make a histogram.
    largest : float or None
        Estimate of the largest of several outliers at finite width, where it is derived.
    """

    theory: MeanField
    statistics: FisherStatistics
    refined: FisherStatistics
    outliers: FloatArray
    eigenvalues: FloatArray | None
    largest: float | None

    @property
    def inputs(self) -> str:
        """What it knows of the inputs, in words."""
        known = self.theory.inputs
        if not isinstance(known, InputStatistics):
            return "all pairs of the samples"
        return f"mean square {known.qhat0:.4g} and mean overlap {known.qhat_st0:.4g} of the samples"


def predict(fim: Fisher, given: MeanField | None) -> Prediction | None:
    """Return the theory: the given one if it is of the same matrix, or that of the ensemble of a sampled network.

    Parameters
    ----------
    fim : Fisher
    given : MeanField or None
        The user's.

    Returns
    -------
    Prediction or None
        None where there is no theory.

    Raises
    ------
    ValueError, TypeError
        If the given one is no MeanField, or of another matrix.
    """
    theory = _of_ensemble(fim) if given is None else _checked(fim, given)
    if theory is None:
        return None
    known = isinstance(theory.inputs, InputStatistics)
    size = fim.num_seeds * fim.num_samples
    pictured = size <= _PICTURED and not (known and theory.is_unit_gaussian)
    return Prediction(
        theory,
        theory.statistics,
        theory.refined_statistics,
        devices.on_host(theory.outliers(refined=True))[:_OUTLIERS],
        devices.on_host(theory.eigenvalues(refined=True)) if pictured else None,
        _largest(theory),
    )


def _of_ensemble(fim: Fisher) -> MeanField | None:
    arch = fim.net.architecture
    if arch is None or arch.depth < 2:
        return None
    inputs = fim.X if fim.num_samples <= _PAIRWISE else InputStatistics.from_data(fim.X)
    if fim.kind == "exact" and fim.likelihood == likelihoods.Gaussian():
        return mean_field(arch, inputs)
    seeds = fim.output_seeds()
    if isinstance(inputs, InputStatistics):
        seeds = devices.on_host(seeds)
    return mean_field(arch, inputs, likelihood=fim.likelihood, kind=fim.kind, output_seeds=seeds)


def _checked(fim: Fisher, theory: Any) -> MeanField:
    if not isinstance(theory, MeanField):
        raise TypeError(f"mean_field: expected the result of fisherfield.mean_field, got {type(theory).__name__}")
    pairs = [
        ("widths", fim.net.widths, theory.arch.widths),
        ("biases", fim.net.has_biases, theory.arch.has_biases),
        ("T", fim.num_samples, theory.num_samples),
        ("likelihood", fim.likelihood, theory.likelihood),
    ]
    if theory.given_seeds is None:
        pairs.append(("kind", fim.kind, theory.kind))
    for name, wanted, found in pairs:
        if wanted != found:
            raise ValueError(
                f"mean_field: expected the theory of the same matrix, with {name} = {wanted!r}, got {found!r}; or "
                "leave it out: for a network from arch.sample() the report makes its own"
            )
    return theory


def _largest(theory: MeanField) -> float | None:
    try:
        return theory.largest_outlier
    except ValueError:  # it is derived for plain networks and the unit Gaussian likelihood
        return None


@dataclass(frozen=True)
class Layer:
    """The diagonal block of one layer.

    Attributes
    ----------
    layer, num_parameters : int
    trace, mean, maximum : float
        Of its eigenvalues; the mean is that of the diagonal too.
    share : float or None
        Part of the trace of F.
    theory_mean, theory_maximum : float or None
        Refined predictions.
    """

    layer: int
    num_parameters: int
    trace: float
    mean: float
    maximum: float
    share: float | None
    theory_mean: float | None
    theory_maximum: float | None


def find_layers(fim: Fisher, found: Measurement, prediction: Prediction | None, seed: int) -> tuple[Layer, ...]:
    """Measure the block of every layer, beside its prediction.

    Parameters
    ----------
    fim : Fisher
        Of L layers.
    found : Measurement
        Of the whole.
    prediction : Prediction or None
        Of the whole.
    seed : int
        Of the start vectors of products.

    Returns
    -------
    tuple of Layer, length L
    """
    diagonal = fim.diagonal()
    begin, layers = 0, []
    for l, size in enumerate(fim._layer_dimensions, 1):
        trace = float(diagonal[begin : begin + size].sum(dtype=np.float64))
        begin += size
        block = fim.layer(l)
        if found.eigenvalues is not None:
            maximum = block.statistics().maximum
        else:
            maximum = float(block.top_eigenpairs(1, _LAYER_TOLERANCE, seed=seed).values[0])
        theory = None if prediction is None else prediction.theory.layer(l).refined_statistics
        layers.append(
            Layer(
                l,
                size,
                trace,
                trace / size,
                maximum,
                trace / found.trace if found.trace > 0 else None,
                None if theory is None else theory.mean,
                None if theory is None else theory.maximum,
            )
        )
    return tuple(layers)


@dataclass(frozen=True, eq=False)
class Findings:
    """All that a report says of one matrix.

    Attributes
    ----------
    fim : Fisher
    found : Measurement
    prediction : Prediction or None
    layers : tuple of Layer
    momentum : float
        Of the second critical learning rate.
    """

    fim: Fisher
    found: Measurement
    prediction: Prediction | None
    layers: tuple[Layer, ...]
    momentum: float

    @property
    def comparison(self) -> Comparison:
        """Theory beside measurement; without theory NaN in its place."""
        measured = self.found.statistics
        rows = [
            self._row("mean", "tr F / P", "mean"),
            self._row("second moment", "tr F^2 / P", "second_moment"),
            self._row("maximum", "lambda_max", "maximum"),
        ]
        if measured.num_outliers > 1:
            rows.append(self._row("top mean", f"{measured.num_outliers} largest", "top_mean"))
        rows.append(self._rate("critical rate", "2 / lambda_max", 0.0))
        if self.momentum > 0:
            symbol = "2 (1 + mu) / lambda_max"
            rows.append(self._rate(f"critical rate, mu = {self.momentum:g}", symbol, self.momentum))
        return Comparison(tuple(rows))

    def _row(self, quantity: str, symbol: str, field: str) -> Row:
        theory, refined = self._predicted(field)
        return Row(quantity, symbol, theory, refined, (float(getattr(self.found.statistics, field)),))

    def _rate(self, quantity: str, symbol: str, momentum: float) -> Row:
        theory, refined = (
            value if value is None or math.isnan(value) else critical_learning_rate(value, momentum)
            for value in self._predicted("maximum")
        )
        measured = critical_learning_rate(self.found.statistics.maximum, momentum)
        return Row(quantity, symbol, math.nan if theory is None else theory, refined, (measured,))

    def _predicted(self, field: str) -> tuple[float, float | None]:
        if self.prediction is None:
            return math.nan, None
        return float(getattr(self.prediction.statistics, field)), float(getattr(self.prediction.refined, field))

    @property
    def errors(self) -> dict[str, float]:
        """Error of the measurement by the quantity of its row, where it is an estimate."""
        errors, maximum = self.found.errors, self.found.statistics.maximum
        named = {name.replace("_", " "): error for name, error in errors.items()}
        if "maximum" in errors and maximum > 0:
            for row in self.comparison.rows:
                if row.quantity.startswith("critical rate"):
                    named[row.quantity] = errors["maximum"] / maximum * row.mean
        return named

    def corrected_rate(self, momentum: float) -> float | None:
        """Predicted critical rate, corrected for the largest of several outliers at finite width.

        Parameters
        ----------
        momentum : float
            At least 0 and below 1.

        Returns
        -------
        float or None
            None where theory has no such correction.

        Raises
        ------
        ValueError, TypeError
            For another momentum.
        """
        largest = None if self.prediction is None else self.prediction.largest
        return None if largest is None else critical_learning_rate(largest, momentum)


def sentences(findings: Findings) -> list[str]:
    """Return what the numbers mean, in a few sentences.

    Parameters
    ----------
    findings : Findings

    Returns
    -------
    list of str
    """
    found = findings.found
    if not found.statistics.maximum > 0:
        return [
            "F is zero: no gradient reaches the parameters, or the outputs are certain. No learning rate is too large."
        ]
    said = [_on_outliers(found), _on_condition(found)]
    said.append(_on_rate(findings) if findings.fim.kind == "exact" else _KINDS[findings.fim.kind])
    said += _on_theory(findings)
    if not found.converged:
        said.append("The largest eigenvalues have not converged: see their errors.")
    return said


_KINDS = {
    "monte_carlo": "Targets were drawn from the network's own distribution: the matrix is an unbiased estimate of F, "
    "but its largest eigenvalue is too large where few targets are drawn, and the critical rate too small.",
    "empirical": "The matrix is the empirical Fisher information, of observed targets. It is not the Fisher "
    "information matrix, and the rate that follows from its largest eigenvalue is no bound for training.",
}


def _percent(part: float) -> str:
    return f"{100 * part:.3g} %"


def _on_outliers(found: Measurement) -> str:
    statistics, count = found.statistics, len(found.outliers)
    share = _percent(found.outlier_share or 0.0)
    which = "The largest eigenvalue holds" if count == 1 else f"The {count} largest eigenvalues hold"
    return (
        f"{which} {share} of the trace; lambda_max is {format_number(statistics.maximum / statistics.mean, 3)} times "
        f"the mean eigenvalue, and the effective rank (tr F)^2 / tr F^2 is {format_number(found.effective_rank, 3)} of "
        f"P = {statistics.num_parameters:,}."
    )


def _on_condition(found: Measurement) -> str:
    size = found.statistics.num_parameters
    if found.condition is None or found.positive is None:
        assert found.density is not None
        above = found.density.count_above(found.statistics.maximum / 100)
        return (
            f"About {above.value:,.0f} (+- {above.standard_error:,.0f}) of P = {size:,} eigenvalues are above a "
            "hundredth of the largest."
        )
    rank = len(found.positive)
    if rank == size:
        return f"All {size:,} eigenvalues are above zero, with condition number {format_number(found.condition, 3)}."
    return (
        f"{rank:,} eigenvalues are not zero, with condition number {format_number(found.condition, 3)}; along the "
        f"other {_percent(1 - rank / size)} of the directions the outputs on these samples do not change."
    )


def _on_rate(findings: Findings) -> str:
    gaussian = isinstance(findings.fim.likelihood, likelihoods.Gaussian)
    loss = (
        "the mean of |y - f(x)|^2 / 2"
        if findings.fim.likelihood == likelihoods.Gaussian()
        else "the mean of -log p(y | x)"
    )
    rate = critical_learning_rate(findings.found.statistics.maximum)
    with_momentum = critical_learning_rate(findings.found.statistics.maximum, findings.momentum)
    also = f" ({format_number(with_momentum, 3)} with momentum {findings.momentum:g})" if findings.momentum else ""
    near = "" if gaussian else " near these outputs"
    return (
        f"Gradient descent on {loss} over these samples is unstable{near} above a learning rate of "
        f"{format_number(rate, 3)}{also}; about half of it, {format_number(rate / 2, 3)}, is a rate to start with."
    )


def _on_theory(findings: Findings) -> list[str]:
    if findings.prediction is None:
        return ["There is no theory beside it, for the weights are not a sample of a known ensemble; pass mean_field."]
    errors = [
        f"{100 * error:+.1f} % for the {row.quantity}"
        for row in findings.comparison.rows[: 3 + (findings.found.statistics.num_outliers > 1)]
        if (error := row.refined_relative_error) is not None
    ]
    return [f"The theory of wide networks, refined for these widths, is off by {', '.join(errors)}."] if errors else []
