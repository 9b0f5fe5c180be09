"""The command line: reads options, calls the library, prints tables or JSON."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import activations, data, likelihoods, plot, report
from ._config import config_text, show_config, version
from ._validate import FloatArray, as_momentum
from .architecture import MLP, ResidualMLP
from .experiments import (
    METRICS,
    SYMBOLS,
    ConditionalComparison,
    SpectrumComparison,
    check_draws,
    compare,
    compare_conditional,
    learning_rate_boundary,
    predicted_metric,
)
from .statistics import critical_learning_rate
from .theory import IsometryPoint, MeanField, PredictedMetric, isometry_point, mean_field

__all__ = ["main"]

_PICTURE = "fisherfield-spectrum.png"
_ISOMETRY_PICTURE = "fisherfield-isometry.png"
_HIDDEN = (1000, 1000)  # the widths of Figure 1 of Karakida, Akaho, Amari (2019), which has one output
_OUTPUTS = {"categorical": 10, "heteroscedastic": 2}
_GAUSSIAN_DIMENSION = 1000
_CENTERED = "note: centred, gradients of two samples are uncorrelated: no outlier, the maximum is the edge of the bulk."
_SUBTRACTED = "note: mean subtraction leaves no outlier: the maximum is the edge of the bulk."
_BULK = (
    "The column refined has this edge, from the law of the bulk; the leading order (theory) leaves fluctuations out."
)
_NO_BULK = "No law of the bulk is known here; both columns leave out the fluctuations that widen it."
_MATRICES = {
    "parameters": "F, the Fisher information matrix",
    "ntk": "Theta, the tangent kernel in NTK parametrisation",
    "features": "A, the metric of feature space",
    "input": "A, the metric of the input space",
}


Answer = tuple[str, dict[str, Any]]  # what a command prints, and the same as a record for --json


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 2 for errors of use, 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            text, record = options.run(options)
        if options.json:
            record = {"fisherfield": version(), "command": options.command, **record}
            text = json.dumps(report.plain(record), indent=2, allow_nan=False)
        print(text, flush=True)
    except KeyboardInterrupt:
        print("fisherfield: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, TypeError, OSError, MemoryError, ImportError) as error:
        print(f"fisherfield: error: {_as_typed(' '.join(str(error).split()), options)}", file=sys.stderr)
        return 2
    return 0


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"fisherfield: warning: {message}", file=sys.stderr)


_ARGUMENTS = {"folder": "data_dir", "inputs": "samples", "num_samples": "samples", "seed": "seeds"}


def _as_typed(message: str, options: argparse.Namespace) -> str:
    """Put the option in the place of the argument with whose name an error begins."""

    def option(match: re.Match[str]) -> str:
        name = match[0] if match[0] in options else _ARGUMENTS.get(match[0], "")
        return f"--{name.replace('_', '-')}" if name in options else match[0]

    return re.sub(r"^\w+(?=[:\[])", option, message)


# --- options ------------------------------------------------------------------------------------------------


def _list_of(kind: Callable[[str], Any], what: str) -> Callable[[str], tuple[Any, ...]]:
    def parse(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(entry) for entry in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}") from error

    return parse


class _Parser(argparse.ArgumentParser):
    """Options spelled out, for ``--seed`` is not ``--seeds``; errors in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _seeds(text: str) -> tuple[int, ...]:
    """``10`` means 0 to 9; a comma makes a list: ``3,7`` or ``3,``."""
    try:
        numbers = tuple(int(entry) for entry in text.split(",") if entry)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a count such as 10 or a list such as 3,7, got {text!r}") from error
    if not numbers or ("," not in text and numbers[0] < 0):
        got = repr(text) if numbers else "nothing"
        raise argparse.ArgumentTypeError(f"expected a count such as 10 or a list such as 3,7, got {got}")
    return numbers if "," in text else tuple(range(numbers[0]))


