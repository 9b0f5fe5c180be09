"""Theory beside measurement for the eigenvalue spectrum of the Fisher information matrix."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import spectrum
from .._executor import Progress, reporter
from .._validate import FloatArray, as_dtype, as_float_array, positive_int
from ..architecture import MLP
from ..fisher import Fisher
from ..report import Comparison, Row
from ..statistics import FisherStatistics, critical_learning_rate
from ..theory import InputStatistics, MeanField, mean_field

__all__ = ["SpectrumComparison", "compare"]


@dataclass(frozen=True)
class SpectrumComparison:
    """What :func:`compare` found.

    Attributes
    ----------
    architecture : MLP
    theory : MeanField
    seeds : tuple of int
        One per sampled network.
    dtype : str
        Precision of the networks.
    measured : tuple of FisherStatistics
        One per network.
    eigenvalues : ndarray, shape (number of networks, min(P, C T)), or None
        The possibly nonzero eigenvalues of each network, descending; None if not asked for.
    """

    architecture: MLP
    theory: MeanField
    seeds: tuple[int, ...]
    dtype: str
    measured: tuple[FisherStatistics, ...]
    eigenvalues: FloatArray | None

    @property
    def num_samples(self) -> int:
        """T."""
        return self.measured[0].num_samples

    def comparison(self, momentum: float = 0.0) -> Comparison:
        r"""Return the table: statistics of the spectrum, then the critical learning rate.

        The learning rate :math:`\eta_c = 2 (1 + \mu) / \lambda_{\max}` bounds gradient descent with momentum
        :math:`0 \le \mu < 1` (Karakida, Akaho, Amari 2019, Theorem 7); the measured one has the measured maximum.
        """
        theory, refined = self.theory.statistics, self.theory.refined_statistics
        maxima = self._measured("maximum")
        rows = [
            Row("mean", "tr F / P", theory.mean, refined.mean, self._measured("mean")),
            Row(
                "second moment",
                "tr F^2 / P",
                theory.second_moment,
                refined.second_moment,
                self._measured("second_moment"),
            ),
            Row("maximum", "lambda_max", theory.maximum, refined.maximum, maxima),
            Row(
                "critical rate",
                "2 (1 + mu) / lambda_max" if momentum else "2 / lambda_max",
                critical_learning_rate(theory.maximum, momentum),
                critical_learning_rate(refined.maximum, momentum),
                tuple(critical_learning_rate(maximum, momentum) for maximum in maxima),
            ),
        ]
        outputs = self.architecture.num_outputs
        if outputs > 1:
            top = Row(
                "top mean",
                f"{outputs} largest",
                theory.top_mean,
                refined.top_mean,
                self._measured("top_mean"),
            )
            rows.insert(3, top)
        return Comparison(tuple(rows))

    def predicted_eigenvalues(self) -> FloatArray | None:
        """Return the C T predicted eigenvalues for data, descending; None for Gaussian inputs.

        The leading order repeats the T eigenvalues of the predicted dual's block C times. For Gaussian inputs
        it has only two different ones.
        """
        if isinstance(self.theory.inputs, InputStatistics):
            return None
        block = spectrum.eigenvalues(self.theory.dual())
        return np.repeat(block, self.architecture.num_outputs)

    def _measured(self, field: str) -> tuple[float, ...]:
        return tuple(float(getattr(statistics, field)) for statistics in self.measured)


def compare(
    architecture: MLP,
    inputs: int | npt.ArrayLike,
    seeds: Sequence[int] = tuple(range(10)),
    *,
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
        One network each, all different. Network and Gaussian inputs come, in this order, from
        ``numpy.random.default_rng(seed)``.
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
        If a dual matrix (C T x C T) cannot fit.

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
    numbers = tuple(positive_int(seed, "seeds", minimum=0) for seed in seeds)
    if not numbers:
        raise ValueError("seeds: expected at least one seed, got none")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds: expected different seeds, got {', '.join(map(str, numbers))}")
    dimension = architecture.widths[0]
    X = None if np.ndim(inputs) == 0 else as_float_array(inputs, "inputs", ndim=2, shape=(None, dimension))
    num_samples = positive_int(inputs, "inputs") if X is None else len(X)
    theory = mean_field(architecture, num_samples if X is None else X, executor=executor)
    report, close = reporter(progress, len(numbers), "networks")
    measured, spectra = [], []
    try:
        for done, seed in enumerate(numbers, 1):
            rng = np.random.default_rng(seed)
            net = architecture.sample(rng, precision)
            sample = rng.standard_normal((num_samples, dimension)) if X is None else X
            fim = Fisher(net, sample.astype(precision, copy=False), executor=executor)
            if eigenvalues:
                spectra.append(fim.eigenvalues())
            measured.append(fim.statistics())
            report(done, len(numbers))
    finally:
        close()
    found = np.stack(spectra) if eigenvalues else None
    return SpectrumComparison(architecture, theory, numbers, precision.name, tuple(measured), found)
