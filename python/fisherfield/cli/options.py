"""Options that commands share, and what they mean."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import activations, data, likelihoods, plot
from .._validate import FloatArray
from ..architecture import MLP, ResidualMLP

__all__ = [
    "MATRICES",
    "Inputs",
    "activation_names",
    "add_ensemble_options",
    "add_likelihood_option",
    "add_likelihood_options",
    "add_measurement_options",
    "add_momentum_option",
    "add_picture_options",
    "add_run_options",
    "counted",
    "heading_text",
    "list_of",
    "matrix_text",
    "networks_text",
    "numbers_text",
    "one_or_all",
    "picture_path",
    "read_architecture",
    "read_inputs",
    "run_record",
    "seeds",
    "widths_text",
]

Answer = tuple[str, dict[str, Any]]  # what a command prints, and the same as a record for --json
Run = Callable[[argparse.Namespace], Answer]
AddCommand = Callable[[str, Run, str, str], argparse.ArgumentParser]  # by name, what runs it, a summary, an example


_HIDDEN = (1000, 1000)  # the widths of Figure 1 of Karakida, Akaho, Amari (2019), which has one output


_OUTPUTS = {"categorical": 10, "heteroscedastic": 2}


_GAUSSIAN_DIMENSION = 1000


MATRICES = {
    "parameters": "F, the Fisher information matrix",
    "ntk": "Theta, the tangent kernel in NTK parametrisation",
    "features": "A, the metric of feature space",
    "input": "A, the metric of the input space",
}


def list_of(kind: Callable[[str], Any], what: str) -> Callable[[str], tuple[Any, ...]]:
    """Return a parser of values of one kind between commas."""

    def parse(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(entry) for entry in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}") from error

    return parse


def one_or_all(values: tuple[Any, ...]) -> Any:
    """Return the single value of a tuple of one, otherwise the tuple."""
    return values[0] if len(values) == 1 else values


def seeds(text: str) -> tuple[int, ...]:
    """``10`` means 0 to 9; a comma makes a list: ``3,7`` or ``3,``."""
    try:
        numbers = tuple(int(entry) for entry in text.split(",") if entry)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a count such as 10 or a list such as 3,7, got {text!r}") from error
    if not numbers or ("," not in text and numbers[0] < 0):
        got = repr(text) if numbers else "nothing"
        raise argparse.ArgumentTypeError(f"expected a count such as 10 or a list such as 3,7, got {got}")
    return numbers if "," in text else tuple(range(numbers[0]))


def add_ensemble_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of networks and inputs."""
    network = parser.add_argument_group("network")
    network.add_argument(
        "--widths",
        type=list_of(int, "integers such as 784,500,500,10"),
        metavar="M0,M1,...,C",
        help="input dimension, hidden widths, number of outputs (default: 1000,1000,1000,1, with 10 "
        "outputs for the categorical and 2 for the heteroscedastic likelihood; with --data the first is the dimension "
        "of the data)",
    )
    network.add_argument(
        "--activation",
        type=list_of(str, "names"),
        default=("tanh",),
        metavar="NAME[,NAME...]",
        help=f"one name, or one per hidden layer, of {', '.join(activations.available())} (default: tanh)",
    )
    variances = list_of(float, "a number, or one number per layer such as 2,2,1")
    network.add_argument(
        "--weight-var",
        type=variances,
        default=(3.0,),
        metavar="V[,V...]",
        help="sigma_w^2: weights have variance sigma_w^2 / fan-in; one, or one per layer (default: 3)",
    )
    biases = network.add_mutually_exclusive_group()
    biases.add_argument(
        "--bias-var",
        type=variances,
        default=(0.64,),
        metavar="V[,V...]",
        help="sigma_b^2, one or one per layer (default: 0.64)",
    )
    biases.add_argument("--no-bias", action="store_true", help="networks without biases")
    network.add_argument(
        "--residual",
        action="store_true",
        help="residual networks: a linear stem, blocks u + W phi(u) + b of equal width, a linear read-out",
    )
    network.add_argument(
        "--init", default="gaussian", help="law of the weights: gaussian or orthogonal (default: gaussian)"
    )
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument(
        "-T",
        "--samples",
        type=int,
        default=100,
        metavar="T",
        help="number of samples; of --data, drawn without replacement (default: 100)",
    )
    inputs.add_argument(
        "--data",
        default="gaussian",
        metavar="SOURCE",
        help="gaussian, digits, fashion-mnist, or a .npy, .npz or .csv file of samples (default: gaussian)",
    )
    inputs.add_argument("--data-dir", metavar="FOLDER", help="folder of the IDX files of fashion-mnist")
    inputs.add_argument(
        "--no-standardize",
        action="store_true",
        help="take --data as stored; otherwise all entries are shifted and scaled to mean 0 and variance 1",
    )