def _one_or_all(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else values


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fisherfield",
        description="The Fisher information matrix of deep networks: mean-field theory beside measurement.",
    )
    parser.add_argument("--version", action="version", version=f"fisherfield {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], Answer], summary: str, example: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example: fisherfield {name} {example}",
        )
        sub.set_defaults(run=run, command=name)
        sub.add_argument("--json", action="store_true", help="print JSON instead of tables")
        return sub

    spectrum = command(
        "spectrum",
        _spectrum,
        "eigenvalue statistics, theory beside sampled networks, and a histogram of the eigenvalues",
        "--data digits --widths 64,500,500,10 --samples 300 --output digits.svg",
    )
    _add_ensemble_options(spectrum)
    _add_metric_options(spectrum)
    _add_measurement_options(spectrum)
    _add_picture_options(spectrum, _PICTURE)

    theory = command(
        "theory",
        _theory,
        "predictions of mean-field theory, without sampling a network",
        "--activation relu --weight-var 2 --bias-var 0.1 --widths 500,500,500,500,10",
    )
    _add_ensemble_options(theory)
    _add_metric_options(theory)
    theory.add_argument(
        "--seed",
        type=int,
        help="draws the samples of --data, and the outputs at which a likelihood is evaluated (default: 0)",
    )

    rate = command(
        "learning-rate",
        _learning_rate,
        "critical learning rate of gradient descent with momentum, from theory and from sampled networks",
        "--momentum 0.9 --widths 500,500,500,1",
    )
    _add_ensemble_options(rate)
    _add_likelihood_options(rate)
    _add_measurement_options(rate)

    isometry = command(
        "isometry",
        _isometry,
        "dynamical isometry: the spectrum given one input, and the learning rate of online training, by depth",
        "--depth 20 --activation shifted_relu --batch 2",
    )
    _add_isometry_options(isometry)
    _add_measurement_options(isometry, networks=3)
    _add_picture_options(isometry, _ISOMETRY_PICTURE)

    command("info", _info, "versions, instruction set, threads, BLAS and CUDA", "--json")
    return parser


