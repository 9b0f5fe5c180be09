"""The commands train-map and monitor: training over widths and learning rates, and along runs."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import data, plot, report
from .._validate import FloatArray, as_dtype, positive_int
from ..architecture import MLP
from ..experiments import TrainingMap, training_map
from ..experiments.training import as_training_targets
from ..learning import Training, TrainingMonitor, train
from .options import AddCommand, Answer, add_picture_options, add_run_options, list_of, picture_path

__all__ = ["add_commands"]

_MAP = "fisherfield-train-map.png"
_PATHS = "fisherfield-monitor.png"
_WIDTHS = tuple(range(100, 1001, 100))
_SAMPLES = 100


def add_commands(command: AddCommand) -> None:
    """Add train-map and monitor."""
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
    training = add_training_options(train_map, momentum=0.9, steps=100, batch_size=None)
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

    monitor = command(
        "monitor",
        run_monitor,
        "condition number and energy of the empirical Fisher information along training runs",
        "--data digits --loss cross_entropy --rates 0.02,0.2 --steps 500",
    )
    add_ensemble(monitor)
    monitor.add_argument("--width", type=int, default=100, metavar="M", help="of the hidden layers (default: 100)")
    training = add_training_options(monitor, momentum=0.0, steps=200, batch_size=64)
    training.add_argument(
        "--rates",
        type=list_of(float, "learning rates such as 0.02,0.2"),
        default=(0.01,),
        metavar="ETA,ETA,...",
        help="learning rates, a run each (default: 0.01)",
    )
    training.add_argument(
        "--every", type=int, default=1, metavar="N", help="look at every N-th mini-batch only (default: 1)"
    )
    training.add_argument("--seed", type=int, default=0, help="of the network, inputs and batches (default: 0)")
    add_run_options(training)
    add_picture_options(monitor, _PATHS)


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


def add_training_options(parser: argparse.ArgumentParser, momentum: float, steps: int, batch_size: int | None) -> Any:
    """Add what training takes; return the group."""
    training = parser.add_argument_group("training")
    training.add_argument(
        "--loss", default="squared", help="squared or cross_entropy, of data with classes (default: squared)"
    )
    training.add_argument(
        "--momentum", type=float, default=momentum, metavar="MU", help=f"0 <= MU < 1 (default: {momentum:g})"
    )
    training.add_argument("--steps", type=int, default=steps, metavar="K", help=f"(default: {steps})")
    training.add_argument(
        "--batch-size",
        type=int,
        default=batch_size,
        metavar="B",
        help=f"samples of a step (default: {batch_size or 'all'})",
    )
    return training


def read_problem(options: argparse.Namespace) -> tuple[Any, Any, str]:
    """Inputs and targets: a number and None for Gaussian ones; and a description."""
    if options.data == "gaussian":
        if options.data_dir is not None:
            raise ValueError("--data-dir: expected together with --data fashion-mnist")
        if options.loss != "squared":
            raise ValueError(
                f"--loss: expected squared with gaussian samples, whose targets are numbers, got {options.loss}"
            )
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
    rates = f"{len(found.rates)} rates from {found.rates[0]:.3g} to {found.rates[-1]:.3g}"
    return f"{_steps_text(found.steps, found.batch_size, found.momentum)}, {rates}"


def _steps_text(steps: int, batch_size: int | None, momentum: float) -> str:
    batch = "all samples" if batch_size is None else f"{batch_size} samples"
    return f"{steps} steps of {batch}, momentum {momentum:g}"


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


def run_monitor(options: argparse.Namespace) -> Answer:
    """Train the same network at each rate, watched."""
    path = picture_path(options, _PATHS)
    precision, width = as_dtype(options.dtype), positive_int(options.width, "width")
    depth, outputs = positive_int(options.depth, "depth"), positive_int(options.outputs, "outputs")
    inputs, targets, description = read_problem(options)
    dimension = width if targets is None else inputs.shape[1]
    architecture = MLP(
        (dimension, *(width,) * (depth - 1), outputs),
        options.activation,
        weight_var=options.weight_var,
        bias_var=options.bias_var,
    )
    net = architecture.sample(options.seed, precision)
    if targets is None:
        X = np.random.default_rng(options.seed).standard_normal((inputs, dimension)).astype(precision, copy=False)
        targets = architecture.sample(options.seed + 1, precision)(X)
    else:
        X = inputs.astype(precision, copy=False)
        targets = as_training_targets(targets, options.loss, outputs, precision)
    runs: dict[float, tuple[Training, TrainingMonitor]] = {}
    for rate in options.rates:
        watched = TrainingMonitor(every=options.every)
        run = train(
            net,
            X,
            options.loss,
            targets=targets,
            learning_rate=rate,
            steps=options.steps,
            momentum=options.momentum,
            batch_size=options.batch_size,
            seed=options.seed,
            callback=watched,
            progress=options.progress,
        )
        runs[rate] = run, watched
    text = [
        f"{ensemble_text(options)}, width {width}",
        f"inputs    {description}",
        f"training  {_steps_text(options.steps, options.batch_size, options.momentum)}, {options.loss} loss\n",
        report.table(_PATH_HEADER, [_path_row(rate, *found) for rate, found in runs.items()]) + "\n",
        "condition: sigma_max / sigma_min of the gradients of a mini-batch's samples, the root of that of their",
        "empirical Fisher information F, mean over the run; energy: sum over the run of eta / sqrt(B) sqrt(tr F)",
        "(Liao, Drummond, Reid, Carneiro 2020). lambda_max, tr F and rank: of F of the last mini-batch.",
    ]
    if path is not None:
        title = f"{options.activation}, L = {depth}, M = {width}, C = {outputs}, {options.loss} loss\n{description}"
        plot.save_monitor(path, {f"rate {rate:g}": watched for rate, (_, watched) in runs.items()}, title=title)
        text.append(f"picture: {path}")
    record = {
        "runs": [
            {"learning_rate": rate, "final_loss": run.final_loss, "diverged": run.diverged, **watched.as_dict()}
            for rate, (run, watched) in runs.items()
        ],
        "inputs": description,
        "dtype": precision.name,
        "seed": options.seed,
        "picture": None if path is None else str(path),
    }
    return "\n".join(text), record


_PATH_HEADER = ("rate", "condition", "energy", "lambda_max", "tr F", "rank", "first loss", "final loss")


def _path_row(rate: float, run: Training, watched: TrainingMonitor) -> tuple[str, ...]:
    if not watched.records:
        return (f"{rate:g}", *("-",) * 5, report.format_number(float(run.losses[0])), "diverged")
    last = watched.records[-1]
    numbers = (last.mean_condition, last.total_energy, last.fisher_maximum, last.fisher_trace)
    return (
        f"{rate:g}",
        *map(report.format_number, numbers),
        str(last.rank),
        report.format_number(float(run.losses[0])),
        "diverged" if run.diverged else report.format_number(run.final_loss),
    )
