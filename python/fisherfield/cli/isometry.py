"""The command isometry: spectra given one input."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import plot, report
from ..experiments import ConditionalComparison, compare_conditional, learning_rate_boundary
from ..statistics import critical_learning_rate
from ..theory import IsometryPoint, isometry_point
from .options import (
    AddCommand,
    Answer,
    add_measurement_options,
    add_picture_options,
    counted,
    list_of,
    networks_text,
    picture_path,
)

__all__ = ["add_commands"]


_ISOMETRY_PICTURE = "fisherfield-isometry.png"


def add_commands(command: AddCommand) -> None:
    """Add isometry."""
    isometry = command(
        "isometry",
        run_isometry,
        "dynamical isometry: the spectrum given one input, and the learning rate of online training, by depth",
        "--depth 20 --activation shifted_relu --batch 2",
    )
    _add_isometry_options(isometry)
    add_measurement_options(isometry, networks=3)
    add_picture_options(isometry, _ISOMETRY_PICTURE)


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
        type=list_of(float, "two numbers such as 0.001,10"),
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


def run_isometry(options: argparse.Namespace) -> Answer:
    path = picture_path(options, _ISOMETRY_PICTURE)
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
        title = f"{_point_title(point)}, width {options.width}\none input, {counted(len(found.seeds), 'network')}"
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
        f"{networks_text(found.seeds, found.dtype)}"
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