def _add_ensemble_options(parser: argparse.ArgumentParser) -> None:
    network = parser.add_argument_group("network")
    network.add_argument(
        "--widths",
        type=_list_of(int, "integers such as 784,500,500,10"),
        metavar="M0,M1,...,C",
        help="input dimension, hidden widths, number of outputs (default: 1000,1000,1000,1, with 10 "
        "outputs for the categorical and 2 for the heteroscedastic likelihood; with --data the first is the dimension "
        "of the data)",
    )
    network.add_argument(
        "--activation",
        type=_list_of(str, "names"),
        default=("tanh",),
        metavar="NAME[,NAME...]",
        help=f"one name, or one per hidden layer, of {', '.join(activations.available())} (default: tanh)",
    )
    variances = _list_of(float, "a number, or one number per layer such as 2,2,1")
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
    network.add_argument(
        "--momentum",
        type=float,
        default=0.0,
        metavar="MU",
        help="of the critical learning rate, 0 <= MU < 1 (default: 0)",
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


def _add_likelihood_options(parser: argparse.ArgumentParser) -> Any:
    matrix = parser.add_argument_group("matrix")
    matrix.add_argument(
        "--likelihood",
        default="gaussian",
        metavar="NAME",
        help=f"output distribution, one of {', '.join(likelihoods.available())} (default: gaussian)",
    )
    matrix.add_argument(
        "--kind",
        default="exact",
        metavar="KIND",
        help=f"{', '.join(likelihoods.KINDS)}: the expectation over targets taken exactly, estimated from drawn "
        "targets, or replaced by the targets of a teacher network (default: exact)",
    )
    matrix.add_argument("--draws", type=int, metavar="N", help="targets drawn per sample, of monte_carlo (default: 1)")
    matrix.set_defaults(metric="parameters", center=False)
    return matrix


def _add_metric_options(parser: argparse.ArgumentParser) -> None:
    matrix = _add_likelihood_options(parser)
    matrix.add_argument(
        "--metric",
        metavar="METRIC",
        help=f"{', '.join(METRICS)}: the Fisher information matrix, the tangent kernel in NTK parametrisation, the "
        "metric of the features of all layers, or of the inputs (default: parameters)",
    )
    matrix.add_argument("--center", action="store_true", help="subtract the mean of the outputs over the samples")


def _add_isometry_options(parser: argparse.ArgumentParser) -> None:
    network = parser.add_argument_group("network")
    network.add_argument("--depth", type=int, default=10, metavar="L", help="number of weight layers (default: 10)")
    network.add_argument(
        "--eps",
        type=float,
        default=0.25,
        help="variance of the squared singular values of the input-output Jacobian, > 0 (default: 0.25)",
    )
    network.add_argument("--width", type=int, default=500, metavar="M", help="width of all layers (default: 500)")
    network.add_argument(
        "--activation",
        default="hard_tanh",
        metavar="NAME",
        help="with closed forms hard_tanh and shifted_relu; or another whose slopes vary with q (default: hard_tanh)",
    )
    network.add_argument(
        "--q-range",
        type=_list_of(float, "two numbers such as 0.001,10"),
        default=(1e-6, 100.0),
        metavar="LOW,HIGH",
        help="where the variance q of the pre-activations is looked for (default: 1e-6,100)",
    )
    parser.add_argument("--batch", type=int, metavar="T", help="also measure small batches of T inputs")
    parser.add_argument(
        "--boundary",
        action="store_true",
        help="also find the largest stable learning rate of the first network by training it",
    )


def _add_picture_options(parser: argparse.ArgumentParser, default: str) -> None:
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument(
        "--output", metavar="PICTURE", help=f"file of the picture, .png, .svg or .pdf (default: {default})"
    )
    picture.add_argument("--no-picture", action="store_true", help="write no picture")


def _add_measurement_options(parser: argparse.ArgumentParser, networks: int = 10) -> None:
    measurement = parser.add_argument_group("measurement")
    measurement.add_argument(
        "--seeds",
        type=_seeds,
        default=tuple(range(networks)),
        metavar="N | S,S,...",
        help=f"number of networks, with seeds 0, 1, ..., or a list of seeds (default: {networks})",
    )
    measurement.add_argument("--dtype", default="float64", help="float64 or float32 (default: float64)")
    measurement.add_argument("--progress", action="store_true", help="show a progress bar (needs tqdm)")


# --- what the options mean ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Inputs:
    """The inputs of a run: unit Gaussian ones (``X`` is None) or samples of a data set."""

    description: str
    num_samples: int
    X: FloatArray | None = None
    scaling: str = "none"

    @property
    def argument(self) -> Any:
        """Second argument of ``mean_field`` and ``compare``."""
        return self.num_samples if self.X is None else self.X


def _read_inputs(options: argparse.Namespace, seed: int) -> _Inputs:
    if options.data == "gaussian":
        if options.data_dir is not None:
            raise ValueError("--data-dir: expected together with --data fashion-mnist")
        if options.no_standardize:
            raise ValueError("--no-standardize: expected together with --data, for Gaussian samples are not scaled")
        return _Inputs(f"{options.samples} unit Gaussian samples", options.samples)
    X, description = data.load(options.data, options.data_dir)
    scaling = "none, values as stored"
    if not options.no_standardize:
        X, scaling = data.standardize(X), "all entries to mean 0, variance 1"
    X = data.draw(X, options.samples, seed)
    return _Inputs(f"{len(X)} of {description}, drawn with seed {seed}", len(X), X, scaling)


def _read_architecture(options: argparse.Namespace, inputs: _Inputs) -> MLP:
    dimension = _GAUSSIAN_DIMENSION if inputs.X is None else inputs.X.shape[1]
    outputs = _OUTPUTS.get(likelihoods.get(options.likelihood).name, 1)
    widths = options.widths or (dimension, *_HIDDEN, outputs)
    if inputs.X is not None and widths[0] != dimension:
        raise ValueError(f"--widths: expected {dimension} first, the dimension of the data, got {widths[0]}")
    make = ResidualMLP if options.residual else MLP
    return make(
        widths,
        _one_or_all(options.activation),
        weight_var=_one_or_all(options.weight_var),
        bias_var=None if options.no_bias else _one_or_all(options.bias_var),
        init=options.init,
    )


def _names(architecture: MLP) -> str:
    hidden = architecture.activations[:-1] if architecture.residual else architecture.activations
    names = ",".join(dict.fromkeys(phi.name for phi in hidden))
    return f"residual {names}" if architecture.residual else names


def _widths(architecture: MLP) -> str:
    return "-".join(map(str, architecture.widths))


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in (values if len(set(values)) > 1 else values[:1]))


def _matrix(options: argparse.Namespace) -> str:
    """Which matrix it is, without ambiguity."""
    words = [_MATRICES[options.metric]]
    if options.metric != "ntk":
        count = options.draws or 1
        draws = f" with {count} target{'s' * (count > 1)} a sample" if options.kind == "monte_carlo" else ""
        targets = " with a teacher's targets" if options.kind == "empirical" else ""
        words.append(f"{likelihoods.get(options.likelihood).name} likelihood, {options.kind}{draws}{targets}")
    if options.center:
        words.append("outputs mean-subtracted")
    return "; ".join(words)


def _heading(architecture: MLP, inputs: _Inputs, options: argparse.Namespace) -> str:
    biases = f"bias variance {_numbers(architecture.bias_vars)}" if architecture.has_biases else "without biases"
    return (
        f"network   {_names(architecture)}, widths {_widths(architecture)}, "
        f"{architecture.num_parameters:,} parameters\n"
        f"ensemble  {architecture.init}, weight variance {_numbers(architecture.weight_vars)}, {biases}\n"
        f"inputs    {inputs.description}"
        + (f"\nscaling   {inputs.scaling}" if inputs.X is not None else "")
        + f"\nmatrix    {_matrix(options)}"
    )


