"""The commands spectrum, theory and learning-rate: statistics of eigenvalues."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .. import likelihoods, plot, report
from .._validate import as_momentum
from ..architecture import MLP
from ..experiments import (
    METRICS,
    SYMBOLS,
    SpectrumComparison,
    check_draws,
    compare,
    predicted_metric,
)
from ..experiments import critical_learning_rate as predicted_rates
from ..statistics import critical_learning_rate
from ..theory import MeanField, PredictedMetric, mean_field
from .options import (
    MATRICES,
    AddCommand,
    Answer,
    Inputs,
    activation_names,
    add_ensemble_options,
    add_likelihood_options,
    add_measurement_options,
    add_momentum_option,
    add_picture_options,
    heading_text,
    matrix_text,
    networks_text,
    picture_path,
    read_architecture,
    read_inputs,
    run_record,
    widths_text,
)

__all__ = ["add_commands"]


_PICTURE = "fisherfield-spectrum.png"


_CENTERED = "note: centred, gradients of two samples are uncorrelated: no outlier, the maximum is the edge of the bulk."


_SUBTRACTED = "note: mean subtraction leaves no outlier: the maximum is the edge of the bulk."


_BULK = (
    "The column refined has this edge, from the law of the bulk; the leading order (theory) leaves fluctuations out."
)


_NO_BULK = "No law of the bulk is known here; both columns leave out the fluctuations that widen it."


def add_commands(command: AddCommand) -> None:
    """Add spectrum, theory and learning-rate."""
    spectrum = command(
        "spectrum",
        run_spectrum,
        "eigenvalue statistics, theory beside sampled networks, and a histogram of the eigenvalues",
        "--data digits --widths 64,500,500,10 --samples 300 --output digits.svg",
    )
    add_ensemble_options(spectrum)
    add_momentum_option(spectrum)
    _add_metric_options(spectrum)
    add_measurement_options(spectrum)
    add_picture_options(spectrum, _PICTURE)

    theory = command(
        "theory",
        run_theory,
        "predictions of mean-field theory, without sampling a network",
        "--activation relu --weight-var 2 --bias-var 0.1 --widths 500,500,500,500,10",
    )
    add_ensemble_options(theory)
    add_momentum_option(theory)
    _add_metric_options(theory)
    theory.add_argument(
        "--seed",
        type=int,
        help="draws the samples of --data, and the outputs at which a likelihood is evaluated (default: 0)",
    )

    rate = command(
        "learning-rate",
        run_learning_rate,
        "critical learning rate of gradient descent with momentum, from theory and from sampled networks",
        "--momentum 0.9 --widths 500,500,500,1",
    )
    add_ensemble_options(rate)
    add_momentum_option(rate)
    rate.add_argument("--batch-size", type=int, metavar="B", help="also tell the rate of mini-batches of B samples")
    add_likelihood_options(rate)
    add_measurement_options(rate)


def _add_metric_options(parser: argparse.ArgumentParser) -> None:
    matrix = add_likelihood_options(parser)
    matrix.add_argument(
        "--metric",
        metavar="METRIC",
        help=f"{', '.join(METRICS)}: the Fisher information matrix, the tangent kernel in NTK parametrisation, the "
        "metric of the features of all layers, or of the inputs (default: parameters)",
    )
    matrix.add_argument("--center", action="store_true", help="subtract the mean of the outputs over the samples")


def _check_momentum(options: argparse.Namespace) -> None:
    if as_momentum(options.momentum) and options.metric != "parameters":
        raise ValueError(
            "momentum: expected together with --metric parameters, for other metrics have no critical rate"
        )


def _read(options: argparse.Namespace) -> tuple[MLP, Inputs]:
    """The ensemble and the inputs of a comparison."""
    _check_momentum(options)
    inputs = read_inputs(options, options.seeds[0] if options.seeds else 0)
    return read_architecture(options, inputs), inputs


def _measure(
    options: argparse.Namespace, architecture: MLP, inputs: Inputs, *, eigenvalues: bool
) -> tuple[SpectrumComparison, str, dict[str, Any]]:
    """Run the comparison; return it with the heading and the record of what was run."""
    found = compare(
        architecture,
        inputs.argument,
        options.seeds,
        likelihood=options.likelihood,
        kind=options.kind,
        draws=options.draws,
        metric=options.metric,
        centered=options.center,
        dtype=options.dtype,
        eigenvalues=eigenvalues,
        progress=options.progress,
    )
    heading = f"{heading_text(architecture, inputs, options)}\n{networks_text(found.seeds, found.dtype)}\n"
    record = {
        **run_record(architecture, inputs, options),
        "momentum": options.momentum,
        "dtype": found.dtype,
        "seeds": found.seeds,
    }
    return found, heading, record


def _legend(found: SpectrumComparison, momentum: float) -> str:
    counted = "refined: with exact parameter counts and bias terms."
    lines = [
        f"theory: leading order in the width; {counted if found.metric == 'parameters' else 'refined: the same.'}",
        "spread: standard deviation over networks; errors: prediction / measured mean - 1.",
    ]
    notes = _notes(found.prediction)
    if found.metric == "parameters":
        lines.append(f"critical rate: largest learning rate of stable gradient descent at momentum mu = {momentum:g}.")
    if found.theory.given_seeds is not None:
        lines.append("The theory is evaluated at the outputs of the networks that are measured.")
    elif found.architecture.num_outputs > 1 and not notes:
        lines.append("For C > 1 the theory's maximum is the mean of the C largest eigenvalues (top mean).")
    return "\n".join([*lines, *notes])


def _notes(prediction: PredictedMetric) -> list[str]:
    """What the numbers do not say by themselves."""
    if not (prediction.is_mean_subtracted or prediction.is_centered):
        return []
    note = _SUBTRACTED if prediction.is_mean_subtracted else _CENTERED
    return [note, _NO_BULK if prediction.bulk is None else _BULK]


def run_spectrum(options: argparse.Namespace) -> Answer:
    path = picture_path(options, _PICTURE)
    found, heading, record = _measure(options, *_read(options), eigenvalues=True)
    if not any(statistics.maximum > 0 for statistics in found.measured):
        path = None  # nothing to draw: no gradient passes through these networks
    comparison = found.comparison(options.momentum)
    text = f"{heading}\n{comparison.text()}\n\n{_legend(found, options.momentum)}"
    if path is not None:
        _draw(path, found, options)
        text += f"\npicture: {path}"
    record |= {
        "rows": comparison.as_dict(),
        "measured": found.measured,
        "eigenvalues": found.eigenvalues,
        "picture": None if path is None else str(path),
    }
    return text, record


def _draw(path: Path, found: SpectrumComparison, options: argparse.Namespace) -> None:
    assert found.eigenvalues is not None
    prediction = found.prediction
    matrix = matrix_text(options).removeprefix(f"{MATRICES['parameters']}; ")  # which the axis names
    network = (
        f"{activation_names(found.architecture)}, widths {widths_text(found.architecture)}, T = {found.num_samples}"
    )
    plot.save_spectrum(
        path,
        found.eigenvalues,
        theory=prediction.statistics if prediction.bulk is None else prediction.refined_statistics,
        measured=found.measured,
        predicted=found.predicted_eigenvalues(),
        symbol=MATRICES[found.metric].partition(",")[0],
        title=f"{network}\n{matrix}",
    )


def run_learning_rate(options: argparse.Namespace) -> Answer:
    architecture, inputs = _read(options)
    predicted = predicted_rates(
        architecture,
        inputs.argument,
        options.momentum,
        options.likelihood,
        batch_size=options.batch_size,
    )
    found, heading, record = _measure(options, architecture, inputs, eigenvalues=False)
    comparison = found.comparison(options.momentum).select("maximum", "critical rate")
    batch = f"a typical batch of {options.batch_size} by itself"
    rows = [
        (name, note, report.format_number(rate))
        for name, note, rate in (
            ("finite width", "the largest of the C outliers, above their mean", predicted.corrected),
            ("online", "one input at a time, wide layers", predicted.online),
            ("mini-batches", batch, predicted.batch),
        )
        if rate is not None
    ]
    exact = options.kind == "exact" and rows
    more = report.table(("critical rate", "of", "theory"), rows, left=2) + "\n\n" if exact else ""
    text = f"{heading}\n{comparison.text()}\n\n{more}{_legend(found, options.momentum)}"
    rates = {name: getattr(predicted, name) for name in ("corrected", "online", "batch")}
    return text, {**record, "rows": comparison.as_dict(), **rates}


def run_theory(options: argparse.Namespace) -> Answer:
    _check_momentum(options)
    check_draws(options.kind, options.draws)
    plain = likelihoods.get(options.likelihood) == likelihoods.Gaussian() and options.kind == "exact"
    if options.seed is not None and options.data == "gaussian" and plain:
        raise ValueError("--seed: expected together with --data or --likelihood, for nothing else is drawn here")
    inputs = read_inputs(options, options.seed or 0)
    architecture = read_architecture(options, inputs)
    theory = mean_field(
        architecture,
        inputs.argument,
        likelihood=options.likelihood,
        kind=options.kind,
        samples=options.draws,
        seed=options.seed or 0,
    )
    prediction = predicted_metric(theory, options.metric, centered=options.center)
    predictions, layers = _prediction_rows(theory, prediction, options), _layer_rows(theory)
    text = [
        heading_text(architecture, inputs, options) + "\n",
        report.table(("quantity", "symbol", "theory", "refined"), predictions, left=2) + "\n",
        report.table(("layer l", "qhat^(l-1)", "qhat_st^(l-1)", "q^l", "q_st^l", "qtilde^l", "qtilde_st^l"), layers),
    ]
    if isinstance(theory.inputs, np.ndarray):
        text.append("means over samples and, for _st, over pairs of samples")
    if not theory.is_unit_gaussian:
        text.append("The likelihood is evaluated at 10 draws of the outputs from the limiting Gaussian process.")
    text += _notes(prediction)
    record = {
        "statistics": prediction.statistics,
        "refined_statistics": prediction.refined_statistics,
        "bulk": prediction.bulk,
        "outliers": prediction.outliers(),
        "maximum_bounds": prediction.maximum_bounds,
        "betas": prediction.betas,
        **{name: getattr(theory, name) for name in ("alpha", "kappa1", "kappa2", "M", "is_centered")},
        "order_parameters": theory.order_parameters,
    }
    if options.metric == "parameters":
        record["critical_learning_rate"] = critical_learning_rate(prediction.statistics.maximum, options.momentum)
    if theory.is_unit_gaussian:
        record |= {
            "fisher_rao_norm": theory.fisher_rao_norm,
            "fisher_rao_bound": theory.fisher_rao_bound,
            "bounds_wide_output": theory.bounds_wide_output(),
        }
    return "\n".join(text), {**run_record(architecture, inputs, options), "momentum": options.momentum, **record}


def _prediction_rows(
    theory: MeanField, prediction: PredictedMetric, options: argparse.Namespace
) -> list[tuple[str, ...]]:
    statistics, refined = prediction.statistics, prediction.refined_statistics
    first, second = SYMBOLS[options.metric]
    rows: list[tuple[str, str, float, float | None]] = [
        ("mean", first, statistics.mean, refined.mean),
        ("second moment", second, statistics.second_moment, refined.second_moment),
        ("maximum", "lambda_max", statistics.maximum, refined.maximum),
    ]
    if statistics.top_mean != statistics.maximum:
        rows.append(("top mean", f"{statistics.num_outliers} largest", statistics.top_mean, refined.top_mean))
    if options.metric == "parameters":
        rate, refined_rate = (critical_learning_rate(s.maximum, options.momentum) for s in (statistics, refined))
        rows.append((f"critical rate, mu = {options.momentum:g}", "2 (1 + mu) / lambda_max", rate, refined_rate))
    rows += _regression_rows(theory, prediction) if theory.is_unit_gaussian else _likelihood_rows(prediction)
    if options.metric == "parameters":  # of the Fisher information matrix, whether or not a mean is subtracted
        rows += [
            ("alpha", "", theory.alpha, None),
            ("kappa_1", "", theory.kappa1, None),
            ("kappa_2", "", theory.kappa2, None),
        ]
    return [(name, symbol, *(report.format_number(x, 6) for x in values)) for name, symbol, *values in rows]


def _regression_rows(theory: MeanField, prediction: PredictedMetric) -> list[tuple[str, str, float, float | None]]:
    """What is stated for the Fisher information matrix of the unit Gaussian likelihood alone."""
    if prediction is not theory.parameters():
        return []
    bounds = theory.bounds_wide_output()
    wide: list[tuple[str, str, float, float | None]] = [
        ("upper bounds for C = O(M)", "tr F^2 / P", bounds.second_moment[1], None),
        ("", "lambda_max", bounds.maximum[1], None),
    ]
    return [
        *(wide if theory.arch.num_outputs > 1 else []),
        ("Fisher-Rao norm", "theta' F theta", theory.fisher_rao_norm, None),
        ("  Theorem 5 as published (no bound)", "", theory.fisher_rao_bound, None),
    ]


def _likelihood_rows(prediction: PredictedMetric) -> list[tuple[str, str, float, float | None]]:
    betas, (lower, upper) = prediction.betas, prediction.maximum_bounds
    return [
        ("  lower bound", "lambda_max", lower, None),
        ("  upper bound", "lambda_max", upper, None),
        ("beta_1", "mean tr Q", betas.beta1, None),
        ("beta_2", "", betas.beta2, None),
        ("beta_3", "", betas.beta3, None),
    ]


def _layer_rows(theory: MeanField) -> list[tuple[str, ...]]:
    order = theory.order_parameters
    columns = (order.qhat, order.qhat_st, order.q, order.q_st, order.qtilde, order.qtilde_st)
    return [
        (str(l), *(report.format_number(float(value), 6) for value in values))
        for l, values in enumerate(zip(*columns, strict=True), 1)
    ]
