"""What every likelihood is: a distribution of targets given the outputs, and a square root of its information."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import devices
from .._validate import FloatArray, as_float_array, positive_int
from ._values import as_float_targets, beside, diagonal_matrices, rounded

__all__ = ["Independent", "Likelihood"]

_SEED_BYTES = 2**24  # held at once where seeds are made only to be multiplied


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

    For the variances of random estimators of the diagonal, and for the Hessian of the loss, it also writes
    :meth:`squared_score_variance`, :meth:`squared_score_bound` (for bounds alone) and :meth:`exponential_connection`
    (or sets ``canonical``).

    The built-in likelihoods compute in float64 and round to the dtype of the outputs; a result that this dtype cannot
    hold raises ``ValueError``. Draws are made sample after sample, so batches drawn one after the other from one
    generator give the same targets as all samples drawn at once.

    With outputs on a GPU the methods are called with CuPy arrays, which NumPy's functions hand on to CuPy; what they
    return as NumPy arrays is moved to the GPU. :meth:`sample` alone is called with outputs in the memory of the
    processor, where NumPy draws, so that a seed means the same targets on every device. Observed targets are arrays
    on the device of the network; lists of numbers are moved there.

    Attributes
    ----------
    name : str
        Name for messages; the class's own, in lower case, unless set.
    depends_on_outputs : bool
        Whether ``information(outputs)`` does. Set False where it does not: predictions then draw no outputs.
    canonical : bool
        Whether :math:`\log p = t(y) \cdot f - F(f)` + const, so that its Hessian is minus the information for
        every y.

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
    canonical: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Name for messages."""
        return type(self).__name__.lower()

    @abstractmethod
    def log_density(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return log p(y_t | f_t), the natural logarithm, normalised.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            As :meth:`as_targets` returns them, one a sample.

        Returns
        -------
        array, shape (T,)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            Those of a subclass; the built-in ones refuse what is no finite float array (T, C) and targets that do not
            go with it.
        """

    @abstractmethod
    def score(self, outputs: FloatArray, targets: npt.NDArray[Any]) -> FloatArray:
        """Return the gradients d log p(y_t | f_t) / d f_t.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        targets : array
            As :meth:`as_targets` returns them, one a sample.

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            Those of a subclass; the built-in ones refuse what is no finite float array (T, C) and targets that do not
            go with it.
        """

    @abstractmethod
    def information(self, outputs: FloatArray) -> FloatArray:
        """Return the Fisher information of the output, E[score score^T].

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.

        Returns
        -------
        array, shape (T, C, C)
            Floats; symmetric, positive semi-definite.

        Raises
        ------
        ValueError, TypeError
            Those of a subclass; the built-in ones refuse what is no finite float array (T, C).
        """

    @abstractmethod
    def sample(self, outputs: FloatArray, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Return one target per sample drawn from p(y | f_t).

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        rng : numpy.random.Generator
            Advanced by what is drawn.

        Returns
        -------
        array, of T rows
            In the format of the targets.

        Raises
        ------
        ValueError, TypeError
            Those of a subclass; the built-in ones refuse what is no finite float array (T, C).
        """

    def num_seeds(self, num_outputs: int) -> int:
        """Return R, the columns of the square root of the information: its rank.

        Parameters
        ----------
        num_outputs : int
            C.

        Returns
        -------
        int
            C unless overridden.
        """
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
        values, vectors = _eigenpairs(devices.as_like(self.information(f), f), f.shape, rank)
        roots = np.sqrt(np.maximum(values, 0))
        return rounded((vectors * roots[:, None, :]).transpose(2, 0, 1), dtype, "seeds")

    def seeds_times(self, outputs: FloatArray, u: FloatArray) -> FloatArray:
        """Return ``sum_r S[r, t] u[r, t]``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        u : array, shape (R, T)
            In the dtype of the outputs.

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            As :meth:`seeds`.
        """
        y = np.empty_like(outputs)
        for part in self._parts(outputs):
            seeds = devices.as_like(self.seeds(outputs[part]), outputs)
            y[part] = np.einsum("rtk,rt->tk", seeds, u[:, part])
        return y

    def seeds_transposed_times(self, outputs: FloatArray, y: FloatArray) -> FloatArray:
        """Return ``S[r, t] . y[t]``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        y : array, shape (T, C)
            In the dtype of the outputs.

        Returns
        -------
        array, shape (R, T)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            As :meth:`seeds`.
        """
        u = np.empty((self.num_seeds(outputs.shape[1]), len(outputs)), outputs.dtype, like=outputs)
        for part in self._parts(outputs):
            seeds = devices.as_like(self.seeds(outputs[part]), outputs)
            u[:, part] = np.einsum("rtk,tk->rt", seeds, y[part])
        return u

    def _parts(self, outputs: FloatArray) -> Iterator[slice]:
        """Ranges of samples whose seeds, of C^2 numbers each, take little memory."""
        step = max(1, _SEED_BYTES // (outputs.shape[1] ** 2 * 8))
        return (slice(begin, begin + step) for begin in range(0, len(outputs), step))

    def information_form(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        """Return the variance of the score along directions, ``b^T I b``.

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
            If the outputs are no finite float array (T, C), or the directions no floats (C, T, M).
        """
        self._check_directions(outputs, b)
        across = self._information(outputs) @ devices.contiguous(b.transpose(1, 0, 2))  # (T, C, M)
        total = np.zeros(b.shape[1:], b.dtype, like=b)
        for direction, row in zip(b, across.transpose(1, 0, 2), strict=True):
            total += direction * row
        return total

    def squared_score_variance(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        r"""Return the variance over y of the squared score along directions, :math:`\mathrm{Var}_y[(b \cdot s)^2]`.

        With the fourth moments :math:`K = E[s^{\otimes 4}]` it is :math:`K_{abcd} b_a b_b b_c b_d - (b^\top I b)^2`
        (Soen, Sun 2021). The built-in likelihoods sum terms none of which is negative.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network.
        b : array, shape (C, T, M)
            M directions in output space at each sample.

        Returns
        -------
        array, shape (T, M)

        Raises
        ------
        NotImplementedError
            If the likelihood does not write it.
        ValueError, TypeError
            Of the built-in ones: if the outputs are no finite float array (T, C), the directions no floats (C, T, M),
            or the result overflows the dtype of the directions.
        """
        raise NotImplementedError(self._missing("squared_score_variance", "exact variances of estimates"))

    def exponential_connection(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        r"""Return how natural parameters bend along directions b, :math:`\Gamma(b, b)`.

        For p in an exponential family with natural parameters :math:`\vartheta(f)` it solves
        :math:`\vartheta'(f)\, \Gamma = \vartheta''(f)[b, b]`, so that for every target

        .. math:: -\partial_b^2 \log p(y | f) = b^\top I(f)\, b - s \cdot \Gamma(b, b).

        Where the outputs are natural parameters themselves, ``canonical``, it is zero. For waiting times of rate
        :math:`e^f` the natural parameter is :math:`-e^f`, so that :math:`\Gamma = b^2`. Laws that are no exponential
        families have none.

        Parameters
        ----------
        outputs : array, shape (T, C)
        b : array, shape (C, T, M)
            M directions in output space at each sample.

        Returns
        -------
        array, shape (C, T, M)

        Raises
        ------
        NotImplementedError
            If the likelihood is not ``canonical`` and does not write it.
        ValueError
            If the directions are no floats (C, T, M).
        """
        if not self.canonical:
            raise NotImplementedError(
                self._missing("exponential_connection", "second derivatives of log p") + " (or canonical = True)"
            )
        self._check_directions(outputs, b)
        return np.zeros_like(b)

    def _missing(self, method: str, what: str) -> str:
        return (
            f"likelihood {self.name}: expected a method {method}() for {what}; see fisherfield.likelihoods.Likelihood"
        )

    def information_bounds(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the smallest and the largest eigenvalue of the information.

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
            As :meth:`information`, and where it is no finite array (T, C, C).
        """
        values = np.linalg.eigvalsh(self._information(outputs))
        return values[:, 0], values[:, -1]

    def _information(self, outputs: FloatArray) -> FloatArray:
        """The information, (T, C, C), float64, also that of a likelihood of one's own."""
        samples, num_outputs = outputs.shape
        matrices = as_float_array(
            self.information(outputs), "information", ndim=3, shape=(samples,) + 2 * (num_outputs,)
        )
        moved: FloatArray = devices.as_like(matrices, outputs, np.float64)
        return moved

    def _check_directions(self, outputs: FloatArray, b: FloatArray) -> None:
        """Refuse directions that do not go with the outputs."""
        wanted = (outputs.shape[1], len(outputs))
        if np.ndim(b) != 3 or b.shape[:2] != wanted or b.dtype.kind != "f":
            raise ValueError(
                f"b: expected floats of shape ({wanted[0]}, {wanted[1]}, any), got shape {np.shape(b)} and dtype "
                f"{devices.as_array(b).dtype}"
            )

    def squared_score_bound(self, outputs: FloatArray) -> FloatArray:
        r"""Return the largest eigenvalue of the covariance of :math:`s s^\top`.

        It bounds ``squared_score_variance`` by itself times :math:`|b|^4` (Soen, Sun 2021: :math:`K - I \otimes I` as a
        matrix of size C^2).

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.

        Returns
        -------
        array, shape (T,), float64

        Raises
        ------
        NotImplementedError
            If the likelihood does not write it.
        """
        raise NotImplementedError(self._missing("squared_score_bound", "bounds of variances"))

    def check_outputs(self, num_outputs: int) -> None:
        """Refuse numbers of outputs that do not fit; the default accepts any.

        Parameters
        ----------
        num_outputs : int
            C.

        Raises
        ------
        ValueError
            If a network of so many outputs does not fit.
        """
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

        Returns
        -------
        array
            Of T rows; by default floats (T, C) of that dtype.

        Raises
        ------
        ValueError, TypeError
            For another shape, another dtype, NaN or infinity.
        """
        return as_float_targets(targets, (num_samples, num_outputs), dtype)

    def _outputs(self, outputs: Any) -> tuple[FloatArray, np.dtype[Any]]:
        """Outputs in float64, and the dtype that results are rounded to."""
        array = as_float_array(outputs, "outputs", ndim=2)
        self.check_outputs(array.shape[1])
        return array.astype(np.float64, copy=False), array.dtype

    def _targets(self, targets: Any, outputs: FloatArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Checked targets of ``outputs``: integers, or floats in float64."""
        samples, num_outputs = outputs.shape
        y = self.as_targets(targets, num_samples=samples, num_outputs=num_outputs, dtype=dtype)
        y = beside(outputs, targets, y)
        return y.astype(np.float64, copy=False) if y.dtype.kind == "f" else y


class Independent(Likelihood):
    """A likelihood whose information is diagonal: seeds are unit vectors times the roots of its entries."""

    @abstractmethod
    def _entries(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        """The diagonal of the information, (T, C), at the float64 outputs f."""

    @abstractmethod
    def _squared_score_variances(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        """``Var[s_k^2]`` of every output, (T, C), at the float64 outputs f."""

    @abstractmethod
    def _roots(self, f: FloatArray, dtype: np.dtype[Any]) -> FloatArray:
        """Square roots of the diagonal of the information, (T, C), at the float64 outputs f."""

    def information(self, outputs: FloatArray) -> FloatArray:
        """Return the diagonal matrices of the information.

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
            If the outputs are no finite float array (T, C), or the result overflows their dtype.
        """
        f, dtype = self._outputs(outputs)
        return diagonal_matrices(self._entries(f, dtype), dtype, "information")

    def information_form(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        """Return ``sum_k I_k b_k^2``.

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
            If the outputs are no finite float array (T, C), the directions no floats (C, T, M), or the
            result overflows the dtype of the directions.
        """
        information = self._per_output(self._entries, outputs, b)
        total = np.zeros(b.shape[1:], b.dtype, like=b)
        with np.errstate(over="ignore", invalid="ignore"):
            for variance, direction in zip(information, b, strict=True):
                total += variance * direction * direction
        return rounded(total, b.dtype, "information_form")

    def squared_score_variance(self, outputs: FloatArray, b: FloatArray) -> FloatArray:
        r"""Return :math:`\sum_k \mathrm{Var}[s_k^2]\, b_k^4 + 4 \sum_{j<k} I_j I_k b_j^2 b_k^2`.

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
            If the outputs are no finite float array (T, C), the directions no floats (C, T, M), or the
            result overflows the dtype of the directions.
        """
        information = self._per_output(self._entries, outputs, b)
        total, before = np.zeros((2, *b.shape[1:]), b.dtype, like=b)
        with np.errstate(over="ignore", invalid="ignore"):
            fourth = self._per_output(self._squared_score_variances, outputs, b)
            for variance, weight, direction in zip(information, fourth, b, strict=True):
                square = direction * direction
                term = variance * square
                total += weight * square * square + 4 * term * before
                before += term
        return rounded(total, b.dtype, "squared_score_variance")

    def information_bounds(self, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the smallest and the largest entry of the diagonal.

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
            If the outputs are no finite float array (T, C).
        """
        entries = self._entries(*self._outputs(outputs))
        return entries.min(axis=1), entries.max(axis=1)

    def squared_score_bound(self, outputs: FloatArray) -> FloatArray:
        """Return the largest of ``Var[s_k^2]`` and, for two outputs, ``2 I_j I_k``.

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
            If the outputs are no finite float array (T, C), or the result overflows float64.
        """
        f, dtype = self._outputs(outputs)
        entries = np.sort(self._entries(f, dtype), axis=1)
        with np.errstate(over="ignore"):
            largest: FloatArray = self._squared_score_variances(f, dtype).max(axis=1)
            if entries.shape[1] > 1:
                largest = np.maximum(largest, 2 * entries[:, -1] * entries[:, -2])
        return rounded(largest, largest.dtype, "squared_score_bound")

    def _per_output(
        self, values: Callable[[FloatArray, np.dtype[Any]], FloatArray], outputs: FloatArray, b: FloatArray
    ) -> FloatArray:
        """Values of every output, (C, T, 1), to go with directions b (C, T, M)."""
        self._check_directions(outputs, b)
        return values(*self._outputs(outputs)).T[:, :, None].astype(b.dtype, copy=False)

    def seeds(self, outputs: FloatArray) -> FloatArray:
        """Return the diagonal square root of the information, row by row.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.

        Returns
        -------
        array, shape (C, T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            If the outputs are no finite float array (T, C), or the result overflows their dtype.
        """
        roots = self._rounded_roots(outputs)
        diagonal = np.arange(roots.shape[1], like=roots)
        result = np.zeros((len(diagonal), *roots.shape), roots.dtype, like=roots)
        result[diagonal, :, diagonal] = roots.T
        return result

    def seeds_times(self, outputs: FloatArray, u: FloatArray) -> FloatArray:
        """Return ``sum_r S[r, t] u[r, t]``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        u : array, shape (C, T)
            In the dtype of the outputs.

        Returns
        -------
        array, shape (T, C)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            As :meth:`seeds`.
        """
        return self._rounded_roots(outputs) * u.T

    def seeds_transposed_times(self, outputs: FloatArray, y: FloatArray) -> FloatArray:
        """Return ``S[r, t] . y[t]``.

        Parameters
        ----------
        outputs : array, shape (T, C)
            Outputs of the network, float32 or float64.
        y : array, shape (T, C)
            In the dtype of the outputs.

        Returns
        -------
        array, shape (C, T)
            In the dtype of the outputs.

        Raises
        ------
        ValueError, TypeError
            As :meth:`seeds`.
        """
        products: FloatArray = devices.contiguous((self._rounded_roots(outputs) * y).T)
        return products

    def _rounded_roots(self, outputs: FloatArray) -> FloatArray:
        f, dtype = self._outputs(outputs)
        return rounded(self._roots(f, dtype), dtype, "seeds")


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
        raise ValueError(f"information: expected {expected}, got {got} at sample {int(wrong.argmax())}")