def _record(architecture: MLP, inputs: _Inputs, options: argparse.Namespace) -> dict[str, Any]:
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
        "momentum": options.momentum,
    }


# --- commands -----------------------------------------------------------------------------------------------


def _check_momentum(options: argparse.Namespace) -> None:
    if as_momentum(options.momentum) and options.metric != "parameters":
        raise ValueError(
            "momentum: expected together with --metric parameters, for other metrics have no critical rate"
        )


def _measure(options: argparse.Namespace, *, eigenvalues: bool) -> tuple[SpectrumComparison, str, dict[str, Any]]:
    """Run the comparison; return it with the heading and the record of what was run."""
    _check_momentum(options)
    inputs = _read_inputs(options, options.seeds[0] if options.seeds else 0)
    architecture = _read_architecture(options, inputs)
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
    heading = f"{_heading(architecture, inputs, options)}\n{_networks(found)}\n"
    record = {**_record(architecture, inputs, options), "dtype": found.dtype, "seeds": found.seeds}
    return found, heading, record


def _networks(found: SpectrumComparison | ConditionalComparison) -> str:
    seeds = found.seeds
    consecutive = seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    named = f"{seeds[0]} to {seeds[-1]}" if consecutive and len(seeds) > 1 else ", ".join(map(str, seeds))
    plural = "s" if len(seeds) > 1 else ""
    return f"measured  {len(seeds)} network{plural}, seed{plural} {named}, {found.dtype}"


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


def _spectrum(options: argparse.Namespace) -> Answer:
    path = _picture_path(options, _PICTURE)
    found, heading, record = _measure(options, eigenvalues=True)
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


def _picture_path(options: argparse.Namespace, default: str) -> Path | None:
    """Where the picture goes, checked before the work; None with a message where matplotlib is missing."""
    if options.no_picture:
        return None
    try:
        return plot.check_path(options.output or default)
    except ImportError as error:
        print(f"fisherfield: no picture: {error}", file=sys.stderr)
        return None


def _draw(path: Path, found: SpectrumComparison, options: argparse.Namespace) -> None:
    assert found.eigenvalues is not None
    prediction = found.prediction
    matrix = _matrix(options).removeprefix(f"{_MATRICES['parameters']}; ")  # which the axis names
    network = f"{_names(found.architecture)}, widths {_widths(found.architecture)}, T = {found.num_samples}"
    plot.save_spectrum(
        path,
        found.eigenvalues,
        theory=prediction.statistics if prediction.bulk is None else prediction.refined_statistics,
        measured=found.measured,
        predicted=found.predicted_eigenvalues(),
        symbol=_MATRICES[found.metric].partition(",")[0],
        title=f"{network}\n{matrix}",
    )


def _learning_rate(options: argparse.Namespace) -> Answer:
    found, heading, record = _measure(options, eigenvalues=False)
    comparison = found.comparison(options.momentum).select("maximum", "critical rate")
    text = f"{heading}\n{comparison.text()}\n\n{_legend(found, options.momentum)}"
    return text, {**record, "rows": comparison.as_dict()}


def _theory(options: argparse.Namespace) -> Answer:
    _check_momentum(options)
    check_draws(options.kind, options.draws)
    plain = likelihoods.get(options.likelihood) == likelihoods.Gaussian() and options.kind == "exact"
    if options.seed is not None and options.data == "gaussian" and plain:
        raise ValueError("--seed: expected together with --data or --likelihood, for nothing else is drawn here")
    inputs = _read_inputs(options, options.seed or 0)
    architecture = _read_architecture(options, inputs)
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
        _heading(architecture, inputs, options) + "\n",
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
    return "\n".join(text), {**_record(architecture, inputs, options), **record}


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


