"""Theory beside measurement for the eigenvalue spectrum of the Fisher information matrix and its variants."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._executor import Progress, reporter
from .._validate import FloatArray, as_dtype, as_float_array, as_seeds, boolean, choice, positive_int, require_cpu
from ..architecture import MLP
from ..features import feature_metric
from ..fisher import Fisher
from ..likelihoods import KINDS, Gaussian, Likelihood
from ..likelihoods import get as get_likelihood
from ..network import Network
from ..network_metric import NetworkMetric
from ..report import Comparison, Row
from ..statistics import FisherStatistics, critical_learning_rate
from ..tangent import TangentKernel
from ..theory import InputStatistics, MeanField, PredictedMetric, mean_field

__all__ = ["METRICS", "SYMBOLS", "SpectrumComparison", "check_draws", "compare", "predicted_metric"]

METRICS = ("parameters", "ntk", "features", "input")
SYMBOLS = {
    "parameters": ("tr F / P", "tr F^2 / P"),
    "ntk": ("tr Theta / C T", "tr Theta^2 / C T"),
    "features": ("tr A / M_h", "tr A^2 / M_h"),
    "input": ("tr A / M_0", "tr A^2 / M_0"),
}
_PICTURED = 3000  # size up to which all predicted eigenvalues are computed, to be drawn


@dataclass(frozen=True)
class SpectrumComparison:
    """What :func:`compare` found.

    Attributes
    ----------
    architecture : MLP
    theory : MeanField
    prediction : PredictedMetric
        Of the metric that was measured.
    metric : str
    seeds : tuple of int
        One per sampled network.
    dtype : str
        Precision of the networks.
    measured : tuple of FisherStatistics
        One per network.
    eigenvalues : ndarray, shape (number of networks, min(P, R T)), or None
        The possibly nonzero eigenvalues of each network, descending; None if not asked for.
    """

    architecture: MLP
    theory: MeanField
    prediction: PredictedMetric
    metric: str
    seeds: tuple[int, ...]
    dtype: str
    measured: tuple[FisherStatistics, ...]
    eigenvalues: FloatArray | None

    @property
    def num_samples(self) -> int:
        """T."""
        return self.measured[0].num_samples

    def comparison(self, momentum: float = 0.0) -> Comparison:
        r"""Return the table: statistics of the spectrum, and for the metric of parameters the critical learning rate.

        The learning rate :math:`\eta_c = 2 (1 + \mu) / \lambda_{\max}` bounds gradient descent with momentum
        :math:`0 \le \mu < 1` (Karakida, Akaho, Amari 2019, Theorem 7); the measured one has the measured maximum.

        Parameters
        ----------
        momentum : float
            :math:`\mu`, at least 0 and below 1 (default 0).

        Returns
        -------
        fisherfield.report.Comparison
            The rows ``"mean"``, ``"second moment"``, ``"maximum"``, with several outliers ``"top mean"``, and for the
            metric of parameters ``"critical rate"``.

        Raises
        ------
        ValueError, TypeError
            For another momentum.
        """
        theory, refined = self.prediction.statistics, self.prediction.refined_statistics

        def row(quantity: str, symbol: str, field: str) -> Row:
            return Row(quantity, symbol, getattr(theory, field), getattr(refined, field), self._measured(field))

        first, second = SYMBOLS[self.metric]
        rows = [
            row("mean", first, "mean"),
            row("second moment", second, "second_moment"),
            row("maximum", "lambda_max", "maximum"),
        ]
        if theory.num_outliers > 1:
            rows.append(row("top mean", f"{theory.num_outliers} largest", "top_mean"))
        if self.metric == "parameters":
            rows.append(
                Row(
                    "critical rate",
                    "2 (1 + mu) / lambda_max" if momentum else "2 / lambda_max",
                    critical_learning_rate(theory.maximum, momentum),
                    critical_learning_rate(refined.maximum, momentum),
                    tuple(critical_learning_rate(maximum, momentum) for maximum in self._measured("maximum")),
                )
            )
        return Comparison(tuple(rows))

    def predicted_eigenvalues(self) -> FloatArray | None:
        """Return the R T predicted eigenvalues, descending; None where they would not make a histogram.

        For Gaussian inputs and the unit Gaussian likelihood there are only two different ones; beyond 3000 samples and
        outputs they would take longer than they are worth in a picture.
        """
        seeds = self.theory.given_seeds
        if seeds is None and isinstance(self.theory.inputs, InputStatistics):
            return None
        if self.num_samples * (self.architecture.num_outputs if seeds is None else seeds.shape[1]) > _PICTURED:
            return None
        return self.prediction.eigenvalues()

    def _measured(self, field: str) -> tuple[float, ...]:
        return tuple(float(getattr(statistics, field)) for statistics in self.measured)


def predicted_metric(theory: MeanField, metric: str = "parameters", *, centered: bool = False) -> PredictedMetric:
    """Return the prediction for one of :data:`METRICS`; the tangent kernel is that of the NTK parametrisation.

    Parameters
    ----------
    theory : MeanField
    metric : {"parameters", "ntk", "features", "input"}
        Default ``"parameters"``.
    centered : bool
        Whether to predict the metric of the mean-subtracted network (default False).

    Returns
    -------
    PredictedMetric

    Raises
    ------
    ValueError, TypeError
        For an unknown metric.
    """
    choice(metric, "metric", METRICS)
    if metric == "ntk":
        prediction = theory.ntk("ntk")
    elif metric == "parameters":
        prediction = theory.parameters()
    else:
        prediction = theory.feature_metric()
        prediction = prediction.layer(1) if metric == "input" else prediction
    return prediction.centered() if centered else prediction


def compare(
    architecture: MLP,
    inputs: int | npt.ArrayLike,
    seeds: Sequence[int] = tuple(range(10)),
    *,
    likelihood: str | Likelihood = "gaussian",
    kind: str = "exact",
    draws: int | None = None,
    metric: str = "parameters",
    centered: bool = False,
    dtype: npt.DTypeLike = "float64",
    eigenvalues: bool = True,
    executor: Executor | None = None,
    progress: Progress = None,
) -> SpectrumComparison:
    """Compare the predicted statistics of the Fisher information matrix with those of sampled networks.

    Parameters
    ----------
    architecture : MLP
        The ensemble of networks.
    inputs : int or array, shape (T, M_0)
        T unit Gaussian inputs, drawn anew for every network, or the data X that every network sees; then the
        theory is the pairwise one for these very samples.
    seeds : sequence of int
        One network each, all different: ``architecture.sample(seed)``. Gaussian inputs, teacher and targets come, in
        this order, from ``numpy.random.default_rng(seed)``.
    likelihood : str or Likelihood
        As of :class:`~fisherfield.Fisher`. Where the output Fisher information, or its estimate, depends on the
        outputs, the theory is evaluated at the outputs (and targets) of the networks, and averaged over them.
    kind : {"exact", "monte_carlo", "empirical"}
        As of :class:`~fisherfield.Fisher`. The targets of the empirical kind are drawn from teachers, other networks
        of the ensemble.
    draws : int, optional
        Targets per sample of the Monte-Carlo kind (default 1).
    metric : {"parameters", "ntk", "features", "input"}
        The Fisher information matrix; the tangent kernel in NTK parametrisation; the metric of feature space; its
        block of the inputs.
    centered : bool
        Subtract the mean of the outputs over the samples.
    dtype : {"float64", "float32"}
        Precision of networks and inputs; X is converted.
    eigenvalues : bool, default True
        Compute all eigenvalues; the statistics alone take less.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool).
    progress : None, True or callable
        Progress over networks: a bar (needs tqdm) or ``callable(done, total)``.

    Returns
    -------
    SpectrumComparison

    Raises
    ------
    ValueError, TypeError
        For bad shapes, names or numbers.
    MemoryError
        If a dual matrix (R T x R T) cannot fit.

    Examples
    --------
    >>> import fisherfield as ff
    >>> from fisherfield.experiments import compare
    >>> arch = ff.MLP(widths=(300, 300, 300, 1), activation="tanh", weight_var=3.0, bias_var=0.64)
    >>> found = compare(arch, 50, seeds=range(5))
    >>> abs(found.comparison()["mean"].relative_error) < 0.2
    True
    """
    precision = as_dtype(dtype)
    numbers = as_seeds(seeds)
    for name, flag in (("centered", centered), ("eigenvalues", eigenvalues)):
        boolean(flag, name)
    dimension = architecture.widths[0]
    X = None if np.ndim(inputs) == 0 else as_float_array(inputs, "inputs", ndim=2, shape=(None, dimension))
    require_cpu(X, "inputs", "networks are sampled")
    num_samples = positive_int(inputs, "inputs") if X is None else len(X)
    law = get_likelihood(likelihood)
    law.check_outputs(architecture.num_outputs)
    choice(metric, "metric", METRICS)
    check_draws(kind, draws)
    _refuse_ntk_of_other_kinds(metric, law, kind)
    inputs = num_samples if X is None else X
    theory = mean_field(architecture, inputs, executor=executor)
    report, close = reporter(progress, len(numbers), "networks")
    measured, spectra, output_seeds = [], [], []
    try:
        for done, seed in enumerate(numbers, 1):
            rng = np.random.default_rng(seed)
            net = architecture.sample(seed, precision)
            sample = rng.standard_normal((num_samples, dimension)) if X is None else X
            sample = sample.astype(precision, copy=False)
            found = _measured_metric(metric, net, sample, law, kind, draws, rng, executor)
            chosen = found.centered() if centered else found
            if eigenvalues:
                spectra.append(chosen.eigenvalues())
            measured.append(chosen.statistics())
            if law != Gaussian() or kind != "exact":
                output_seeds.append(chosen.output_seeds())
            report(done, len(numbers))
    finally:
        close()
    if output_seeds:
        theory = mean_field(
            architecture, inputs, likelihood=law, kind=kind, output_seeds=np.stack(output_seeds), executor=executor
        )
    return SpectrumComparison(
        architecture,
        theory,
        predicted_metric(theory, metric, centered=centered),
        metric,
        numbers,
        precision.name,
        tuple(measured),
        np.stack(spectra) if eigenvalues else None,
    )


def check_draws(kind: str, draws: int | None) -> None:
    """Refuse unknown kinds, and a number of draws where nothing is drawn.

    Parameters
    ----------
    kind : {"exact", "monte_carlo", "empirical"}
    draws : int or None
        Targets drawn per input.

    Raises
    ------
    ValueError, TypeError
        For an unknown kind, a number that is not a positive integer, or one with another kind than ``"monte_carlo"``.
    """
    choice(kind, "kind", KINDS)
    if draws is None:
        return
    positive_int(draws, "draws")
    if kind != "monte_carlo":
        raise ValueError(f"draws: expected only together with kind='monte_carlo', got draws with kind={kind!r}")


def _refuse_ntk_of_other_kinds(metric: str, likelihood: Likelihood, kind: str) -> None:
    if metric == "ntk" and (likelihood != Gaussian() or kind != "exact"):
        raise ValueError(
            f"metric: expected 'parameters', 'features' or 'input' with the {likelihood.name} likelihood and "
            f"kind={kind!r}, got 'ntk', which is of the outputs themselves"
        )


def _measured_metric(
    metric: str,
    net: Network,
    X: FloatArray,
    likelihood: Likelihood,
    kind: str,
    draws: int | None,
    rng: np.random.Generator,
    executor: Executor | None,
) -> NetworkMetric:
    if metric == "ntk":
        return TangentKernel(net, X, parametrization="ntk", executor=executor)
    make = Fisher if metric == "parameters" else feature_metric
    found = make(
        net,
        X,
        likelihood=likelihood,
        kind=kind,
        samples=draws,
        seed=rng if kind == "monte_carlo" else None,
        targets=_teacher_targets(net, X, likelihood, rng) if kind == "empirical" else None,
        executor=executor,
    )
    return found.layer(1) if metric == "input" else found


def _teacher_targets(net: Network, X: FloatArray, likelihood: Likelihood, rng: np.random.Generator) -> object:
    """Targets from another network of the ensemble."""
    assert net.architecture is not None
    teacher = net.architecture.sample(rng, X.dtype)
    return likelihood.sample(teacher(X), rng)
