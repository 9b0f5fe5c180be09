"""The command report: a page of HTML on one network, theory beside measurement."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from .. import likelihoods
from .._validate import FloatArray, as_dtype, as_momentum, positive_int
from ..architecture import MLP
from ..experiments import check_draws
from ..fisher import Fisher
from ..network import Network
from ..report import format_number, html_report, table
from ..report.page import check_page
from .options import (
    AddCommand,
    Answer,
    Inputs,
    add_ensemble_options,
    add_likelihood_options,
    add_run_options,
    heading_text,
    read_architecture,
    read_inputs,
    run_record,
)

__all__ = ["add_commands"]

_PAGE = "fisherfield-report.html"


def add_commands(command: AddCommand) -> None:
    """Add report."""
    parser = command(
        "report",
        run_report,
        "a page of HTML on one network: theory beside measurement, spectrum, layers, learning rates",
        "--data digits --widths 64,200,200,10 --likelihood categorical --output digits.html",
    )
    add_ensemble_options(parser)
    add_likelihood_options(parser)
    network = parser.add_argument_group("measurement")
    network.add_argument(
        "--seed", type=int, default=0, help="of the network, its inputs and the drawn targets (default: 0)"
    )
    network.add_argument("--memory", metavar="SIZE", help='for factors, such as "4 GB" (default: half of what is free)')
    add_run_options(network)
    page = parser.add_argument_group("page")
    page.add_argument("--output", default=_PAGE, metavar="PAGE", help=f"file to write, .html (default: {_PAGE})")
    page.add_argument("--title", metavar="TEXT", help="heading of the page")
    page.add_argument(
        "--momentum", type=float, default=0.9, metavar="MU", help="of the second critical rate (default: 0.9)"
    )


def run_report(options: argparse.Namespace) -> Answer:
    """Sample a network, measure it and write the page."""
    path = check_page(options.output, "output")
    seed = positive_int(options.seed, "seed", minimum=0)
    precision = as_dtype(options.dtype)
    as_momentum(options.momentum)
    check_draws(options.kind, options.draws)
    inputs = read_inputs(options, seed)
    architecture = read_architecture(options, inputs)
    net = architecture.sample(seed, precision)
    fim = _fisher(options, architecture, net, inputs, np.random.default_rng(seed))
    report = html_report(
        fim,
        title=options.title,
        path=path,
        momentum=options.momentum,
        notes={"data": inputs.description, "scaling": inputs.scaling, "seed of the network": seed, "command": _typed()},
        seed=seed,
        progress=options.progress or None,
    )
    numbers = report.numbers
    text = [
        f"{heading_text(architecture, inputs, options)}\nmeasured  1 network, seed {seed}, {precision.name}\n",
        table(_HEADER, [_row(row) for row in numbers["comparison"]], left=2) + "\n",
        *numbers["meaning"],
        f"page: {path}",
    ]
    return "\n".join(text), {**run_record(architecture, inputs, options), "seed": seed, "page": str(path), **numbers}


_HEADER = ("quantity", "symbol", "theory", "refined", "measured", "+- error")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    values = (row["theory"], row["refined"], row["mean"], row["error"])
    return (row["quantity"], row["symbol"], *map(format_number, values))


def _fisher(
    options: argparse.Namespace, architecture: MLP, net: Network, inputs: Inputs, rng: np.random.Generator
) -> Fisher:
    """The matrix, with Gaussian inputs, a teacher's targets and drawn targets from one stream, as of ``compare``."""
    X: FloatArray = rng.standard_normal((inputs.num_samples, net.widths[0])) if inputs.X is None else inputs.X
    X = X.astype(net.dtype, copy=False)
    law = likelihoods.get(options.likelihood)
    targets = law.sample(architecture.sample(rng, net.dtype)(X), rng) if options.kind == "empirical" else None
    return Fisher(
        net,
        X,
        likelihood=law,
        kind=options.kind,
        samples=options.draws,
        seed=rng if options.kind == "monte_carlo" else None,
        targets=targets,
        memory=options.memory,
    )


def _typed() -> str:
    """The command, without the folder of the program."""
    import shlex

    return shlex.join(["fisherfield", *sys.argv[1:]])