def _isometry(options: argparse.Namespace) -> Answer:
    path = _picture_path(options, _ISOMETRY_PICTURE)
    point = isometry_point(options.activation, options.depth, options.eps, q_range=options.q_range)
    found = compare_conditional(
        point.architecture(options.width),
        point.second_moment,
        options.seeds,
        batch=options.batch,
        dtype=options.dtype,
        progress=options.progress,
    )
    comparison = found.comparison()
    text = [
        _point_heading(point, found) + "\n",
        comparison.text() + "\n",
        "theory: leading order in the width; refined: with the derivatives by the biases. K: dual of F(x), C x C.",
        "spread: standard deviation over networks; errors: prediction / measured mean - 1.",
        "online rate: largest learning rate of stable gradient descent on |f(x) - y|^2 / 2 of one input.",
    ]
    if not point.has_atoms:
        text.append("Slopes other than 0 and 1 occur: no eigenvalue is predicted to be shared.")
    if found.batch is not None:
        text += ["", report.table(("quantity", "symbol", "one input", f"{found.batch} inputs"), _batch_rows(found), 2)]
    boundary = _boundary(found) if options.boundary else None
    if boundary is not None:
        text += ["", report.table(("online rate", "network", "value"), _boundary_rows(found, boundary), 2)]
    if path is not None:
        title = f"{_point_title(point)}, width {options.width}\none input, {_count(len(found.seeds), 'network')}"
        plot.save_conditional_spectrum(path, found.eigenvalues, found.spectrum.law, unit=options.width, title=title)
        text.append(f"picture: {path}")
    record = {
        "point": _point_record(point),
        "width": options.width,
        "num_parameters": found.architecture.num_parameters,
        "dtype": found.dtype,
        "seeds": found.seeds,
        "rows": comparison.as_dict(),
        "atoms": found.spectrum.atoms._asdict(),
        "support": found.spectrum.law.support,
        "eigenvalues": found.eigenvalues,
        "batch": found.batch,
        "batch_eigenvalues": found.batch_eigenvalues,
        "boundary": boundary,
        "picture": None if path is None else str(path),
    }
    return "\n".join(text), record


def _point_title(point: IsometryPoint) -> str:
    return f"{point.activation.name}, depth {point.depth}, eps = {point.eps:g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def _point_heading(point: IsometryPoint, found: ConditionalComparison) -> str:
    p, q, weight_var, gain, bias_var, V = (
        report.format_number(value, 6)
        for value in (point.p, point.q, point.weight_var, point.gain, point.bias_var, point.second_moment)
    )
    architecture = found.architecture
    return (
        f"network   {_point_title(point)}, width {architecture.widths[0]}, "
        f"{architecture.num_parameters:,} parameters\n"
        f"ensemble  orthogonal, sigma_w^2 = {weight_var} (gain {gain}), sigma_b^2 = {bias_var}\n"
        f"point     p = {p}, variance of pre-activations q = {q}, of activations V = {V}\n"
        f"inputs    |x|^2 = M V, of uniform direction\n"
        f"matrix    F(x), the Fisher information matrix given one input\n"
        f"{_networks(found)}"
    )


def _point_record(point: IsometryPoint) -> dict[str, Any]:
    names = ("depth", "eps", "p", "q", "weight_var", "gain", "bias_var", "second_moment")
    return {"activation": point.activation.name, **{name: getattr(point, name) for name in names}}


def _batch_rows(found: ConditionalComparison) -> list[tuple[str, ...]]:
    """The spectra of one input and of a batch, each over the eigenvalues that may not be zero; means over networks."""
    assert found.batch_eigenvalues is not None
    columns = []
    for values in (found.eigenvalues, found.batch_eigenvalues):
        top, mean, deviation = values[:, 0], values.mean(axis=1), values.std(axis=1)
        columns.append((top, mean, top / mean, deviation / mean, [critical_learning_rate(float(x)) for x in top]))
    names = (
        ("top", "lambda_max"),
        ("mean", ""),
        ("top / mean", ""),
        ("deviation / mean", ""),
        ("critical rate", "2 / lambda_max"),
    )
    return [
        (*name, *(report.format_number(float(np.mean(numbers))) for numbers in pair))
        for name, *pair in zip(names, *columns, strict=True)
    ]


def _boundary(found: ConditionalComparison) -> float:
    """The largest stable learning rate of the first network, by training."""
    net, X = found.draw(found.seeds[0])
    return learning_rate_boundary(net, X[0])


def _boundary_rows(found: ConditionalComparison, boundary: float) -> list[tuple[str, ...]]:
    seed = f"seed {found.seeds[0]}"
    return [
        (name, network, report.format_number(value, 5))
        for name, network, value in (
            ("by training", seed, boundary),
            ("2 / lambda_max", seed, critical_learning_rate(float(found.top[0]))),
            ("2 / lambda_max", "refined", found.spectrum.critical_learning_rate()),
        )
    ]


def _info(options: argparse.Namespace) -> Answer:
    return config_text(), show_config(as_dict=True)
