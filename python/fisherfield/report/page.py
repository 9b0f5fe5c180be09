"""The report on a network and data of one's own: one page of HTML, theory beside measurement."""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from .. import likelihoods
from .._config import show_config, version
from .._executor import Progress, reporter
from .._memory import human
from .._validate import as_momentum, positive_int
from ..costs import Cost
from ..fisher import Fisher
from ..gramfile import digest
from ..theory import MeanField
from . import markup
from .findings import Findings, Layer, Measurement, find_layers, measure, predict, sentences
from .tables import Row, format_number, plain

__all__ = ["Report", "check_page", "html_report"]

_ENDINGS = (".html", ".htm")
_COSTS = ("dual", "eigenvalues", "diagonal", "product", "top_eigenpairs")
_STAGES = 4  # theory, spectrum, layers, pictures
_SAMPLES = 512  # points of the density in the numbers
_PANEL = (4.6, 3.4)  # inches of a picture beside another
_HEIGHT = 900  # pixels of the page in a notebook


@dataclass(frozen=True, eq=False)
class Report:
    """A report: a page, and its numbers.

    In a notebook it shows itself, in a frame of its own.

    Attributes
    ----------
    html : str
        The page: one file, with its style and pictures inside, that loads nothing.
    numbers : dict
        Its numbers in terms of JSON, None for what is not finite. They are in the page too, in the block ``numbers``.
    """

    html: str = field(repr=False)
    numbers: dict[str, Any] = field(repr=False)

    @property
    def title(self) -> str:
        """Heading of the page."""
        return str(self.numbers["title"])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file that ends in .html; return its path.

        Parameters
        ----------
        path : str or path
            Its ending is .html or .htm; a file that is there is replaced.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ValueError, TypeError, FileNotFoundError
            For another ending, or a folder that does not exist.
        """
        target = check_page(path)
        target.write_text(self.html, encoding="utf-8")
        return target

    def _repr_html_(self) -> str:
        """For notebooks: a frame, so that the style of the page stays inside."""
        attributes = f'title="{escape(self.title)}" width="100%" height="{_HEIGHT}" style="border:0" sandbox=""'
        return f'<iframe srcdoc="{escape(self.html)}" {attributes}></iframe>'

    def __repr__(self) -> str:
        return f"Report({self.title!r}, {len(self.html) / 1000:.0f} kB)"


def html_report(
    fim: Fisher,
    mean_field: MeanField | None = None,
    *,
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
    momentum: float = 0.9,
    notes: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> Report:
    r"""Report on the Fisher information matrix of a network: one page of HTML, theory beside measurement.

    The page has the statistics of the spectrum and the critical learning rates, the spectrum with its outliers, the
    blocks of the layers, what the numbers mean, costs, versions and how to make it again. It is a single file without
    scripts that loads nothing; its numbers are in it as JSON. Pictures are SVG and can be saved from it.

    A matrix of up to 4000 rows (the smaller of F and its dual), if it fits into memory, gives all eigenvalues. Larger
    ones are known by products: the outliers one by one, the density of the others with standard errors.

    Parameters
    ----------
    fim : Fisher
        The whole matrix, of any likelihood and kind, on the CPU or a GPU.
    mean_field : MeanField, optional
        Theory of the same widths, number of samples, likelihood and kind. Default: that of the ensemble if the network
        comes from :meth:`MLP.sample <fisherfield.MLP.sample>`, of all pairs of up to 2000 samples, of more with their
        mean overlap; evaluated at the network's own outputs where these matter. There is none for other weights.
    title : str, optional
        Heading of the page.
    path : path, optional
        File to write, ending in .html; :meth:`Report.save` does the same later.
    momentum : float, default 0.9
        :math:`0 \le \mu < 1` of the second critical rate :math:`2 (1 + \mu) / \lambda_{\max}`; 0 for none.
    notes : mapping from str to anything, optional
        What else belongs to it, written as text: the data, seeds, a commit.
    seed : int, default 0
        Of the random vectors of products.
    progress : None, True or callable
        Progress over the parts: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    Report
        ``html``, ``numbers``, ``save(path)``.

    Raises
    ------
    TypeError, ValueError
        For what is no whole Fisher information matrix, a theory of another one, and paths with another ending.
    FileNotFoundError
        If the folder of ``path`` does not exist.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> from fisherfield.report import html_report
    >>> arch = ff.MLP((20, 60, 60, 3), "tanh", weight_var=3.0, bias_var=0.64)
    >>> fim = ff.Fisher(arch.sample(seed=0), np.random.default_rng(0).standard_normal((40, 20)))
    >>> report = html_report(fim, title="A small network", notes={"seed": 0})  # doctest: +SKIP
    >>> report.numbers["measured"]["maximum"] == fim.statistics().maximum  # doctest: +SKIP
    True
    >>> report.save("report.html")  # doctest: +SKIP
    """
    from .. import plot  # its pictures are of experiments, which make tables with this package

    plot.require_matplotlib()
    target = None if path is None else check_page(path)
    mu = as_momentum(momentum)
    _check(fim, title, notes)
    positive_int(seed, "seed", minimum=0)
    start = time.perf_counter()
    report, close = reporter(progress, _STAGES, "parts")
    try:
        prediction = predict(fim, mean_field)
        report(1, _STAGES)
        found = measure(fim, seed)
        report(2, _STAGES)
        findings = Findings(fim, found, prediction, find_layers(fim, found, prediction, seed), mu)
        report(3, _STAGES)
        costs = [fim.estimate(what) for what in _COSTS]
        numbers: dict[str, Any] = plain(_numbers(findings, title, notes, seed, costs, time.perf_counter() - start))
        page = Report(_page(findings, numbers, costs), numbers)
        report(4, _STAGES)
    finally:
        close()
    if target is not None:
        page.save(target)
    return page


def _check(fim: Any, title: Any, notes: Any) -> None:
    if not isinstance(fim, Fisher):
        raise TypeError(f"fim: expected a fisherfield.Fisher, got {type(fim).__name__}")
    if fim.dimension != fim.net.num_parameters:
        raise ValueError(
            f"fim: expected the whole matrix, P = {fim.net.num_parameters}, got a layer's block, P = {fim.dimension}; "
            "the report has all layers"
        )
    if title is not None and not isinstance(title, str):
        raise TypeError(f"title: expected text or None, got {title!r}")
    if notes is not None and not isinstance(notes, Mapping):
        raise TypeError(f"notes: expected a mapping from names to anything or None, got {notes!r}")


def check_page(path: Any, name: str = "path") -> Path:
    """Return ``path`` if a page can be written there: it ends in .html, the folder exists.

    Parameters
    ----------
    path : str or path
    name : str
        What errors call it (default ``"path"``).

    Returns
    -------
    pathlib.Path

    Raises
    ------
    TypeError
        For something else.
    ValueError
        For another ending than .html or .htm.
    FileNotFoundError
        If the folder does not exist.
    """
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"{name}: expected a path, got {path!r}")
    target = Path(path)
    if target.suffix.lower() not in _ENDINGS:
        raise ValueError(f"{name}: expected a file ending in {' or '.join(_ENDINGS)}, got {str(path)!r}")
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"{name}: no such folder: {target.parent}")
    return target


# --- numbers ------------------------------------------------------------------------------------------------


def _numbers(
    findings: Findings, title: str | None, notes: Mapping[str, Any] | None, seed: int, costs: list[Cost], seconds: float
) -> dict[str, Any]:
    fim, found, prediction = findings.fim, findings.found, findings.prediction
    net, arch = fim.net, fim.net.architecture
    names = ", ".join(dict.fromkeys(phi.name for phi in (net.activations[:-1] if net.residual else net.activations)))
    kind = f"{'residual ' if net.residual else ''}{names or 'linear'}"
    errors = findings.errors
    return {
        "title": f"Fisher information of a {kind} network" if title is None else title,
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "fisherfield": version(),
        "network": {
            "kind": kind,
            "widths": net.widths,
            "activations": [phi.name for phi in net.activations],
            "residual": net.residual,
            "biases": net.has_biases,
            "num_parameters": net.num_parameters,
            "dtype": net.dtype.name,
            "device": net.device,
            "ensemble": None
            if arch is None
            else {
                "weight_vars": arch.weight_vars,
                "bias_vars": arch.bias_vars if arch.has_biases else None,
                "init": arch.init,
            },
            "sha256": digest([*net.weights, *(net.biases or ())]),
        },
        "data": {
            "num_samples": fim.num_samples,
            "dimension": net.widths[0],
            "mean": float(fim.X.mean(dtype=np.float64)),
            "mean_square": float(np.square(fim.X, dtype=np.float64).mean()),
            "sha256": digest([fim.X]),
        },
        "matrix": {
            "likelihood": fim.likelihood.name,
            "kind": fim.kind,
            "draws": fim.num_seeds if fim.kind == "monte_carlo" else None,
            "num_seeds": fim.num_seeds,
            "rank_bound": fim.rank_bound,
            "num_outliers": fim.num_outliers,
        },
        "meaning": sentences(findings),
        "measured": found.statistics,
        "measured_errors": found.errors,
        "theory": None if prediction is None else prediction.statistics,
        "refined": None if prediction is None else prediction.refined,
        "comparison": [{**row.as_dict(), "error": errors.get(row.quantity)} for row in findings.comparison.rows],
        "learning_rates": [
            {"momentum": mu, "measured": row.mean, "theory": row.theory, "refined": row.refined}
            | {"corrected": findings.corrected_rate(mu)}
            for mu, row in _rates(findings)
        ],
        "spectrum": _spectrum_numbers(found)
        | {"predicted_outliers": None if prediction is None else prediction.outliers},
        "layers": [asdict(layer) for layer in findings.layers],
        "costs": costs,
        "seconds": seconds,
        "seed": seed,
        "notes": {str(name): str(value) for name, value in (notes or {}).items()},
        "code": _code(fim),
        "configuration": show_config(as_dict=True),
    }


def _rates(findings: Findings) -> list[tuple[float, Row]]:
    rows = [row for row in findings.comparison.rows if row.quantity.startswith("critical rate")]
    return list(zip((0.0, findings.momentum), rows, strict=False))


def _spectrum_numbers(found: Measurement) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "method": found.method,
        "converged": found.converged,
        "outliers": found.outliers,
        "outlier_share": found.outlier_share,
        "effective_rank": found.effective_rank,
        "condition": found.condition,
        "rank": None if found.positive is None else len(found.positive),
        "eigenvalues": found.eigenvalues,
        "density": None,
    }
    if found.density is not None and found.statistics.maximum > 0:
        x = found.density.grid(_SAMPLES)
        band = found.density.density(x)
        numbers["density"] = {"eigenvalue": x, "per_decade": band.value, "standard_error": band.standard_error}
    return numbers


def _code(fim: Fisher) -> str:
    """How the report is made again."""
    net, arch, lines = fim.net, fim.net.architecture, ["import fisherfield as ff", ""]
    applied = net.activations[:-1] if net.residual else net.activations
    named = [phi.name for phi in applied]
    activation = repr(named[0]) if len(set(named)) == 1 else repr(named)
    if arch is not None:
        bias = repr(_one_or_all(arch.bias_vars)) if arch.has_biases else "None"
        made = f"weight_var={_one_or_all(arch.weight_vars)!r}, bias_var={bias}, init={arch.init!r}"
        lines += [
            f"arch = ff.{type(arch).__name__}({arch.widths!r}, {activation}, {made})",
            "net = arch.sample(seed=seed)  # the seed of this network",
        ]
    else:
        residual = ", residual=True" if net.residual else ""
        biases = "biases" if net.has_biases else "None"
        lines += [
            f"# weights W_l of shape (M_l, M_(l-1)), widths {net.widths}",
            f"net = ff.Network(weights, {biases}, activation={activation}{residual})",
        ]
    named_law = (
        fim.likelihood.name in likelihoods.available() and likelihoods.get(fim.likelihood.name) == fim.likelihood
    )
    options = [f"likelihood={fim.likelihood.name!r}" if named_law else f"likelihood=ff.likelihoods.{fim.likelihood!r}"]
    if fim.kind != "exact":
        options.append(f"kind={fim.kind!r}")
    if fim.kind == "monte_carlo":
        options.append(f"samples={fim.num_seeds}, seed=seed")
    if fim.kind == "empirical":
        options.append("targets=targets")
    lines += [
        f"fim = ff.Fisher(net, X, {', '.join(options)})  # X of shape {tuple(fim.X.shape)}, {fim.X.dtype}",
        'ff.html_report(fim, path="report.html")',
    ]
    return "\n".join(lines)


def _one_or_all(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(set(values)) == 1 else values


# --- page ---------------------------------------------------------------------------------------------------


def _page(findings: Findings, numbers: dict[str, Any], costs: list[Cost]) -> str:
    widths = "-".join(map(str, numbers["network"]["widths"]))
    matrix = numbers["matrix"]
    subtitle = (
        f"{numbers['network']['kind']}, widths {widths}, P = {numbers['network']['num_parameters']:,} parameters, "
        f"T = {numbers['data']['num_samples']:,} samples, {matrix['likelihood']} likelihood, {matrix['kind']}"
    )
    header = f"<header>\n<h1>{escape(numbers['title'])}</h1>\n{markup.paragraph(subtitle, 'dim')}\n</header>"
    footer = (
        f"<footer><p>Made with fisherfield {escape(numbers['fisherfield'])}, {escape(numbers['made'])}.</p></footer>"
    )
    return markup.document(
        numbers["title"],
        (
            header,
            "<main>",
            markup.section("meaning", "In short", markup.items(map(_signs, numbers["meaning"]))),
            markup.section("comparison", "Theory and measurement", *_comparison(findings, numbers)),
            markup.section("spectrum", "Spectrum", *_spectrum(findings)),
            markup.section("layers", "Layers", *_layers(findings)),
            markup.section("network", "What was measured", markup.definitions(_described(findings, numbers))),
            markup.section("costs", "Costs", *_costs(numbers, costs)),
            markup.section("again", "Make it again", *_again(numbers)),
            "</main>",
            footer,
            markup.data_block("numbers", numbers),
        ),
    )


_SIGNS = {
    r"\blambda_max\b": "λ_max",
    r"\btr F\^2": "tr F²",
    r"(?<=[)|])\^2": "²",
    r"\+-": "±",
    r"\bmu\b": "μ",
}


def _signs(text: str) -> str:
    """Return text of ours with the signs that ASCII has not."""
    for pattern, sign in _SIGNS.items():
        text = re.sub(pattern, sign, text)
    return text


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f} %"


def _comparison(findings: Findings, numbers: dict[str, Any]) -> list[str]:
    errors, with_theory = findings.errors, findings.prediction is not None
    header = ["quantity", "symbol", "measured"] + ["± error"] * bool(errors)
    header += ["theory", "error", "refined", "error"] * with_theory
    rows = []
    for row in findings.comparison.rows:
        cells = [_signs(row.quantity), _signs(row.symbol), format_number(row.mean)]
        cells += [format_number(errors.get(row.quantity), 2)] * bool(errors)
        if with_theory:
            cells += [format_number(row.theory), _percent(row.relative_error)]
            cells += [format_number(row.refined), _percent(row.refined_relative_error)]
        rows.append(cells)
    parts = [markup.table(header, rows, left=2)]
    notes = ["Moments are over all P eigenvalues, zeros included. "]
    if with_theory:
        notes.append(
            "Theory: leading order in the width; refined: with exact parameter counts and bias terms; errors: "
            "prediction / measured - 1. "
        )
    corrected = [rate["corrected"] for rate in numbers["learning_rates"] if rate["corrected"] is not None]
    if corrected and findings.fim.num_outliers > 1:
        rates = " and ".join(format_number(rate) for rate in corrected)
        notes.append(
            "Theory's maximum is the mean of the outliers; corrected for the largest of them at finite width its "
            f"critical rates are {rates}. "
        )
    if errors:
        notes.append("± is the standard error of an estimate; for eigenvalues the residual, which bounds the error.")
    return [*parts, markup.paragraph("".join(notes).strip(), "dim")]


def _spectrum(findings: Findings) -> list[str]:
    found, prediction = findings.found, findings.prediction
    if not found.statistics.maximum > 0:
        return [markup.paragraph("All eigenvalues are zero: there is nothing to draw.")]
    from .. import plot

    theory = None if prediction is None else prediction.refined
    predicted = None if prediction is None else prediction.eigenvalues
    if found.eigenvalues is not None:
        values, statistics = found.eigenvalues, found.statistics
        if predicted is not None and not predicted[0] > 0:
            predicted = None
        svg = plot.svg(
            lambda ax: plot.spectrum(values, theory=theory, measured=[statistics], predicted=predicted, ax=ax)
        )
        what = "Histogram of the eigenvalues of F that are not zero"
    else:
        density = found.density
        assert density is not None
        svg = plot.svg(lambda ax: plot.spectral_density(density, ax, theory=theory))
        what = "Density of the eigenvalues of F, with the outliers one by one"
    caption = f"{what}. Found with {found.method}." + (f" Theory knows {prediction.inputs}." if prediction else "")
    alternative = (
        f"{what}: {_alternative(found)}"
        + (f"; predicted maximum {format_number(theory.maximum)}" if theory else "")
        + "."
    )
    return [markup.picture(svg, alternative, caption), _outliers(findings)]


def _alternative(found: Measurement) -> str:
    text = f"largest {format_number(found.statistics.maximum)}, mean {format_number(found.statistics.mean)}"
    if found.positive is not None:
        text += f", smallest that is not zero {format_number(float(found.positive[-1]))}"
    return text


def _outliers(findings: Findings) -> str:
    """The largest eigenvalues, one by one."""
    measured, prediction = findings.found.outliers, findings.prediction
    predicted = None if prediction is None else prediction.outliers
    header = ["largest eigenvalues", "measured", *(["theory, refined", "error"] if predicted is not None else [])]
    rows = []
    for place, value in enumerate(measured.tolist()):
        cells = [str(place + 1), format_number(value)]
        if predicted is not None:
            theory = float(predicted[place]) if place < len(predicted) else None
            cells += [format_number(theory), _percent(theory / value - 1 if theory is not None and value > 0 else None)]
        rows.append(cells)
    return markup.table(header, rows)


def _layers(findings: Findings) -> list[str]:
    layers, with_theory = findings.layers, findings.prediction is not None
    header = ["layer", "parameters", "trace", "share", "mean diagonal", *["theory"] * with_theory]
    header += ["largest eigenvalue", *["theory"] * with_theory]
    rows = [
        [
            str(layer.layer),
            f"{layer.num_parameters:,}",
            format_number(layer.trace),
            "-" if layer.share is None else f"{100 * layer.share:.1f} %",
            format_number(layer.mean),
            *[format_number(layer.theory_mean)] * with_theory,
            format_number(layer.maximum),
            *[format_number(layer.theory_maximum)] * with_theory,
        ]
        for layer in layers
    ]
    note = "Diagonal blocks of F, each of the weights and biases of one layer"
    note += "; theory with exact counts." if with_theory else "."
    return [_layer_pictures(layers, with_theory), markup.table(header, rows), markup.paragraph(note, "dim")]


def _layer_pictures(layers: tuple[Layer, ...], with_theory: bool) -> str:
    if not any(layer.maximum > 0 for layer in layers):
        return ""
    from .. import plot

    def drawn(quantity: str, name: str) -> str:
        values, theory = (
            np.array([getattr(layer, prefix + quantity) or 0.0 for layer in layers]) for prefix in ("", "theory_")
        )
        shown = theory if with_theory else None
        svg = plot.svg(
            lambda ax: plot.layers(np.maximum(values, 0.0), theory=shown, quantity=quantity, ax=ax), size=_PANEL
        )
        listed = ", ".join(format_number(float(value)) for value in values)
        return markup.picture(svg, f"{name} by layer: {listed}.", f"{name} by layer.")

    pictures = (drawn("mean", "Mean diagonal entry"), drawn("maximum", "Largest eigenvalue"))
    return "\n".join(('<div class="figures">', *pictures, "</div>"))


def _described(findings: Findings, numbers: dict[str, Any]) -> dict[str, str]:
    network, data, matrix = numbers["network"], numbers["data"], numbers["matrix"]
    prediction, ensemble = findings.prediction, numbers["network"]["ensemble"]
    draws = f", {matrix['draws']} targets a sample" if matrix["draws"] else ""
    entries = {
        "activation": network["kind"],
        "widths": "-".join(map(str, network["widths"])),
        "parameters": f"P = {network['num_parameters']:,}, {'with' if network['biases'] else 'without'} biases",
        "precision, device": f"{network['dtype']}, {network['device']}",
        "weights": "given" if ensemble is None else f"a sample: {_ensemble_text(ensemble)}",
        "samples": f"T = {data['num_samples']:,} of dimension {data['dimension']:,}; all entries: mean "
        f"{format_number(data['mean'])}, mean square {format_number(data['mean_square'])}",
        "matrix": f"F = (1/T) Σ Jᵀ S Sᵀ J; {matrix['likelihood']} likelihood, {matrix['kind']}{draws}",
        "outputs": f"C = {network['widths'][-1]}, {matrix['num_seeds']} gradients a sample, at most "
        f"{matrix['rank_bound']:,} eigenvalues that are not zero",
        "theory": "none" if prediction is None else f"mean field, from {prediction.inputs}",
        "SHA-256 of weights": network["sha256"],
        "SHA-256 of samples": data["sha256"],
    }
    notes: dict[str, str] = numbers["notes"]
    return entries | notes


def _ensemble_text(ensemble: dict[str, Any]) -> str:
    def listed(values: list[float]) -> str:
        return ", ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))

    bias = ensemble["bias_vars"]
    biases = "no biases" if bias is None else f"bias variance {listed(bias)}"
    return f"{ensemble['init']}, weight variance {listed(ensemble['weight_vars'])}, {biases}"


def _costs(numbers: dict[str, Any], costs: list[Cost]) -> list[str]:
    rows = [
        (cost.what.replace("_", " "), human(cost.bytes), f"{cost.flops:.3g}", f"{cost.seconds:.2g} s") for cost in costs
    ]
    took = (
        f"The numbers of this report took {numbers['seconds']:.3g} s. The table is what single answers take, estimated."
    )
    return [markup.table(("answer", "memory", "operations", "predicted time"), rows), markup.paragraph(took, "dim")]


def _again(numbers: dict[str, Any]) -> list[str]:
    configuration = {
        name: "; ".join(
            f"{key} {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in entries.items()
        )
        for name, entries in numbers["configuration"].items()
    }
    return [
        markup.code(numbers["code"]),
        markup.definitions({"random vectors": f"seed {numbers['seed']}", **configuration}),
        markup.paragraph('The numbers of this page are in it as JSON, in the block "numbers".', "dim"),
    ]
