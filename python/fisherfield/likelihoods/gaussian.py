"""Gaussian targets: of given variance, and of a variance that is an output itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import devices
from .._validate import FloatArray, as_generator, as_sequence, non_negative
from ._values import as_float_targets, exponentials, rounded
from .base import Independent

__all__ = ["Gaussian", "HeteroscedasticGaussian"]

_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Gaussian(Independent):
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
    canonical: ClassVar[bool] = True

    noise_var: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        value: Any = self.noise_var
        several = isinstance(value, (list, tuple)) or np.ndim(value) > 0
        object.__setattr__(self, "noise_var", _variances(value) if several else _variance(value, "noise_var"))

    name = "gaussian"

    def check_outputs(self, num_outputs: int) -> None:
        """Refuse other numbers of outputs than that of the variances, where there is one for each.

        Parameters
        ----------
        num_outputs : int
            C.

        Raises
        ------
        ValueError
            If there is one variance per output, but not for so many outputs.
        """
        if isinstance(self.noise_var, tuple) and len(self.noise_var) != num_outputs:
            raise ValueError(
                f"noise_var: expected one number, or one for each of {num_outputs} outputs, got {len(self.noise_var)}"
            )

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t).

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            Floats (T, C), in the precision of the outputs.

        Returns
        -------
        array, shape (T,)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), the targets do not go with
            them, or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        variance = self._noise(f)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = (y - f) ** 2 / variance + np.log(variance) + _LOG_2PI
        return rounded(-0.5 * terms.sum(axis=1), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``(y - f) / noise_var``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            Floats (T, C), in the precision of the outputs.

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), the targets do not go with
            them, or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            result = (y - f) / self._noise(f)
        return rounded(result, dtype, "score")

    def _entries(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        with np.errstate(over="ignore"):
            return np.broadcast_to(1 / self._noise(f), f.shape)

    def _squared_score_variances(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        with np.errstate(over="ignore"):
            return 2 * self._entries(f, dtype) ** 2

    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        return np.broadcast_to(1 / np.sqrt(self._noise(f)), f.shape)

    def _noise(self, like: FloatArray) -> npt.NDArray[np.float64]:
        """Return ``noise_var`` as an array, of shape () or (C,), on the device of another one."""
        return np.asarray(self.noise_var, like=like)

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return ``f`` and noise of variance ``noise_var``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        rng : numpy.random.Generator
            Advanced by what is drawn.

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C),
            or the noise would be lost in the rounding of the mean.
        """
        f, dtype = self._outputs(devices.on_host(outputs))
        noise = as_generator(rng, "rng").standard_normal(f.shape)
        deviation = np.broadcast_to(np.sqrt(self.noise_var), f.shape)
        _require_room_for_noise(f, deviation, dtype)
        with np.errstate(over="ignore"):
            targets = f + deviation * noise
        drawn: FloatArray = devices.as_like(rounded(targets, dtype, "sample"), outputs)
        return drawn


