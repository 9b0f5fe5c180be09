"""The command diagonal: the diagonal of the Fisher information matrix, and how well its random estimators do."""

import argparse
from typing import Any

import numpy as np

from .. import likelihoods, plot, report
from .._validate import as_dtype, non_negative, positive_int
from ..diagonal import METHODS, DiagonalVariance, LayerVariance, diagonal_variance, estimate_diagonal
from .options import (
    AddCommand,
    Answer,
    activation_names,
    add_ensemble_options,
    add_likelihood_option,
    add_picture_options,
    add_run_options,
    heading_text,
    picture_path,
    read_architecture,
    read_inputs,
    run_record,
    widths_text,
)

__all__ = ["add_commands"]

_PICTURE = "fisherfield-diagonal.png"


def add_commands(command: AddCommand) -> None:
    """Add diagonal."""
    diagonal = command(
        "diagonal",
        run_diagonal,
        "the exact diagonal by layer, and the exact variances of its two random estimators",
        "--data digits --widths 64,100,100,100,10 --activation sigmoid --draws 20",
    )
    add_ensemble_options(diagonal)
    add_likelihood_option(diagonal, "categorical")
    estimators = diagonal.add_argument_group("estimators")
    estimators.add_argument(
        "--error",
        type=float,
        default=0.1,
        metavar="EPS",
        help="count the draws that bring a layer's diagonal within this relative error (default: 0.1)",
    )
    estimators.add_argument(
        "--draws", type=int, metavar="N", help="also draw N >= 2 targets per sample, and measure the deviations"
    )
    network = diagonal.add_argument_group("measurement")
    network.add_argument(
        "--seed", type=int, default=0, help="of the network, its inputs and the drawn targets (default: 0)"
    )
    add_run_options(network)
    add_picture_options(diagonal, _PICTURE)


def run_diagonal(options: argparse.Namespace) -> Answer:
    """Compare the two estimators layer by layer."""
    path = picture_path(options, _PICTURE)
    seed = positive_int(options.seed, "seed", minimum=0)
    precision = as_dtype(options.dtype)
    non_negative(options.error, "error", strict=True)
    if options.draws is not None:
        positive_int(options.draws, "draws", minimum=2)
    inputs = read_inputs(options, seed)
    architecture = read_architecture(options, inputs)
    net = architecture.sample(seed, precision)
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((inputs.num_samples, architecture.widths[0])) if inputs.X is None else inputs.X
    X = X.astype(precision, copy=False)
    progress = options.progress or None
    found = diagonal_variance(net, X, options.likelihood, bounds=True, progress=progress)
    counts = {method: found.samples_for(options.error, method) for method in METHODS}
    measured = {
        method: _measured_deviations(
            found,
            estimate_diagonal(
                net, X, options.likelihood, method=method, samples=options.draws, seed=seed, progress=progress
            ).standard_errors,
            options.draws,
        )
        for method in (METHODS if options.draws else ())
    }
    layers = found.layers()
    text = [
        f"{heading_text(architecture, inputs, options)}\nmeasured  1 network, seed {seed}, {precision.name}\n",
        report.table(_HEADER, [_row(*row) for row in zip(layers, *counts.values(), strict=True)]) + "\n",
    ]
    if measured:
        text += [report.table(_MEASURED, _measured_rows(layers, measured)) + "\n"]
    text += [
        "I_1: squared scores; I_2: negative second derivatives of log p; both at one target drawn per sample.",
        "dev: their standard deviations given the inputs, root mean squares over a layer's parameters; with eigenvalue",
        "bounds. inputs: what the choice of the inputs adds to both.",
        f"draws: targets per sample for a relative error of {100 * options.error:g} % of a layer's diagonal.",
    ]
    if path is not None:
        title = (
            f"{activation_names(architecture)}, widths {widths_text(architecture)}, T = {inputs.num_samples}\n"
            f"{likelihoods.get(options.likelihood).name} likelihood, one target drawn per sample"
        )
        plot.save_diagonal_variance(path, found, title=title)
        text.append(f"picture: {path}")
    record = {
        "dtype": precision.name,
        "seed": seed,
        "relative_error": options.error,
        "layers": [
            {**report.plain(layer), "ratio": layer.ratio, "better": layer.better}
            | {f"{method}_draws": counts[method][l] for method in METHODS}
            | {f"{method}_deviation_measured": values[l] for method, values in measured.items()}
            for l, layer in enumerate(layers)
        ],
        "draws": options.draws,
        "picture": None if path is None else str(path),
    }
    return "\n".join(text), {**run_record(architecture, inputs, options), **record}


_HEADER = (
    "layer", "parameters", "mean F_ii", "dev I_1", "<= bound", "dev I_2", ">= bound", "<= bound", "I_2 / I_1", "inputs",
    "draws I_1", "draws I_2",
)  # fmt: skip
_MEASURED = ("layer", "dev I_1", "measured", "dev I_2", "measured")


def _row(layer: LayerVariance, score_draws: int, hessian_draws: int) -> tuple[str, ...]:
    assert layer.score_bound is not None
    assert layer.hessian_bounds is not None
    score, hessian = (layer.score_deviation, layer.score_bound), (layer.hessian_deviation, *layer.hessian_bounds)
    numbers = (layer.mean, *score, *hessian, layer.ratio, layer.input_deviation)
    return (
        str(layer.layer),
        f"{layer.num_parameters:,}",
        *map(report.format_number, numbers),
        f"{score_draws:,}",
        f"{hessian_draws:,}",
    )


def _measured_deviations(found: DiagonalVariance, errors: Any, draws: int) -> list[float]:
    """Deviations of one draw as the draws show them, root mean squares over the parameters of each layer."""
    return [float(np.sqrt(draws * np.mean(np.square(errors[part], dtype=np.float64)))) for part in found.layer_slices]


def _measured_rows(layers: tuple[LayerVariance, ...], measured: dict[str, list[float]]) -> list[tuple[str, ...]]:
    return [
        (
            str(layer.layer),
            *map(
                report.format_number,
                (layer.score_deviation, measured["score"][l], layer.hessian_deviation, measured["hessian"][l]),
            ),
        )
        for l, layer in enumerate(layers)
    ]