def add_momentum_option(parser: argparse.ArgumentParser) -> None:
    """Add the momentum of the critical learning rate."""
    parser.add_argument(
        "--momentum",
        type=float,
        default=0.0,
        metavar="MU",
        help="of the critical learning rate, 0 <= MU < 1 (default: 0)",
    )


def add_likelihood_option(parser: argparse.ArgumentParser, default: str = "gaussian") -> Any:
    """Add the likelihood of the exact Fisher information matrix; return its group."""
    matrix = parser.add_argument_group("matrix")
    matrix.add_argument(
        "--likelihood",
        default=default,
        metavar="NAME",
        help=f"output distribution, one of {', '.join(likelihoods.available())} (default: {default})",
    )
    matrix.set_defaults(metric="parameters", kind="exact", center=False)
    return matrix


def add_likelihood_options(parser: argparse.ArgumentParser) -> Any:
    """Add the options that choose a Fisher information matrix; return their group."""
    matrix = add_likelihood_option(parser)
    matrix.add_argument(
        "--kind",
        default="exact",
        metavar="KIND",
        help=f"{', '.join(likelihoods.KINDS)}: the expectation over targets taken exactly, estimated from drawn "
        "targets, or replaced by the targets of a teacher network (default: exact)",
    )
    matrix.add_argument("--draws", type=int, metavar="N", help="targets drawn per sample, of monte_carlo (default: 1)")
    return matrix