@dataclass(frozen=True)
class HeteroscedasticGaussian(Independent):
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
        """Refuse an odd number of outputs.

        Parameters
        ----------
        num_outputs : int
            C.

        Raises
        ------
        ValueError
            If the number is odd.
        """
        if num_outputs % 2:
            raise ValueError(
                f"outputs: expected an even number for the heteroscedastic likelihood, got {num_outputs}; "
                "give the last layer a mean and a log variance for every target"
            )

    def as_targets(self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike) -> FloatArray:
        """Return ``targets`` as floats.

        Parameters
        ----------
        targets : array_like
            Targets of the samples.
        num_samples, num_outputs : int
            T and C.
        dtype : dtype
            Precision of the outputs.

        Returns
        -------
        array, shape (T, C / 2)
            Of that dtype.

        Raises
        ------
        ValueError, TypeError
            For another shape, another dtype, NaN or infinity.
        """
        return as_float_targets(targets, (num_samples, num_outputs // 2), dtype)

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t).

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            Floats (T, C / 2), in the precision of the outputs.

        Returns
        -------
        array, shape (T,)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C even, whose inverse variances e^-s their dtype holds,
            the targets do not go with them, or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        mean, log_var, precision = _means_and_variances(f, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = (y - mean) ** 2 * precision + log_var + _LOG_2PI
        return rounded(-0.5 * terms.sum(axis=1), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``((y - mu) e^-s, ((y - mu)^2 e^-s - 1) / 2)``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            Floats (T, C / 2), in the precision of the outputs.

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C even, whose inverse variances e^-s their dtype holds,
            the targets do not go with them, or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        mean, _, precision = _means_and_variances(f, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            slope = (y - mean) * precision
            result = np.hstack([slope, 0.5 * ((y - mean) * slope - 1)])
        return rounded(result, dtype, "score")

    def _entries(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        _, _, precision = _means_and_variances(f, dtype)
        return np.hstack([precision, np.full_like(precision, 0.5)])

    def _squared_score_variances(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        _, _, precision = _means_and_variances(f, dtype)
        return np.hstack([2 * precision**2, np.full_like(precision, 3.5)])

    def squared_score_variance(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        r"""Return the variance of :math:`(b \cdot s)^2`.

        The scores of a mean and of its log variance depend on one normal number z: with :math:`\alpha = b_\mu e^{-s/2}`
        and :math:`\beta = b_s` the variance of :math:`(\alpha z + \beta (z^2 - 1) / 2)^2` is
        :math:`2 \alpha^4 + 14 \alpha^2 \beta^2 + \tfrac{7}{2} \beta^4`. Between different k they are independent.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        b : array, shape (C, T, M)
            M directions in output space at each sample, floats.

        Returns
        -------
        array, shape (T, M)
            In the dtype of ``b``.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C even, the directions no floats (C, T, M), or the result
            overflows the dtype of the directions.
        """
        pairs = b.shape[0] // 2
        precision = self._per_output(self._entries, outputs, b)[:pairs]
        total, before = np.zeros((2, *b.shape[1:]), b.dtype, like=b)
        with np.errstate(over="ignore", invalid="ignore"):
            for variance, mean, log_var in zip(precision, b[:pairs], b[pairs:], strict=True):
                alpha, beta = variance * mean * mean, log_var * log_var
                term = alpha + beta / 2
                total += 2 * alpha * alpha + 14 * alpha * beta + 3.5 * beta * beta + 4 * term * before
                before += term
        return rounded(total, b.dtype, "squared_score_variance")

    def squared_score_bound(self, outputs: FloatArray) -> FloatArray:
        r"""Return the largest eigenvalue of the covariance of :math:`s s^\top`.

        Of one pair it is that of :math:`(s_\mu^2, s_s^2)`, with entries :math:`2 e^{-2s}, 2 e^{-s}, \tfrac{7}{2}`, or
        :math:`5 e^{-s}` of :math:`\sqrt2 s_\mu s_s`; of two pairs :math:`2 I_j I_k`.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.

        Returns
        -------
        array, shape (T,), float64

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C even, or the result overflows float64.
        """
        _, _, x = _means_and_variances(*self._outputs(outputs))
        with np.errstate(over="ignore"):
            own = np.maximum(x**2 + 1.75 + np.hypot(x**2 - 1.75, 2 * x), 5 * x)
            largest: FloatArray = own.max(axis=1)
            if x.shape[1] > 1:
                entries = np.sort(np.maximum(x, 0.5), axis=1)  # the larger information of each pair
                largest = np.maximum(largest, 2 * entries[:, -1] * entries[:, -2])
        return rounded(largest, largest.dtype, "squared_score_bound")

    def exponential_connection(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        r"""Return :math:`\Gamma_\mu = -2 b_\mu b_s, \; \Gamma_s = -b_s^2`.

        The natural parameters are :math:`\mu e^{-s}` and :math:`-e^{-s} / 2`.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        b : array, shape (C, T, M)
            M directions in output space at each sample, floats.

        Returns
        -------
        array, shape (C, T, M)
            In the dtype of ``b``.

        Raises
        ------
        ValueError
            If the directions are no floats (C, T, M).
        """
        self._check_directions(outputs, b)
        mean, log_var = np.split(b, 2)
        return np.concatenate([-2 * mean * log_var, -(log_var**2)])

    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        _, log_var, _ = _means_and_variances(f, dtype)
        return np.hstack([np.exp(-0.5 * log_var), np.full_like(log_var, np.sqrt(0.5))])

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return ``mu`` and noise of variance ``e^s``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        rng : numpy.random.Generator
            Advanced by what is drawn.

        Returns
        -------
        array, shape (T, C / 2)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C even, whose inverse variances e^-s their dtype holds,
            or the noise would be lost in the rounding of the mean.
        """
        f, dtype = self._outputs(devices.on_host(outputs))
        mean, log_var, _ = _means_and_variances(f, dtype)
        noise = as_generator(rng, "rng").standard_normal(mean.shape)
        deviation = np.exp(0.5 * log_var)
        _require_room_for_noise(mean, deviation, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            targets = mean + deviation * noise
        drawn: FloatArray = devices.as_like(rounded(targets, dtype, "sample"), outputs)
        return drawn


def _means_and_variances(f: FloatArray, dtype: np.dtype[Any]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means, log variances and inverse variances, (T, C / 2) each, of outputs (T, C)."""
    mean, log_var = np.hsplit(f, 2)
    return mean, log_var, exponentials(-log_var, dtype, "inverse variances e^-s", first=mean.shape[1])


def _variance(value: Any, name: str) -> float:
    return non_negative(value, name, strict=True)


def _variances(values: Any) -> tuple[float, ...]:
    sequence = as_sequence(values, "noise_var", "a number, or a sequence of one number per output")
    if len(sequence) == 0:
        raise ValueError("noise_var: expected a number, or one for each output, got an empty sequence")
    return tuple(_variance(value, f"noise_var[{k}]") for k, value in enumerate(sequence))


def _require_room_for_noise(mean: FloatArray, deviation: FloatArray, dtype: np.dtype[Any]) -> None:
    """Refuse to draw targets whose noise would be lost in their rounding."""
    lost = np.abs(mean) * float(np.finfo(dtype).eps) > 0.1 * deviation  # changes its variance by a thousandth
    if lost.any():
        t, k = (int(i) for i in np.argwhere(lost)[0])
        raise ValueError(
            f"outputs: expected noise that {dtype} can add to the mean, got a deviation of {deviation[t, k]:.1e} "
            f"beside a mean of {mean[t, k]:.1e} at sample {t}, output {k}" + ("; use float64" * (dtype == np.float32))
        )
