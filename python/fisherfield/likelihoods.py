r"""Output distributions p(y | f): how the likelihood enters the Fisher information matrix.

A network gives outputs f(x), a :class:`Likelihood` turns them into a distribution of targets. All that the Fisher
information matrix needs of it are the *seeds* :math:`S_t` (C x R), a square root of the information of the output:

.. math:: F = \frac{1}{T} \sum_t J_t^\top S_t S_t^\top J_t, \qquad
    S_t S_t^\top = \mathrm{E}_{y \sim p(y | f_t)} [s s^\top], \quad s = \partial \log p(y | f_t) / \partial f.

The backward pass starts from the R columns of :math:`S_t`, so every likelihood runs through the same kernels. The
Monte-Carlo and the empirical Fisher start from scores of drawn or given targets instead. Built in, by name:

================  ==============================  =======================================  ===================  =====
name              outputs                         targets                                  information          R
================  ==============================  =======================================  ===================  =====
gaussian          mean                            float (T, C)                             diag(1 / noise_var)  C
heteroscedastic   means and log variances s       float (T, C / 2)                         diag(exp(-s), 1/2)   C
categorical       logits (also ``"softmax"``)     class indices (T,)                       diag(g) - g g^T      C - 1
bernoulli         logits of independent sigmoids  0 or 1 (T, C)                            diag(p (1 - p))      C
poisson           logarithms of the rates         counts (T, C)                            diag(exp(f))         C
================  ==============================  =======================================  ===================  =====

Any other distribution is a subclass of :class:`Likelihood` with four methods, as shown there.

Examples
--------
>>> import numpy as np
>>> from fisherfield import likelihoods
>>> softmax = likelihoods.get("categorical")
>>> outputs = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
>>> S = softmax.seeds(outputs)
>>> S.shape
(2, 2, 3)
>>> np.allclose(np.einsum("rtc,rtd->tcd", S, S), softmax.information(outputs))
True
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy import special

from ._validate import FloatArray, as_float_array, as_generator, as_sequence, choice, non_negative, positive_int

__all__ = [
    "KINDS",
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "HeteroscedasticGaussian",
    "Likelihood",
    "Poisson",
    "available",
    "draw_targets",
    "get",
    "score_seeds",
]

KINDS = ("exact", "monte_carlo", "empirical")

_SEED_BYTES = 2**24  # held at once where seeds are made only to be multiplied
_LOG_2PI = float(np.log(2 * np.pi))
_MOST = 2**63 - 1024  # largest float64 that int64 can hold: counts up to here come as integers or floats
_NO_PROBABILITY = -750.0  # exp of anything below is zero in float64


class Likelihood(ABC):
    r"""A distribution p(y | f) of targets given the C outputs of a network; subclass it for a distribution of your own.

    Its Fisher information matrix needs a square root of :meth:`information`: the seeds, R columns
    :math:`S_t` with :math:`S_t S_t^\top = I(f_t)`, from which the backward pass starts:

    .. math:: F = \frac{1}{T} \sum_t J_t^\top S_t S_t^\top J_t, \qquad I(f) = \mathrm{E}_y [s s^\top],
        \quad s = \partial \log p(y | f) / \partial f.

    A subclass writes :meth:`log_density`, :meth:`score`, :meth:`information` and :meth:`sample`, for all samples at
    once. Inside the library they are called with finite float arrays, and :meth:`score` and :meth:`log_density` with
    targets that came from :meth:`sample` or through :meth:`as_targets`. The other methods have defaults; override
    :meth:`seeds` where a square root of the information is known (and :meth:`seeds_times`,
    :meth:`seeds_transposed_times` where it need not be formed), :meth:`num_seeds` where its rank R is below C,
    :meth:`check_outputs` where not every C will do and :meth:`as_targets` where targets are not floats (T, C).

    The built-in likelihoods compute in float64 and round to the dtype of the outputs; a result that this dtype cannot
    hold raises ``ValueError``. Draws are made sample after sample, so batches drawn one after the other from one
    generator give the same targets as all samples drawn at once.

    Attributes
    ----------
    name : str
        Name for messages; the class's own, in lower case, unless set.
    depends_on_outputs : bool
        Whether ``information(outputs)`` does. Set False where it does not: predictions then draw no outputs.

    Examples
    --------
    Waiting times, exponential with rate :math:`e^f`: log p = f - y e^f, so the score is 1 - y e^f and I = 1.

    >>> import numpy as np, fisherfield as ff
    >>> class Exponential(ff.likelihoods.Likelihood):
    ...     def log_density(self, outputs, targets):
    ...         return (outputs - targets * np.exp(outputs)).sum(axis=1)
    ...     def score(self, outputs, targets):
    ...         return (1 - targets * np.exp(outputs)).astype(outputs.dtype)
    ...     def information(self, outputs):
    ...         samples, num_outputs = outputs.shape
    ...         return np.broadcast_to(np.eye(num_outputs), (samples, num_outputs, num_outputs))
    ...     def sample(self, outputs, rng):
    ...         return rng.exponential(np.exp(-outputs))

    The information is the second moment of the score; Gauss-Laguerre quadrature over y e^f takes it exactly:

    >>> waiting, f = Exponential(), np.array([[0.7]])
    >>> nodes, weights = np.polynomial.laguerre.laggauss(5)
    >>> scores = np.array([waiting.score(f, x * np.exp(-f))[0] for x in nodes])
    >>> np.allclose(np.einsum("n,ni,nj->ij", weights, scores, scores), waiting.information(f)[0])
    True

    >>> net = ff.MLP(widths=(3, 8, 2), activation="tanh", weight_var=1.0, bias_var=0.1).sample(seed=0)
    >>> fim = ff.Fisher(net, np.random.default_rng(0).standard_normal((4, 3)), likelihood=waiting)
    >>> fim.dual().shape
    (8, 8)
    """

    depends_on_outputs: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Name for messages."""
        return type(self).__name__.lower()

    @abstractmethod
    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t), natural logarithm, normalised, shape (T,), for outputs (T, C)."""

    @abstractmethod
    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return the gradients d log p(y_t | f_t) / d f_t, shape and dtype of the outputs, (T, C)."""

    @abstractmethod
    def information(self, outputs: FloatArray) -> FloatArray:
        """Return the Fisher information of the output, E[score score^T], shape (T, C, C), for outputs (T, C)."""

    @abstractmethod
    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Return one target per sample drawn from p(y | f_t), for outputs (T, C), in the format of the targets."""

    def num_seeds(self, num_outputs: int) -> int:
        """Return R, the columns of the square root of the information: its rank; C unless overridden."""
        return num_outputs

    def seeds(self, outputs: FloatArray) -> FloatArray:
        r"""Return a square root of the information: ``sum_r S[r, t] S[r, t]^T = information[t]``.

        The default takes the R largest eigenpairs of every matrix of :meth:`information`, in float64:
        :math:`S_r = \sqrt{\lambda_r} v_r`. An eigenvalue within rounding of zero counts as zero.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.

        Returns
        -------
        array, shape (R, T, C)
            Seeds in the dtype of ``outputs``, C-contiguous.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), or the information is none of shape (T, C, C), is not
            symmetric, has a negative eigenvalue or more than R that are not zero.
        """
        f, dtype = self._outputs(outputs)
        rank = _as_rank(self.num_seeds(f.shape[1]), f.shape[1])
        values, vectors = _eigenpairs(self.information(f), f.shape, rank)
        roots = np.sqrt(np.maximum(values, 0))
        return _rounded((vectors * roots[:, None, :]).transpose(2, 0, 1), dtype, "seeds")

    def seeds_times(self, outputs: FloatArray, u: FloatArray) -> FloatArray:
        """Return ``sum_r S[r, t] u[r, t]``, shape (T, C), for outputs (T, C) and u (R, T)."""
        y = np.empty_like(outputs)
        for part in self._parts(outputs):
            np.einsum("rtk,rt->tk", self.seeds(outputs[part]), u[:, part], out=y[part])
        return y

    def seeds_transposed_times(self, outputs: FloatArray, y: FloatArray) -> FloatArray:
        """Return ``S[r, t] . y[t]``, shape (R, T), for outputs and y (T, C)."""
        u = np.empty((self.num_seeds(outputs.shape[1]), len(outputs)), outputs.dtype)
        for part in self._parts(outputs):
            u[:, part] = np.einsum("rtk,tk->rt", self.seeds(outputs[part]), y[part])
        return u

    def _parts(self, outputs: FloatArray) -> Iterator[slice]:
        """Ranges of samples whose seeds, of C^2 numbers each, take little memory."""
        step = max(1, _SEED_BYTES // (outputs.shape[1] ** 2 * 8))
        return (slice(begin, begin + step) for begin in range(0, len(outputs), step))

    def check_outputs(self, num_outputs: int) -> None:
        """Raise ``ValueError`` if a network of so many outputs does not fit; the default accepts any number."""
        return

    def as_targets(self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return ``targets`` as the array that :meth:`score` takes, or raise; the default wants floats (T, C).

        Parameters
        ----------
        targets : array_like
            Targets y_t of the samples.
        num_samples, num_outputs : int
            T and C.
        dtype : dtype
            Precision of the outputs.

        Raises
        ------
        ValueError, TypeError
            For another shape, another dtype, NaN or infinity.
        """
        return _as_float_targets(targets, (num_samples, num_outputs), dtype)

    def _outputs(self, outputs: Any) -> tuple[FloatArray, np.dtype[Any]]:
        """Outputs in float64, and the dtype that results are rounded to."""
        array = as_float_array(outputs, "outputs", ndim=2)
        self.check_outputs(array.shape[1])
        return array.astype(np.float64, copy=False), array.dtype

    def _targets(self, targets: Any, outputs: FloatArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Checked targets of ``outputs``: integers, or floats in float64."""
        samples, num_outputs = outputs.shape
        y = self.as_targets(targets, num_samples=samples, num_outputs=num_outputs, dtype=dtype)
        return y.astype(np.float64, copy=False) if y.dtype.kind == "f" else y


class _Independent(Likelihood):
    """A likelihood whose information is diagonal: seeds are unit vectors times the roots of its entries."""

    @abstractmethod
    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        """Square roots of the diagonal of the information, (T, C), at the float64 outputs f."""

    def seeds(self, outputs: FloatArray) -> FloatArray:
        """Return the diagonal square root of the information, row by row, shape (C, T, C)."""
        roots = self._rounded_roots(outputs)
        diagonal = np.arange(roots.shape[1])
        result = np.zeros((len(diagonal), *roots.shape), roots.dtype)
        result[diagonal, :, diagonal] = roots.T
        return result

    def seeds_times(self, outputs: FloatArray, u: FloatArray) -> FloatArray:
        """Return ``sum_r S[r, t] u[r, t]``, shape (T, C), for outputs (T, C) and u (C, T)."""
        return self._rounded_roots(outputs) * u.T

    def seeds_transposed_times(self, outputs: FloatArray, y: FloatArray) -> FloatArray:
        """Return ``S[r, t] . y[t]``, shape (C, T), for outputs and y (T, C)."""
        return np.ascontiguousarray((self._rounded_roots(outputs) * y).T)

    def _rounded_roots(self, outputs: FloatArray) -> FloatArray:
        f, dtype = self._outputs(outputs)
        return _rounded(self._roots(f, dtype), dtype, "seeds")


@dataclass(frozen=True)
class Gaussian(_Independent):
    r"""``y ~ N(f, diag(noise_var))``: least squares (Karakida, Akaho, Amari 2019, Eqs. 1-2, with unit noise).

    .. math:: \log p = -\tfrac12 \sum_k \left[ (y_k - f_k)^2 / \sigma_k^2 + \log 2\pi\sigma_k^2 \right], \quad
        s = (y - f) / \sigma^2, \quad I = \mathrm{diag}(1 / \sigma^2), \quad R = C.

    With unit noise the seeds are the C unit vectors and the dual is the empirical neural tangent kernel over T.
    Targets are floats (T, C) in the precision of the outputs.

    Parameters
    ----------
    noise_var : float or sequence of C floats, default 1.0
        Variance of the noise, > 0: one for all outputs, or one for each.

    Raises
    ------
    ValueError, TypeError
        If a variance is not a finite number > 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.likelihoods import Gaussian
    >>> Gaussian(noise_var=(0.25, 4.0)).information(np.zeros((1, 2))).tolist()
    [[[4.0, 0.0], [0.0, 0.25]]]
    """

    depends_on_outputs: ClassVar[bool] = False

    noise_var: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        value: Any = self.noise_var
        several = isinstance(value, (list, tuple)) or np.ndim(value) > 0
        object.__setattr__(self, "noise_var", _variances(value) if several else _variance(value, "noise_var"))

    name = "gaussian"

    def check_outputs(self, num_outputs: int) -> None:
        """Raise ``ValueError`` if there is one variance per output, but not for so many outputs."""
        if isinstance(self.noise_var, tuple) and len(self.noise_var) != num_outputs:
            raise ValueError(
                f"noise_var: expected one number, or one for each of {num_outputs} outputs, got {len(self.noise_var)}"
            )

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t), shape (T,); outputs and targets are floats (T, C)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        variance = np.asarray(self.noise_var)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = (y - f) ** 2 / variance + np.log(variance) + _LOG_2PI
        return _rounded(-0.5 * terms.sum(axis=1), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``(y - f) / noise_var``, shape (T, C); outputs and targets are floats (T, C)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            result = (y - f) / np.asarray(self.noise_var)
        return _rounded(result, dtype, "score")

    def information(self, outputs: FloatArray) -> FloatArray:
        """Return ``diag(1 / noise_var)`` at every sample, shape (T, C, C), for outputs (T, C)."""
        f, dtype = self._outputs(outputs)
        with np.errstate(over="ignore"):
            precision = 1 / np.asarray(self.noise_var)
        return _diagonal_matrices(np.broadcast_to(precision, f.shape), dtype, "information")

    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        return np.broadcast_to(1 / np.sqrt(self.noise_var), f.shape)

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return ``f`` and noise, shape (T, C), in the dtype of the outputs (T, C)."""
        f, dtype = self._outputs(outputs)
        noise = as_generator(rng, "rng").standard_normal(f.shape)
        with np.errstate(over="ignore"):
            targets = f + np.sqrt(self.noise_var) * noise
        return _rounded(targets, dtype, "sample")


@dataclass(frozen=True)
class HeteroscedasticGaussian(_Independent):
    r"""``y ~ N(mu, diag(exp(s)))`` whose mean and log variance both are outputs, (mu_1..mu_m, s_1..s_m), C = 2 m.

    .. math:: \log p = -\tfrac12 \sum_k \left[ (y_k - \mu_k)^2 e^{-s_k} + s_k + \log 2\pi \right], \quad
        \partial_\mu = (y - \mu) e^{-s}, \quad \partial_s = \tfrac12 [(y - \mu)^2 e^{-s} - 1], \quad
        I = \mathrm{diag}(e^{-s}, \tfrac12), \quad R = C.

    Targets are floats (T, m) in the precision of the outputs. Where :math:`e^{-s}` overflows it, ``ValueError`` names
    the sample and the output.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.likelihoods import HeteroscedasticGaussian
    >>> HeteroscedasticGaussian().score(np.array([[1.0, 0.0]]), np.array([[3.0]])).tolist()
    [[2.0, 1.5]]
    """

    name = "heteroscedastic"

    def check_outputs(self, num_outputs: int) -> None:
        """Raise ``ValueError`` if the number of outputs is odd."""
        if num_outputs % 2:
            raise ValueError(
                f"outputs: expected an even number for the heteroscedastic likelihood, got {num_outputs}; "
                "give the last layer a mean and a log variance for every target"
            )

    def as_targets(self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike) -> FloatArray:
        """Return ``targets`` as floats (T, C / 2) of that dtype, or raise."""
        return _as_float_targets(targets, (num_samples, num_outputs // 2), dtype)

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t), shape (T,), for outputs (T, C) and targets (T, C / 2)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        mean, log_var, precision = _means_and_variances(f, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = (y - mean) ** 2 * precision + log_var + _LOG_2PI
        return _rounded(-0.5 * terms.sum(axis=1), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``((y - mu) e^-s, ((y - mu)^2 e^-s - 1) / 2)``, shape (T, C), for targets (T, C / 2)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        mean, _, precision = _means_and_variances(f, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            slope = (y - mean) * precision
            result = np.hstack([slope, 0.5 * ((y - mean) * slope - 1)])
        return _rounded(result, dtype, "score")

    def information(self, outputs: FloatArray) -> FloatArray:
        """Return ``diag(e^-s, 1/2)``, shape (T, C, C), for outputs (T, C)."""
        f, dtype = self._outputs(outputs)
        _, _, precision = _means_and_variances(f, dtype)
        return _diagonal_matrices(np.hstack([precision, np.full_like(precision, 0.5)]), dtype, "information")

    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        _, log_var, _ = _means_and_variances(f, dtype)
        return np.hstack([np.exp(-0.5 * log_var), np.full_like(log_var, np.sqrt(0.5))])

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return ``mu`` and noise of variance ``e^s``, shape (T, C / 2), in the dtype of the outputs (T, C)."""
        f, dtype = self._outputs(outputs)
        mean, log_var, _ = _means_and_variances(f, dtype)
        noise = as_generator(rng, "rng").standard_normal(mean.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            targets = mean + np.exp(0.5 * log_var) * noise
        return _rounded(targets, dtype, "sample")


@dataclass(frozen=True)
class Categorical(Likelihood):
    r"""One of C classes with probabilities g = softmax(f): classification by cross-entropy; also named "softmax".

    .. math:: \log p = f_y - \log \sum_k e^{f_k}, \quad s = e_y - g, \quad I = \mathrm{diag}(g) - g g^\top, \quad
        R = C - 1.

    (:math:`I` is :math:`Q_n` of Karakida, Akaho, Amari 2019, "Pathological spectra of the Fisher information metric".)
    The seeds are the Cholesky factor of the information, known in closed form (Tanabe and Sagae 1992; breaking a stick
    piece by piece): with the tails :math:`q_j = \sum_{i>j} g_i`,

    .. math:: S_{jj} = \sqrt{g_j q_j / q_{j-1}}, \quad S_{ij} = -g_i \sqrt{g_j / (q_{j-1} q_j)} \; (i > j), \quad
        S_{ij} = 0 \; (i < j),

    and a column whose tail is zero is zero. Nothing is found by subtraction from 1, so a saturated softmax keeps its
    accuracy; probabilities that float64 cannot hold (relative to the largest, about 1e-308) count as zero.
    Targets are class indices 0 to C - 1, shape (T,), of an integer dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.likelihoods import Categorical
    >>> Categorical().information(np.zeros((1, 2))).tolist()
    [[[0.25, -0.25], [-0.25, 0.25]]]
    >>> Categorical().seeds(np.zeros((1, 2))).tolist()
    [[[0.5, -0.5]]]
    """

    name = "categorical"

    def num_seeds(self, num_outputs: int) -> int:
        """Return C - 1: probabilities sum to one, so adding a constant to all outputs changes nothing."""
        return num_outputs - 1

    def check_outputs(self, num_outputs: int) -> None:
        """Raise ``ValueError`` for a single output."""
        if num_outputs < 2:
            raise ValueError(
                f"outputs: expected at least 2 for the categorical likelihood, got {num_outputs}: with one output the "
                "class is certain and F = 0; for two classes with one logit use 'bernoulli'"
            )

    def as_targets(
        self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike
    ) -> npt.NDArray[np.int64]:
        """Return ``targets`` as class indices, int64, shape (T,), or raise."""
        expected = f"class indices from 0 to {num_outputs - 1}"
        hint = "; for rows of probabilities 0 and 1 give targets.argmax(axis=1)"
        return _as_integers(targets, (num_samples,), expected, num_outputs - 1, kinds="iu", hint=hint)

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return the logarithm of the softmax at the target, shape (T,), for outputs (T, C) and classes (T,)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        weights = _relative_weights(f)
        largest = f.argmax(axis=1)[:, None]
        np.put_along_axis(weights, largest, 0, axis=1)  # its weight is 1, which log1p adds
        with np.errstate(over="ignore"):
            below = np.take_along_axis(f, y[:, None], axis=1) - np.take_along_axis(f, largest, axis=1)
        return _rounded(below[:, 0] - np.log1p(weights.sum(axis=1)), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``e_y - g``, shape (T, C), for outputs (T, C) and classes (T,)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        weights = _relative_weights(f)
        result = -weights
        at_target = y[:, None]
        np.put_along_axis(result, at_target, np.take_along_axis(_sums_of_others(weights), at_target, axis=1), axis=1)
        return _rounded(result / weights.sum(axis=1, keepdims=True), dtype, "score")

    def information(self, outputs: FloatArray) -> FloatArray:
        """Return ``diag(g) - g g^T``, shape (T, C, C), for outputs (T, C); its diagonal is g times the other g."""
        f, dtype = self._outputs(outputs)
        weights = _relative_weights(f)
        total = weights.sum(axis=1, keepdims=True)
        g = weights / total
        result = np.empty((*f.shape, f.shape[1]), dtype)
        np.multiply(-g[:, :, None], g[:, None, :], out=result, casting="same_kind")
        diagonal = np.arange(f.shape[1])
        result[:, diagonal, diagonal] = g * (_sums_of_others(weights) / total)
        return result

    def seeds(self, outputs: FloatArray) -> FloatArray:
        """Return the Cholesky factor of the information, column by column, shape (C - 1, T, C)."""
        f, dtype = self._outputs(outputs)
        weights, roots, slopes = self._cholesky(f)
        result = np.zeros((f.shape[1] - 1, *f.shape), dtype)
        for j, column in enumerate(result):
            column[:, j] = roots[:, j]
            np.multiply(weights[:, j + 1 :], slopes[:, j, None], out=column[:, j + 1 :], casting="same_kind")
        return result

    def _cholesky(self, f: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``S_ij`` = roots_j for i = j, weights_i slopes_j for i > j: (T, C), (T, C - 1) and (T, C - 1)."""
        weights = _relative_weights(f)
        total, first, tails = weights.sum(axis=1, keepdims=True), weights[:, :-1], _tails(weights)
        positive = np.where(tails > 0, tails, 1)
        roots = np.sqrt(first / total * (tails / (first + positive)))
        return weights, roots, roots / -positive

    def seeds_times(self, outputs: FloatArray, u: FloatArray) -> FloatArray:
        """Return S u, shape (T, C), for outputs (T, C) and u (C - 1, T), by sums over the columns before each row."""
        f, dtype = self._outputs(outputs)
        weights, roots, slopes = self._cholesky(f)
        y = np.zeros(f.shape)
        y[:, :-1] = roots * u.T
        y[:, 1:] += weights[:, 1:] * np.cumsum(slopes * u.T, axis=1)
        return y.astype(dtype)

    def seeds_transposed_times(self, outputs: FloatArray, y: FloatArray) -> FloatArray:
        """Return S^T y, shape (C - 1, T), for outputs and y (T, C), by sums over the rows after each column."""
        f, dtype = self._outputs(outputs)
        weights, roots, slopes = self._cholesky(f)
        below = np.cumsum((weights * y)[:, :0:-1], axis=1)[:, ::-1]
        return np.ascontiguousarray((roots * y[:, :-1] + slopes * below).T.astype(dtype))

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return classes drawn with the softmax's probabilities, int64, shape (T,), for outputs (T, C)."""
        f, _ = self._outputs(outputs)
        upper = np.cumsum(_relative_weights(f), axis=1)
        height = as_generator(rng, "rng").random((len(f), 1)) * upper[:, -1:]
        classes: npt.NDArray[np.int64] = (upper[:, :-1] <= height).sum(axis=1, dtype=np.int64)
        return classes


@dataclass(frozen=True)
class Bernoulli(_Independent):
    r"""C independent events with probabilities p = 1 / (1 + e^-f): binary or multi-label classification.

    .. math:: \log p(y) = -\sum_k \log(1 + e^{(1 - 2 y_k) f_k}), \quad s = y - p, \quad
        I = \mathrm{diag}(p (1 - p)), \quad S_{kk} = e^{-|f_k| / 2} / (1 + e^{-|f_k|}), \quad R = C.

    Targets are 0 or 1, shape (T, C), of a boolean, integer or floating dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.likelihoods import Bernoulli
    >>> Bernoulli().score(np.zeros((1, 2)), np.array([[True, False]])).tolist()
    [[0.5, -0.5]]
    """

    name = "bernoulli"

    def as_targets(self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike) -> FloatArray:
        """Return ``targets`` as 0 and 1 of that dtype, shape (T, C), or raise."""
        events: FloatArray = _as_integers(targets, (num_samples, num_outputs), "0 or 1", 1, kinds="biuf").astype(dtype)
        return events

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t), shape (T,), for outputs and targets (T, C)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        return _rounded(special.log_expit((2 * y - 1) * f).sum(axis=1), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``y - p``, shape (T, C), for outputs and targets (T, C)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        sign = 2 * y - 1
        return _rounded(sign * special.expit(-sign * f), dtype, "score")

    def information(self, outputs: FloatArray) -> FloatArray:
        """Return ``diag(p (1 - p))``, shape (T, C, C), for outputs (T, C)."""
        f, dtype = self._outputs(outputs)
        return _diagonal_matrices(special.expit(f) * special.expit(-f), dtype, "information")

    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        half = np.exp(-0.5 * np.abs(f))
        return np.asarray(half / (1 + half**2))

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return events 0 and 1, shape (T, C), in the dtype of the outputs (T, C)."""
        f, dtype = self._outputs(outputs)
        events: FloatArray = (as_generator(rng, "rng").random(f.shape) < special.expit(f)).astype(dtype)
        return events


@dataclass(frozen=True)
class Poisson(_Independent):
    r"""C independent counts of rates e^f (logarithmic link).

    .. math:: \log p(y) = \sum_k \left[ y_k f_k - e^{f_k} - \log y_k! \right], \quad s = y - e^f, \quad
        I = \mathrm{diag}(e^f), \quad S_{kk} = e^{f_k / 2}, \quad R = C.

    Targets are counts 0, 1, 2, ..., shape (T, C), of an integer dtype or floats with integral values. Where a rate
    overflows the dtype of the outputs, every method raises ``ValueError`` that names the sample and the output.

    Examples
    --------
    >>> import numpy as np
    >>> from fisherfield.likelihoods import Poisson
    >>> Poisson().score(np.zeros((1, 2)), np.array([[3, 0]])).tolist()
    [[2.0, -1.0]]
    """

    name = "poisson"

    def as_targets(
        self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike
    ) -> npt.NDArray[np.int64]:
        """Return ``targets`` as counts, int64, shape (T, C), or raise."""
        return _as_integers(targets, (num_samples, num_outputs), "counts 0, 1, 2, ...", _MOST, kinds="iuf")

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t), shape (T,), for outputs and counts (T, C)."""
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        rate = _rates(f, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = y * f - rate - special.gammaln(y + 1.0)
        return _rounded(terms.sum(axis=1), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``y - e^f``, shape (T, C), for outputs and counts (T, C)."""
        f, dtype = self._outputs(outputs)
        return _rounded(self._targets(targets, f, dtype) - _rates(f, dtype), dtype, "score")

    def information(self, outputs: FloatArray) -> FloatArray:
        """Return ``diag(e^f)``, shape (T, C, C), for outputs (T, C)."""
        f, dtype = self._outputs(outputs)
        return _diagonal_matrices(_rates(f, dtype), dtype, "information")

    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        _rates(f, dtype)  # refuses those that overflow, as the other methods do
        return np.asarray(np.exp(0.5 * f))

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return counts, int64, shape (T, C), for outputs (T, C).

        Raises
        ------
        ValueError
            If a rate is above about 9.2e18, the largest for which NumPy draws counts.
        """
        f, dtype = self._outputs(outputs)
        rate, generator = _rates(f, dtype), as_generator(rng, "rng")
        try:
            counts: npt.NDArray[np.int64] = generator.poisson(rate)
        except ValueError as error:
            t, k = np.unravel_index(rate.argmax(), rate.shape)
            raise ValueError(
                f"outputs: expected rates e^f of at most about 9.2e18, for which NumPy can draw counts, got "
                f"exp({f[t, k]:g}) at sample {t}, output {k}; scale the weights of the last layer down"
            ) from error
        return counts


# --- the softmax, without cancellation ------------------------------------------------------------------


def _relative_weights(f: FloatArray) -> FloatArray:
    """``exp(f - max f)`` in every row, the largest exactly 1; what the difference was rounded by is put back in."""
    largest = f.max(axis=1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        below = f - largest
        back = below - f
        lost = (f - (below - back)) - (largest + back)
        return np.where(below < _NO_PROBABILITY, 0.0, np.exp(below) * (1 + lost))


def _tails(weights: FloatArray) -> FloatArray:
    """Sum of the entries after each but the last: (T, C) to (T, C - 1)."""
    return np.cumsum(weights[:, :0:-1], axis=1)[:, ::-1]


def _sums_of_others(weights: FloatArray) -> FloatArray:
    """Sum of all entries of a row but one: sums of positive numbers from both ends, shape (T, C)."""
    result = np.zeros_like(weights)
    np.cumsum(weights[:, :-1], axis=1, out=result[:, 1:])
    result[:, :-1] += _tails(weights)
    return result


# --- exponentials that the dtype must hold --------------------------------------------------------------


def _exp(exponents: FloatArray, dtype: np.dtype[Any], what: str, first: int = 0) -> FloatArray:
    """Exponentials in float64 that ``dtype`` can hold too; ``first`` is the output of the first column."""
    with np.errstate(over="ignore"):
        result: FloatArray = np.exp(exponents)
    too_large = result > np.finfo(dtype).max
    if too_large.any():
        t, k = np.argwhere(too_large)[0]
        raise ValueError(
            f"outputs: expected {what} that {dtype} can hold, got exp({exponents[t, k]:g}) at sample {t}, output "
            f"{first + k}; scale the weights of the last layer down" + (", or use float64" * (dtype == np.float32))
        )
    return result


def _rates(f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    return _exp(f, dtype, "rates e^f")


def _means_and_variances(f: FloatArray, dtype: np.dtype[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means, log variances and inverse variances, (T, C / 2) each, of outputs (T, C)."""
    mean, log_var = np.hsplit(f, 2)
    return mean, log_var, _exp(-log_var, dtype, "inverse variances e^-s", first=mean.shape[1])


# --- results --------------------------------------------------------------------------------------------


def _rounded(values: FloatArray, dtype: np.dtype[Any], name: str) -> FloatArray:
    """Round to the dtype of the outputs, C-contiguous; refuse what it cannot hold."""
    with np.errstate(over="ignore"):
        result: FloatArray = np.ascontiguousarray(values, dtype)
    if not np.isfinite(result).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise ValueError(
            f"{name}: expected finite numbers, got {result[where]} at index {where}: it overflows {dtype}; "
            "scale outputs and targets" + (", or use float64" if dtype == np.float32 else "")
        )
    return result


def _diagonal_matrices(values: FloatArray, dtype: np.dtype[Any], name: str) -> FloatArray:
    """Diagonals (T, C) to matrices (T, C, C)."""
    diagonal = np.arange(values.shape[1])
    result = np.zeros((*values.shape, len(diagonal)), dtype)
    result[:, diagonal, diagonal] = _rounded(values, dtype, name)
    return result


def _eigenpairs(information: FloatArray, shape: tuple[int, ...], rank: int) -> tuple[FloatArray, FloatArray]:
    """The ``rank`` largest eigenpairs of positive semi-definite matrices of at most that rank, or ``ValueError``."""
    samples, num_outputs = shape
    matrices = as_float_array(information, "information", ndim=3, shape=(samples, num_outputs, num_outputs))
    rounding = 100 * num_outputs * np.finfo(matrices.dtype).eps
    matrices = matrices.astype(np.float64, copy=False)
    limits = rounding * np.abs(matrices).max(axis=(1, 2))
    _refuse(np.abs(matrices - matrices.transpose(0, 2, 1)).max(axis=(1, 2)) > limits, "a symmetric matrix", "another")
    values, vectors = np.linalg.eigh(matrices)
    _refuse(values[:, 0] < -limits, "no negative eigenvalue", "one")
    dropped = values[:, :-rank]
    _refuse((dropped > limits[:, None]).any(axis=1), f"rank num_seeds = {rank} or less", "a higher one")
    return values[:, -rank:], vectors[:, :, -rank:]


def _as_rank(value: Any, num_outputs: int) -> int:
    rank = positive_int(value, "num_seeds")
    if rank > num_outputs:
        raise ValueError(f"num_seeds: expected at most C = {num_outputs}, got {rank}; override seeds too for more")
    return rank


def _refuse(wrong: npt.NDArray[np.bool_], expected: str, got: str) -> None:
    if wrong.any():
        raise ValueError(f"information: expected {expected}, got {got} at sample {wrong.argmax()}")


# --- arguments ------------------------------------------------------------------------------------------


def _variance(value: Any, name: str) -> float:
    return non_negative(value, name, strict=True)


def _variances(values: Any) -> tuple[float, ...]:
    sequence = as_sequence(values, "noise_var", "a number, or a sequence of one number per output")
    if len(sequence) == 0:
        raise ValueError("noise_var: expected a number, or one for each output, got an empty sequence")
    return tuple(_variance(value, f"noise_var[{k}]") for k, value in enumerate(sequence))


def _as_float_targets(targets: Any, shape: tuple[int, int], dtype: npt.DTypeLike) -> FloatArray:
    array = as_float_array(targets, "targets", ndim=2, shape=shape)
    if array.dtype != dtype:
        raise TypeError(
            f"targets: expected {np.dtype(dtype)} like the outputs, got {array.dtype}; convert with .astype"
        )
    return array


def _as_integers(
    targets: Any, shape: tuple[int, ...], expected: str, most: int, *, kinds: str, hint: str = ""
) -> npt.NDArray[np.int64]:
    """Targets from 0 to ``most`` as int64, from an array of one of the ``kinds`` of dtypes that holds integers only."""
    if np.ma.is_masked(targets):
        raise ValueError(f"targets: expected {expected}, got masked entries; fill or remove them")
    try:
        array = np.asarray(targets)
    except ValueError as error:
        raise ValueError(f"targets: expected shape {shape}, got rows of different lengths") from error
    if array.dtype.kind not in kinds:
        raise TypeError(f"targets: expected {expected}, got dtype {array.dtype}; convert with .astype{hint}")
    if array.shape != shape:
        raise ValueError(f"targets: expected {expected}, shape {shape}, got shape {array.shape}{hint}")
    if array.dtype.kind == "f":
        array = array.astype(np.float64, copy=False)
    wrong = ~((array >= 0) & (array <= most) & (array == np.floor(array)))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"targets: expected {expected}, got {array[where]} at index {where}")
    return array.astype(np.int64, copy=False)


def draw_targets(
    likelihood: Likelihood, outputs: FloatArray, rng: np.random.Generator, count: int
) -> tuple[npt.NDArray[Any], ...]:
    """Return ``count`` draws of one target per sample, each checked to be that, read-only."""
    drawn = tuple(np.array(likelihood.sample(outputs, rng)) for _ in range(count))
    for targets in drawn:
        if targets.shape[:1] != (len(outputs),):
            raise ValueError(
                f"likelihood {likelihood.name}: expected sample() to draw one target per sample "
                f"({len(outputs)}), got shape {targets.shape}"
            )
        targets.flags.writeable = False
    return drawn


def score_seeds(likelihood: Likelihood, outputs: FloatArray, targets: Sequence[npt.NDArray[Any]]) -> FloatArray:
    """Return seeds (n, T, C) from n targets per sample: their sum of squares is the mean of score score^T."""
    scores = [np.asarray(likelihood.score(outputs, drawn)) for drawn in targets]
    for score in scores:
        if score.shape != outputs.shape or score.dtype != outputs.dtype:
            raise ValueError(
                f"likelihood {likelihood.name}: expected score() to return shape {outputs.shape} and dtype "
                f"{outputs.dtype}, those of the outputs, got shape {score.shape} and dtype {score.dtype}"
            )
    return np.stack(scores) / outputs.dtype.type(np.sqrt(len(targets)))


_BY_NAME: dict[str, Likelihood] = {
    "gaussian": Gaussian(),
    "heteroscedastic": HeteroscedasticGaussian(),
    "categorical": Categorical(),
    "softmax": Categorical(),
    "bernoulli": Bernoulli(),
    "poisson": Poisson(),
}


def available() -> tuple[str, ...]:
    """Return the names that :func:`get` knows."""
    return tuple(_BY_NAME)


def get(likelihood: str | Likelihood) -> Likelihood:
    """Return the likelihood of that name, or ``likelihood`` itself if it is one.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor an instance of a subclass of :class:`Likelihood`.

    Examples
    --------
    >>> from fisherfield import likelihoods
    >>> likelihoods.get("gaussian")
    Gaussian(noise_var=1.0)
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    if isinstance(likelihood, str):
        return _BY_NAME[choice(likelihood, "likelihood", tuple(_BY_NAME))]
    is_class = isinstance(likelihood, type) and issubclass(likelihood, Likelihood)
    hint = f"the class {likelihood.__name__}; call it: {likelihood.__name__}()" if is_class else repr(likelihood)
    names = ", ".join(map(repr, _BY_NAME))
    raise TypeError(f"likelihood: expected one of {names}, or an instance of a subclass of Likelihood, got {hint}")
