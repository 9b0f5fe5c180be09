"""The command train-map: training over widths and learning rates, with the predicted critical rate."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import data, plot, report
from .._validate import FloatArray, as_dtype, positive_int
from ..experiments import TrainingMap, training_map
from .options import AddCommand, Answer, add_picture_options, add_run_options, list_of, picture_path

__all__ = ["add_commands"]

_MAP = "fisherfield-train-map.png"
_WIDTHS = tuple(range(100, 1001, 100))
_SAMPLES = 100


def add_commands(command: AddCommand) -> None:
    """Add train-map."""
    train_map = command(
        "train-map",
        run_train_map,
        "losses after training over widths and learning rates, with the predicted critical rate on them",
        "--widths 100,200,400 --rates 12",
    )
    add_ensemble(train_map)
    train_map.add_argument(
        "--widths",
        type=list_of(int, "integers such as 100,200,400"),
        default=_WIDTHS,
        metavar="M,M,...",
        help="widths of the hidden layers, and of Gaussian inputs (default: 100,200,...,1000)",
    )
    training = add_training_options(train_map, momentum=0.9, steps=100)
    training.add_argument(
        "--rates",
        type=list_of(float, "a number of rates such as 20, or rates such as 0.01,0.02"),
        default=(20.0,),
        metavar="N | ETA,ETA,...",
        help="learning rates, or how many around the critical ones (default: 20)",
    )
    training.add_argument("--seed", type=int, default=0, help="of networks, inputs and batches (default: 0)")
    add_run_options(training)
    add_picture_options(train_map, _MAP)


def add_ensemble(parser: argparse.ArgumentParser) -> None:
    """Add networks whose hidden layers are alike, and data with targets."""
    network = parser.add_argument_group("network")
    network.add_argument("--depth", type=int, default=4, metavar="L", help="number of weight layers (default: 4)")
    network.add_argument(
        "--outputs", type=int, default=10, metavar="C", help="number of outputs; the classes of data (default: 10)"
    )
    network.add_argument("--activation", default="tanh", metavar="NAME", help="(default: tanh)")
    network.add_argument("--weight-var", type=float, default=3.0, metavar="V", help="sigma_w^2 (default: 3)")
    network.add_argument("--bias-var", type=float, default=0.64, metavar="V", help="sigma_b^2 (default: 0.64)")
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "--data",
        default="gaussian",
        metavar="SOURCE",
        help="gaussian, with the outputs of a teacher network as targets, or digits or fashion-mnist with their "
        "classes, all entries standardized to mean 0 and variance 1 (default: gaussian)",
    )
    inputs.add_argument("--data-dir", metavar="FOLDER", help="folder of the IDX files of fashion-mnist")
    inputs.add_argument(
        "-T", "--samples", type=int, metavar="T", help=f"number of samples (default: {_SAMPLES}; all of --data)"
    )


def add_training_options(parser: argparse.ArgumentParser, momentum: float, steps: int) -> Any:
    """Add what training takes; return the group."""
    training = parser.add_argument_group("training")
    training.add_argument(
        "--loss", default="squared", help="squared or cross_entropy, of data with classes (default: squared)"
    )
    training.add_argument(
        "--momentum", type=float, default=momentum, metavar="MU", help=f"0 <= MU < 1 (default: {momentum:g})"
    )
    training.add_argument("--steps", type=int, default=steps, metavar="K", help=f"(default: {steps})")
    training.add_argument("--batch-size", type=int, metavar="B", help="samples of a step (default: all)")
    return training


def read_problem(options: argparse.Namespace) -> tuple[Any, Any, str]:
    """Inputs and targets: a number and None for Gaussian ones; and a description."""
    if options.data == "gaussian":
        if options.data_dir is not None:
            raise ValueError("--data-dir: expected together with --data fashion-mnist")
        count = positive_int(_SAMPLES if options.samples is None else options.samples, "samples")
        return count, None, f"{count} unit Gaussian samples, outputs of a teacher network"
    labels = data.labels(options.data, options.data_dir)
    X, description = data.load(options.data, options.data_dir)
    chosen = (
        np.arange(len(X)) if options.samples is None else data.draw(np.arange(len(X)), options.samples, options.seed)
    )
    return data.standardize(X)[chosen], labels[chosen], f"{len(chosen)} of {description}"


def run_train_map(options: argparse.Namespace) -> Answer:
    """Train every cell of the map, and count them on either side of the line."""
    path = picture_path(options, _MAP)
    as_dtype(options.dtype)
    inputs, targets, description = read_problem(options)
    few = len(options.rates) == 1 and options.rates[0].is_integer()
    found = training_map(
        options.widths,
        int(options.rates[0]) if few else options.rates,
        depth=options.depth,
        num_outputs=options.outputs,
        activation=options.activation,
        weight_var=options.weight_var,
        bias_var=options.bias_var,
        inputs=inputs,
        targets=targets,
        loss=options.loss,
        momentum=options.momentum,
        steps=options.steps,
        batch_size=options.batch_size,
        seed=options.seed,
        dtype=options.dtype,
        progress=options.progress,
    )
    text = [
        ensemble_text(options),
        f"inputs    {description}",
        f"training  {_training_text(found)}, {options.loss} loss\n",
        report.table(_HEADER, [_row(found, i) for i in range(len(found.widths))]) + "\n",
        report.table(("line", "diverge above", "converge below"), _fraction_rows(found)) + "\n",
        "eta_c = 2 (1 + mu) / lambda_max: of the theory; with the largest outlier at finite width; measured before",
        "training. boundary: between the largest rate below which all cells converge and the next. converged: the loss",
        "is lower after training than before.",
    ]
    if path is not None:
        plot.save_training_map(path, found, title=f"{found.description}\n{description}")
        text.append(f"picture: {path}")
    record = {
        **{name: getattr(found, name) for name in _FIELDS},
        "converged": found.converged,
        "boundary": found.boundary,
        "fractions": {line: found.fractions(line) for line in _LINES},
        "inputs": description,
        "dtype": options.dtype,
        "seed": options.seed,
        "picture": None if path is None else str(path),
    }
    return "\n".join(text), record


_HEADER = ("M", "eta_c theory", "finite width", "measured", "boundary", "boundary / theory", "converged", "best loss")
_LINES = ("theory", "corrected", "measured")
_FIELDS = (
    "widths", "rates", "initial_loss", "final_loss", "theory", "corrected", "measured", "momentum", "steps",
    "num_samples", "batch_size",
)  # fmt: skip


def ensemble_text(options: argparse.Namespace) -> str:
    """The networks, above a table."""
    return (
        f"network   {options.activation}, L = {options.depth}, C = {options.outputs}, weight variance "
        f"{options.weight_var:g}, bias variance {options.bias_var:g}"
    )


def _training_text(found: TrainingMap) -> str:
    batch = "all samples" if found.batch_size is None else f"{found.batch_size} samples"
    rates = f"{len(found.rates)} rates from {found.rates[0]:.3g} to {found.rates[-1]:.3g}"
    return f"{found.steps} steps of {batch}, momentum {found.momentum:g}, {rates}"


def _row(found: TrainingMap, i: int) -> tuple[str, ...]:
    rates: tuple[FloatArray, ...] = (found.theory, found.corrected, found.measured, found.boundary)
    numbers = [float(rate[i]) for rate in rates]
    return (
        str(found.widths[i]),
        *map(report.format_number, [*numbers, numbers[-1] / numbers[0]]),
        f"{np.count_nonzero(found.converged[i])} / {len(found.rates)}",
        report.format_number(float(found.final_loss[i].min())),
    )


def _fraction_rows(found: TrainingMap) -> list[tuple[str, ...]]:
    return [
        (name, *(report.format_number(100 * share) + " %" for share in found.fractions(line)))
        for name, line in zip(("theory", "finite width", "measured"), _LINES, strict=True)
    ]