def add_picture_options(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options of the picture."""
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument(
        "--output", metavar="PICTURE", help=f"file of the picture, .png, .svg or .pdf (default: {default})"
    )
    picture.add_argument("--no-picture", action="store_true", help="write no picture")


def add_measurement_options(parser: argparse.ArgumentParser, networks: int = 10) -> None:
    """Add the options of networks that are sampled."""
    measurement = parser.add_argument_group("measurement")
    measurement.add_argument(
        "--seeds",
        type=seeds,
        default=tuple(range(networks)),
        metavar="N | S,S,...",
        help=f"number of networks, with seeds 0, 1, ..., or a list of seeds (default: {networks})",
    )
    add_run_options(measurement)


def add_run_options(parser: Any) -> None:
    """Add the precision and the progress bar."""
    parser.add_argument("--dtype", default="float64", help="float64 or float32 (default: float64)")
    parser.add_argument("--progress", action="store_true", help="show a progress bar (needs tqdm)")


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run: unit Gaussian ones (``X`` is None) or samples of a data set."""

    description: str
    num_samples: int
    X: FloatArray | None = None
    scaling: str = "none"

    @property
    def argument(self) -> Any:
        """Second argument of ``mean_field`` and ``compare``."""
        return self.num_samples if self.X is None else self.X


def read_inputs(options: argparse.Namespace, seed: int) -> Inputs:
    """Load or describe the inputs."""
    if options.data == "gaussian":
        if options.data_dir is not None:
            raise ValueError("--data-dir: expected together with --data fashion-mnist")
        if options.no_standardize:
            raise ValueError("--no-standardize: expected together with --data, for Gaussian samples are not scaled")
        return Inputs(f"{options.samples} unit Gaussian samples", options.samples)
    X, description = data.load(options.data, options.data_dir)
    scaling = "none, values as stored"
    if not options.no_standardize:
        X, scaling = data.standardize(X), "all entries to mean 0, variance 1"
    X = data.draw(X, options.samples, seed)
    return Inputs(f"{len(X)} of {description}, drawn with seed {seed}", len(X), X, scaling)


def read_architecture(options: argparse.Namespace, inputs: Inputs) -> MLP:
    """Make the ensemble of networks that fits the inputs."""
    dimension = _GAUSSIAN_DIMENSION if inputs.X is None else inputs.X.shape[1]
    outputs = _OUTPUTS.get(likelihoods.get(options.likelihood).name, 1)
    widths = options.widths or (dimension, *_HIDDEN, outputs)
    if inputs.X is not None and widths[0] != dimension:
        raise ValueError(f"--widths: expected {dimension} first, the dimension of the data, got {widths[0]}")
    make = ResidualMLP if options.residual else MLP
    return make(
        widths,
        one_or_all(options.activation),
        weight_var=one_or_all(options.weight_var),
        bias_var=None if options.no_bias else one_or_all(options.bias_var),
        init=options.init,
    )


def activation_names(architecture: MLP) -> str:
    """Return the names of the activations, each once."""
    hidden = architecture.activations[:-1] if architecture.residual else architecture.activations
    names = ",".join(dict.fromkeys(phi.name for phi in hidden))
    return f"residual {names}" if architecture.residual else names


def widths_text(architecture: MLP) -> str:
    """Return the widths, joined by dashes."""
    return "-".join(map(str, architecture.widths))


def numbers_text(values: tuple[float, ...]) -> str:
    """Return numbers joined by commas, or the one that all are."""
    return ",".join(f"{value:g}" for value in (values if len(set(values)) > 1 else values[:1]))


def matrix_text(options: argparse.Namespace) -> str:
    """Which matrix it is, without ambiguity."""
    words = [MATRICES[options.metric]]
    if options.metric != "ntk":
        count = options.draws or 1
        draws = f" with {count} target{'s' * (count > 1)} a sample" if options.kind == "monte_carlo" else ""
        targets = " with a teacher's targets" if options.kind == "empirical" else ""
        words.append(f"{likelihoods.get(options.likelihood).name} likelihood, {options.kind}{draws}{targets}")
    if options.center:
        words.append("outputs mean-subtracted")
    return "; ".join(words)


def heading_text(architecture: MLP, inputs: Inputs, options: argparse.Namespace) -> str:
    """Return what is computed, above the table."""
    biases = f"bias variance {numbers_text(architecture.bias_vars)}" if architecture.has_biases else "without biases"
    return (
        f"network   {activation_names(architecture)}, widths {widths_text(architecture)}, "
        f"{architecture.num_parameters:,} parameters\n"
        f"ensemble  {architecture.init}, weight variance {numbers_text(architecture.weight_vars)}, {biases}\n"
        f"inputs    {inputs.description}"
        + (f"\nscaling   {inputs.scaling}" if inputs.X is not None else "")
        + f"\nmatrix    {matrix_text(options)}"
    )


def run_record(architecture: MLP, inputs: Inputs, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is computed, for JSON."""
    return {
        "network": {
            "widths": architecture.widths,
            "activations": [phi.name for phi in architecture.activations],
            "weight_vars": architecture.weight_vars,
            "bias_vars": architecture.bias_vars if architecture.has_biases else None,
            "init": architecture.init,
            "residual": architecture.residual,
            "num_parameters": architecture.num_parameters,
        },
        "inputs": {
            "source": options.data,
            "num_samples": inputs.num_samples,
            "description": inputs.description,
            "scaling": inputs.scaling,
        },
        "matrix": {
            "metric": options.metric,
            "likelihood": likelihoods.get(options.likelihood).name,
            "kind": options.kind,
            "draws": (options.draws or 1) if options.kind == "monte_carlo" else None,
            "centered": options.center,
        },
    }


def networks_text(seeds: tuple[int, ...], dtype: str) -> str:
    """How many networks, from which seeds."""
    consecutive = seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    named = f"{seeds[0]} to {seeds[-1]}" if consecutive and len(seeds) > 1 else ", ".join(map(str, seeds))
    plural = "s" if len(seeds) > 1 else ""
    return f"measured  {len(seeds)} network{plural}, seed{plural} {named}, {dtype}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'s' * (number > 1)}"


def picture_path(options: argparse.Namespace, default: str) -> Path | None:
    """Where the picture goes, checked before the work; None with a message where matplotlib is missing."""
    if options.no_picture:
        return None
    try:
        return plot.check_path(options.output or default)
    except ImportError as error:
        print(f"fisherfield: no picture: {error}", file=sys.stderr)
        return None
