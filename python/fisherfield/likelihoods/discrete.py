"""Independent events and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import devices
from .._validate import FloatArray, as_generator
from ._values import as_integers, exponentials, rounded, special_functions
from .base import Independent

__all__ = ["Bernoulli", "Poisson"]

_MOST = 2**63 - 1024  # largest float64 that int64 can hold: counts up to here come as integers or floats


@dataclass(frozen=True)
class Bernoulli(Independent):
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

    canonical: ClassVar[bool] = True
    name = "bernoulli"

    def as_targets(self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike) -> FloatArray:
        """Return ``targets`` as 0 and 1.

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
        array, shape (T, C)
            Of that dtype.

        Raises
        ------
        ValueError, TypeError
            For another shape, other numbers than 0 and 1, and a dtype that is not boolean, integer or floating.
        """
        events: FloatArray = as_integers(targets, (num_samples, num_outputs), "0 or 1", 1, kinds="biuf").astype(dtype)
        return events

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t).

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            0 or 1, shape (T, C).

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
        return rounded(special_functions(f).log_expit((2 * y - 1) * f).sum(axis=1), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``y - p``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            0 or 1, shape (T, C).

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
        sign = 2 * y - 1
        return rounded(sign * _probabilities(-sign * f), dtype, "score")

    def _entries(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        return _probabilities(f) * _probabilities(-f)

    def _squared_score_variances(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        found: FloatArray = self._entries(f, dtype) * np.tanh(f / 2) ** 2  # p (1 - p) (1 - 2 p)^2
        return found

    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        half: FloatArray = np.exp(-0.5 * np.abs(f))
        return half / (1 + half**2)

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return events drawn with probabilities p.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        rng : numpy.random.Generator
            Advanced by what is drawn.

        Returns
        -------
        array, shape (T, C)
            0 and 1, in the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C).
        """
        f, dtype = self._outputs(devices.on_host(outputs))
        drawn = (as_generator(rng, "rng").random(f.shape) < _probabilities(f)).astype(dtype)
        events: FloatArray = devices.as_like(drawn, outputs)
        return events


@dataclass(frozen=True)
class Poisson(Independent):
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

    canonical: ClassVar[bool] = True
    name = "poisson"

    def as_targets(
        self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike
    ) -> npt.NDArray[np.int64]:
        """Return ``targets`` as counts.

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
        array, shape (T, C), int64

        Raises
        ------
        ValueError, TypeError
            For another shape, numbers that are not 0, 1, 2, ..., and a dtype that is not integer or floating.
        """
        return as_integers(targets, (num_samples, num_outputs), "counts 0, 1, 2, ...", _MOST, kinds="iuf")

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t).

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            Counts, shape (T, C).

        Returns
        -------
        array, shape (T,)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C) whose rates e^f their dtype holds,
            the targets do not go with them, or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        rate = _rates(f, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = y * f - rate - special_functions(f).gammaln(y + 1.0)
        return rounded(terms.sum(axis=1), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``y - e^f``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            Counts, shape (T, C).

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C) whose rates e^f their dtype holds,
            the targets do not go with them, or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        return rounded(self._targets(targets, f, dtype) - _rates(f, dtype), dtype, "score")

    def _entries(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        return _rates(f, dtype)

    def _squared_score_variances(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        rates = _rates(f, dtype)
        return rates + 2 * rates**2

    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        _rates(f, dtype)  # refuses those that overflow, as the other methods do
        roots: FloatArray = np.exp(0.5 * f)
        return roots

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return counts drawn with rates e^f.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        rng : numpy.random.Generator
            Advanced by what is drawn.

        Returns
        -------
        array, shape (T, C), int64

        Raises
        ------
        ValueError
            If a rate is above about 9.2e18, the largest for which NumPy draws counts.
        ValueError, TypeError
            If the outputs are no finite float array (T, C).
        """
        f, dtype = self._outputs(devices.on_host(outputs))
        rate, generator = _rates(f, dtype), as_generator(rng, "rng")
        try:
            drawn = generator.poisson(rate)
        except ValueError as error:
            t, k = np.unravel_index(rate.argmax(), rate.shape)
            raise ValueError(
                f"outputs: expected rates e^f of at most about 9.2e18, for which NumPy can draw counts, got "
                f"exp({f[t, k]:g}) at sample {t}, output {k}; scale the weights of the last layer down"
            ) from error
        counts: npt.NDArray[np.int64] = devices.as_like(drawn, outputs)
        return counts


def _probabilities(f: FloatArray) -> FloatArray:
    """``1 / (1 + e^-f)``."""
    found: FloatArray = special_functions(f).expit(f)
    return found


def _rates(f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
    return exponentials(f, dtype, "rates e^f")
