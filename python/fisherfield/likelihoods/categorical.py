"""One of C classes: the softmax, without cancellation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import devices
from .._validate import FloatArray, as_generator
from ._values import as_integers, rounded
from .base import Likelihood

__all__ = ["Categorical"]

_NO_PROBABILITY = -750.0  # exp of anything below is zero in float64


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

    canonical: ClassVar[bool] = True
    name = "categorical"

    def num_seeds(self, num_outputs: int) -> int:
        """Return C - 1: probabilities sum to one, so adding a constant to all outputs changes nothing.

        Parameters
        ----------
        num_outputs : int
            C.

        Returns
        -------
        int
        """
        return num_outputs - 1

    def check_outputs(self, num_outputs: int) -> None:
        """Refuse a single output.

        Parameters
        ----------
        num_outputs : int
            C.

        Raises
        ------
        ValueError
            For fewer than two outputs.
        """
        if num_outputs < 2:
            raise ValueError(
                f"outputs: expected at least 2 for the categorical likelihood, got {num_outputs}: with one output the "
                "class is certain and F = 0; for two classes with one logit use 'bernoulli'"
            )

    def as_targets(
        self, targets: Any, *, num_samples: int, num_outputs: int, dtype: npt.DTypeLike
    ) -> npt.NDArray[np.int64]:
        """Return ``targets`` as class indices.

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
        array, shape (T,), int64

        Raises
        ------
        ValueError, TypeError
            For another shape, a dtype that is not one of integers, and indices that are not from 0 to C - 1.
        """
        expected = f"class indices from 0 to {num_outputs - 1}"
        hint = "; for rows of probabilities 0 and 1 give targets.argmax(axis=1)"
        return as_integers(targets, (num_samples,), expected, num_outputs - 1, kinds="iu", hint=hint)

    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return the logarithm of the softmax at the target.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            Class indices, shape (T,).

        Returns
        -------
        array, shape (T,)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C >= 2, the targets do not go with
            them, or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        weights = _relative_weights(f)
        largest = f.argmax(axis=1)[:, None]
        weights[_rows(f), largest] = 0  # its weight is 1, which log1p adds
        with np.errstate(over="ignore"):
            below = np.take_along_axis(f, y[:, None], axis=1) - np.take_along_axis(f, largest, axis=1)
        return rounded(below[:, 0] - np.log1p(weights.sum(axis=1)), dtype, "log_density")

    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return ``e_y - g``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            Class indices, shape (T,).

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C >= 2, the targets do not go with
            them, or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        y = self._targets(targets, f, dtype)
        weights = _relative_weights(f)
        result = -weights
        at_target = _rows(f), y[:, None]
        result[at_target] = _sums_of_others(weights)[at_target]
        return rounded(result / weights.sum(axis=1, keepdims=True), dtype, "score")

    def information(self, outputs: FloatArray) -> FloatArray:
        """Return ``diag(g) - g g^T``; its diagonal is g times the other g.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.

        Returns
        -------
        array, shape (T, C, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C >= 2.
        """
        f, dtype = self._outputs(outputs)
        weights = _relative_weights(f)
        total = weights.sum(axis=1, keepdims=True)
        g = weights / total
        result = np.empty((*f.shape, f.shape[1]), dtype, like=f)
        np.multiply(-g[:, :, None], g[:, None, :], out=result, casting="same_kind")
        diagonal = np.arange(f.shape[1], like=f)
        result[:, diagonal, diagonal] = g * (_sums_of_others(weights) / total)
        return result

    def seeds(self, outputs: FloatArray) -> FloatArray:
        """Return the Cholesky factor of the information, column by column.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.

        Returns
        -------
        array, shape (C - 1, T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C >= 2.
        """
        f, dtype = self._outputs(outputs)
        weights, roots, slopes = self._cholesky(f)
        result = np.zeros((f.shape[1] - 1, *f.shape), dtype, like=f)
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
        """Return S u, by sums over the columns before each row.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        u : array, shape (C - 1, T)
            In the dtype of the outputs.

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C >= 2.
        """
        f, dtype = self._outputs(outputs)
        weights, roots, slopes = self._cholesky(f)
        y = np.zeros_like(f)
        y[:, :-1] = roots * u.T
        y[:, 1:] += weights[:, 1:] * np.cumsum(slopes * u.T, axis=1)
        return y.astype(dtype)

    def seeds_transposed_times(self, outputs: FloatArray, y: FloatArray) -> FloatArray:
        """Return S^T y, by sums over the rows after each column.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        y : array, shape (T, C)
            In the dtype of the outputs.

        Returns
        -------
        array, shape (C - 1, T)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C >= 2.
        """
        f, dtype = self._outputs(outputs)
        weights, roots, slopes = self._cholesky(f)
        below = np.cumsum((weights * y)[:, :0:-1], axis=1)[:, ::-1]
        products: FloatArray = devices.contiguous((roots * y[:, :-1] + slopes * below).T.astype(dtype))
        return products

    def information_form(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        """Return the variance of b over the classes, ``sum_k g_k (b_k - b . g)^2``.

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
            If the outputs are no finite float array (T, C), C >= 2, or the directions no floats (C, T, M).
        """
        g, deviations = self._deviations(outputs, b)
        total = np.zeros(b.shape[1:], b.dtype, like=b)
        for probability, deviation in zip(g, deviations, strict=True):
            total += probability * deviation * deviation
        return total

    def squared_score_variance(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        r"""Return :math:`\sum_k g_k (d_k^2 - \sum_j g_j d_j^2)^2`, d = b - b . g.

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
            If the outputs are no finite float array (T, C), C >= 2, or the directions no floats (C, T, M).
        """
        g, deviations = self._deviations(outputs, b)
        squares = np.square(deviations, out=deviations)
        mean = sum((probability * square for probability, square in zip(g, squares, strict=True)), start=0 * b[0])
        total = np.zeros(b.shape[1:], b.dtype, like=b)
        for probability, square in zip(g, squares, strict=True):
            total += probability * (square - mean) ** 2
        return total

    def _deviations(self, outputs: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Probabilities (C, T, 1) and ``b - b . g`` (C, T, M); accurate where the softmax is saturated too."""
        self._check_directions(outputs, b)
        f, _ = self._outputs(outputs)
        weights = _relative_weights(f)
        g = (weights / weights.sum(axis=1, keepdims=True)).T[:, :, None].astype(b.dtype, copy=False)
        deviations = b - b[f.argmax(axis=1), np.arange(len(f), like=f)]  # from the most probable class
        mean = np.zeros(b.shape[1:], b.dtype, like=b)
        for probability, deviation in zip(g, deviations, strict=True):
            mean += probability * deviation
        deviations -= mean
        return g, deviations

    def information_bounds(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return zero, for outputs may all move by the same number, and the largest eigenvalue.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.

        Returns
        -------
        smallest, largest : array, shape (T,), float64

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C >= 2.
        """
        smallest, largest = super().information_bounds(outputs)
        return np.zeros_like(smallest), largest

    def squared_score_bound(self, outputs: FloatArray) -> FloatArray:
        r"""Return the largest eigenvalue of the covariance of :math:`s s^\top`: O(C^3) a sample.

        The C scores :math:`e_y - g` have the Gram matrix :math:`G_{yz} = \delta_{yz} - g_y - g_z + |g|^2`; the
        eigenvalues are those of :math:`G \circ G`, centred by g on both sides, between :math:`\sqrt{g_y g_z}`.

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
            If the outputs are no finite float array (T, C), C >= 2.
        """
        f, _ = self._outputs(outputs)
        weights = _relative_weights(f)
        g = weights / weights.sum(axis=1, keepdims=True)
        gram = np.identity(f.shape[1], like=g) - g[:, :, None] - g[:, None, :] + (g**2).sum(axis=1)[:, None, None]
        squares = gram**2
        means = np.einsum("tyz,tz->ty", squares, g)
        overall = np.einsum("ty,ty->t", means, g)[:, None, None]
        centred = squares - means[:, :, None] - means[:, None, :] + overall
        roots = np.sqrt(g)
        return np.linalg.eigvalsh(roots[:, :, None] * centred * roots[:, None, :])[:, -1]

    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return classes drawn with the softmax's probabilities.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        rng : numpy.random.Generator
            Advanced by what is drawn.

        Returns
        -------
        array, shape (T,), int64

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), C >= 2.
        """
        f, _ = self._outputs(devices.on_host(outputs))
        upper = np.cumsum(_relative_weights(f), axis=1)
        height = as_generator(rng, "rng").random((len(f), 1)) * upper[:, -1:]
        drawn = (upper[:, :-1] <= height).sum(axis=1, dtype=np.int64)
        classes: npt.NDArray[np.int64] = devices.as_like(drawn, outputs)
        return classes


def _rows(f: FloatArray) -> npt.NDArray[np.intp]:
    """The number of every row, (T, 1), to go with one column in each."""
    return np.arange(len(f), like=f)[:, None]


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
    result[:, 1:] = np.cumsum(weights[:, :-1], axis=1)
    result[:, :-1] += _tails(weights)
    return result
