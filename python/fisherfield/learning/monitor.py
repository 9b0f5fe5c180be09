r"""A monitor of training by the empirical Fisher information of mini-batches (Liao, Drummond, Reid, Carneiro 2020).

With the gradients :math:`g_i` of the samples' own losses in mini-batch k, the empirical Fisher information matrix is

.. math:: F_k = \frac{1}{|B_k|} \sum_{i \in B_k} g_i g_i^\top,

whose eigenvalues other than zero are those of the Gram matrix :math:`g_i \cdot g_j / |B_k|`. The authors' code leaves
the Gram matrix undivided and works with the singular values :math:`\sigma_i` of the gradients, which it calls
eigenvalues: :math:`\sigma_i^2 = |B_k| \lambda_i(F_k)`. Its two numbers of a mini-batch, at the learning rate
:math:`\eta_k`, are

.. math:: c_k = \frac{\sigma_{\max}}{\sigma_{\min > 0}} = \sqrt{\frac{\lambda_{\max}}{\lambda_{\min > 0}}}, \qquad
    l_k = \frac{\eta_k}{|B_k|} \sqrt{\textstyle\sum_i \sigma_i^2} = \frac{\eta_k}{\sqrt{|B_k|}} \sqrt{\mathrm{tr} F_k},

the truncated condition number and the energy. Here they are ``condition`` and ``energy``; names of what is in units of
F begin with ``fisher_``.

What counts as zero: gradients of samples that are learnt are smaller than others by many orders of magnitude, and
rounding makes errors relative to each gradient, not to the largest one. Therefore the floor is one of angles. A
gradient depends on others if the squared sine of its angle to their span is at most ``b eps``, with b samples and
eps = 2.2e-16, the precision of all sums; for gradients in float32 it is at most ``(b eps)^2`` with eps = 1.2e-7, where
that is more. The rank is the number of gradients that neither depend on others nor are zero, and that many eigenvalues
are not zero, however small. (The authors' code keeps whatever rounding leaves above zero.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

from .._executor import check_executor
from .._native import kernels
from .._validate import (
    FloatArray,
    as_float_array,
    as_sequence,
    boolean,
    non_negative,
    number,
    positive_int,
    require_cpu,
    same_dtype,
)
from ..factors import BATCH_BYTES, FactoredJacobian, LayerFactors
from ..gram import gram_matrix, symmetric_product

__all__ = ["MonitorRecord", "TrainingMonitor"]

_SMALLEST = 1e-250  # of squares: their spread may reach the smallest float64 below
_LARGEST_BATCH = 2**53
_SMALL = 128  # up to which LAPACK is no faster
_LAYER = "a layer (A, B) or (A, B, bias)"


@dataclass(frozen=True, eq=False, slots=True)
class MonitorRecord:
    r"""What the monitor found in one mini-batch.

    The first group has the definitions of the authors' code, in terms of the singular values :math:`\sigma_i` of the
    gradients; the second, ``fisher_*``, is in units of the empirical Fisher information matrix F of the mini-batch,
    with eigenvalues :math:`\lambda_i = \sigma_i^2 / b`. All gradients zero: ``rank`` 0, energy 0, NaN for
    what is a ratio or a smallest value. A single sample has condition 1.

    Attributes
    ----------
    index : int
        Iteration of the training loop.
    batch_size : int
        :math:`|B_k|`.
    num_samples : int
        b, the gradients seen; less than ``batch_size`` if only a part of the mini-batch was given.
    learning_rate : float
        :math:`\eta_k`.
    loss : float or None
        As given.
    condition : float
        :math:`c_k = \sigma_{\max} / \sigma_{\min > 0}`, the truncated condition number; square root of
        ``fisher_condition``.
    mean_condition : float
        :math:`\bar C_K = (1/K) \sum_{k \le K} c_k` over the records that have one.
    smoothed_condition : float
        :math:`\rho \bar c_{k-1} + (1 - \rho) c_k`, from :math:`\bar c_1 = c_1`.
    energy : float
        :math:`l_k = (\eta_k / |B_k|) \sqrt{\sum_i \sigma_i^2}`, equal to
        :math:`(\eta_k / \sqrt{|B_k|}) \sqrt{\mathrm{tr} F}`; the latter if only a part of the mini-batch was given.
    total_energy : float
        :math:`L_K = \sum_{k \le K} l_k / s` with the sampling ratio s: an estimate of the sum over all iterations.
    gradient_norm : float
        Norm of the mean of the gradients.
    fisher_condition : float
        :math:`\lambda_{\max} / \lambda_{\min > 0} = c_k^2`.
    fisher_trace : float
        :math:`\mathrm{tr} F`, the mean squared norm of the gradients.
    fisher_maximum : float
        :math:`\lambda_{\max}`.
    fisher_minimum : float
        :math:`\lambda_{\min > 0}`.
    rank : int
        How many eigenvalues are not zero.
    fisher_eigenvalues : array, shape (b,), or None
        :math:`\lambda_i`, descending, float64, exactly zero beyond the rank; with ``keep_eigenvalues=True``.
    """

    index: int
    batch_size: int
    num_samples: int
    learning_rate: float
    loss: float | None
    condition: float
    mean_condition: float
    smoothed_condition: float
    energy: float
    total_energy: float
    gradient_norm: float
    fisher_condition: float
    fisher_trace: float
    fisher_maximum: float
    fisher_minimum: float
    rank: int
    fisher_eigenvalues: FloatArray | None

    @property
    def singular_values(self) -> FloatArray | None:
        r""":math:`\sigma_i = \sqrt{b \lambda_i}`, descending, shape (b,): what the authors' code calls eigenvalues."""
        if self.fisher_eigenvalues is None:
            return None
        return np.sqrt(self.num_samples * self.fisher_eigenvalues)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as JSON has them: None for NaN, a list of eigenvalues.

        Returns
        -------
        dict
            From the name of a field to its value.
        """
        return {name: _plain(value) for name, value in asdict(self).items()}


class TrainingMonitor:
    r"""Follow the empirical Fisher information along a training run: condition number and energy per mini-batch.

    The loop is anyone's. It gives the factors of the per-sample gradients, which backpropagation has anyway; the
    monitor computes their Gram matrix, (b, b), layer by layer, and never a gradient. Runs that train well were found to
    lie in a narrow band of ``mean_condition`` and ``total_energy`` (Liao, Drummond, Reid, Carneiro 2020);
    :func:`fisherfield.plot.monitor_path` draws that plane.

    Parameters
    ----------
    every : int, default 1
        Look at every n-th iteration only: those for which :meth:`wants` is true. The sampling ratio is ``1/every``.
    rho : float, default 0.9
        Weight of the past in ``smoothed_condition``, 0 <= rho < 1.
    keep_eigenvalues : bool, default False
        Keep all eigenvalues of every mini-batch, b numbers each.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool). No bit of the Gram matrix depends on their number.

    Attributes
    ----------
    records : tuple of MonitorRecord
        One for each call of :meth:`update`.

    Raises
    ------
    ValueError, TypeError
        For options out of range.

    Notes
    -----
    An instance is also a callback: ``monitor(step)`` updates it if ``step.index`` is wanted, from the attributes
    ``index``, ``loss``, ``learning_rate``, ``batch_size`` and ``factors`` of a step of training. ``factors`` is not
    touched otherwise.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> from fisherfield.learning.monitor import TrainingMonitor
    >>> net = ff.MLP((20, 50, 3), "tanh").sample(seed=0)
    >>> X, y = np.random.default_rng(0).standard_normal((320, 20)), np.arange(320) % 3
    >>> monitor = TrainingMonitor(every=2)
    >>> for k in range(10):
    ...     batch = slice(32 * k, 32 * (k + 1))
    ...     if monitor.wants(k):
    ...         options = {"likelihood": "categorical", "kind": "empirical", "targets": y[batch]}
    ...         record = monitor.update(ff.Fisher(net, X[batch], **options).factors, learning_rate=0.1, index=k)
    ...     gradient = ff.loss_gradient(net, X[batch], "cross_entropy", targets=y[batch])
    ...     net = net.with_parameters(net.parameters() - 0.1 * gradient)
    >>> len(monitor.records), record.index, record.rank
    (5, 8, 32)
    >>> bool(np.isclose(record.energy, 0.1 * np.sqrt(record.fisher_trace / 32)))
    True
    >>> monitor.history()["mean_condition"].shape
    (5,)
    """

    def __init__(
        self,
        *,
        every: int = 1,
        rho: float = 0.9,
        keep_eigenvalues: bool = False,
        executor: Executor | None = None,
    ) -> None:
        self.every = positive_int(every, "every")
        self.rho = non_negative(rho, "rho")
        if self.rho >= 1:
            raise ValueError(f"rho: expected 0 <= rho < 1, got {self.rho:g}")
        self.keep_eigenvalues = boolean(keep_eigenvalues, "keep_eigenvalues")
        check_executor(executor)
        self._executor = executor
        self._records: list[MonitorRecord] = []
        self._num_conditions = 0  # records whose condition is a number
        self._scratch = np.empty(0)

    @property
    def records(self) -> tuple[MonitorRecord, ...]:
        """What was found so far, one record for each update."""
        return tuple(self._records)

    @property
    def sampling_ratio(self) -> float:
        """Mini-batches looked at, over all: ``1/every``."""
        return 1 / self.every

    def wants(self, index: int) -> bool:
        """Return whether iteration ``index`` = 0, 1, ... is to be looked at: a multiple of ``every``.

        Parameters
        ----------
        index : int
            Iteration, >= 0.

        Returns
        -------
        bool

        Raises
        ------
        ValueError, TypeError
            If the index is no integer >= 0.
        """
        return positive_int(index, "index", minimum=0) % self.every == 0

    def update(
        self,
        factors: FactoredJacobian | Sequence[Any],
        *,
        learning_rate: float,
        loss: float | None = None,
        batch_size: int | None = None,
        index: int | None = None,
        mean_gradients: bool = False,
    ) -> MonitorRecord:
        """Look at one mini-batch, given as inputs and backpropagated derivatives of each layer.

        Parameters
        ----------
        factors : FactoredJacobian, or sequence of (A, B), (A, B, bias) or LayerFactors
            One entry per dense layer ``u = W h + b``, all of one precision: A, shape (b, M_in), are the inputs h; B,
            shape (b, M_out) or (1, b, M_out), are the derivatives with respect to u of each sample's own loss;
            ``bias`` (default True) is whether the layer has b. ``ff.Fisher(net, X, likelihood=..., kind="empirical",
            targets=y).factors`` are such. Layers of another kind are ``(np.ones((b, 1)), G, False)`` with explicit
            gradients G, shape (b, P_l).
        learning_rate : float
            Of this iteration, >= 0.
        loss : float, optional
            Kept in the record.
        batch_size : int, optional
            Size of the mini-batch, if only a part of it is given here (default: b).
        index : int, optional
            Iteration, a multiple of ``every`` above that of the last record (default: the next one).
        mean_gradients : bool, default False
            B are derivatives of the mean loss of the mini-batch, which are too small by ``batch_size``: multiply them.

        Returns
        -------
        MonitorRecord

        Raises
        ------
        ValueError, TypeError
            For wrong shapes, NaN or infinity, mixed precision, several seeds, an iteration that is not wanted.
        """
        layers = _as_layers(factors)
        batch = self._batch(len(layers[0].A), learning_rate, loss, batch_size, index, mean_gradients)
        gram = gram_matrix(self._in_double(layers), 1.0, executor=self._executor)
        return self._record(gram, layers[0].A.dtype, batch, sum(layer.num_parameters for layer in layers))

    def update_gradients(
        self,
        gradients: npt.ArrayLike,
        *,
        learning_rate: float,
        loss: float | None = None,
        batch_size: int | None = None,
        index: int | None = None,
        mean_gradients: bool = False,
    ) -> MonitorRecord:
        """Look at one mini-batch, given as explicit gradients of each sample's own loss.

        Parameters
        ----------
        gradients : array, shape (b, P)
            One gradient a row, of all layers.
        learning_rate, loss, batch_size, index, mean_gradients
            As of :meth:`update`.

        Returns
        -------
        MonitorRecord

        Raises
        ------
        ValueError, TypeError
            As :meth:`update`.

        Examples
        --------
        >>> import numpy as np
        >>> from fisherfield.learning.monitor import TrainingMonitor
        >>> record = TrainingMonitor().update_gradients(np.diag([3.0, 4.0, 0.0]), learning_rate=0.3)
        >>> record.condition, record.fisher_condition, record.rank
        (1.3333333333333333, 1.7777777777777777, 2)
        >>> record.energy, record.fisher_trace
        (0.5, 8.333333333333334)
        """
        rows = as_float_array(gradients, "gradients", ndim=2)
        require_cpu(rows, "gradients", "the monitor works")
        batch = self._batch(len(rows), learning_rate, loss, batch_size, index, mean_gradients)
        gram = np.zeros((len(rows), len(rows)))
        step = max(1, BATCH_BYTES // (8 * len(rows)))
        for begin in range(0, rows.shape[1], step):
            part = np.ascontiguousarray(rows[:, begin : begin + step], dtype=np.float64)
            gram += symmetric_product(part, 1.0, self._executor)
        return self._record(gram, rows.dtype, batch, rows.shape[1])

    def __call__(self, step: Any) -> None:
        """Update the monitor after a step of training, if its iteration is wanted."""
        if self.wants(step.index):
            self.update(
                step.factors,
                learning_rate=step.learning_rate,
                loss=step.loss,
                batch_size=step.batch_size,
                index=step.index,
            )

    def history(self) -> dict[str, npt.NDArray[Any]]:
        """Return the fields of all records by name, each an array of shape (K,); NaN where no loss was given.

        Eigenvalues, whose number may differ from one mini-batch to the next, are in :attr:`records` only.

        Returns
        -------
        dict of ndarray
            From the name of a field to an array of shape (K,), int64 or float64.
        """
        return {
            name: np.array([getattr(record, name) for record in self._records], kind) for name, kind in _COLUMNS.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the options and all records as JSON has them: None for NaN, lists of eigenvalues.

        Returns
        -------
        dict
            With ``every``, ``rho``, ``sampling_ratio`` and ``records``, a list of dicts.
        """
        return {
            "every": self.every,
            "rho": self.rho,
            "sampling_ratio": self.sampling_ratio,
            "records": [record.as_dict() for record in self._records],
        }

    def __repr__(self) -> str:
        if not self._records:
            return f"TrainingMonitor(every={self.every}, no records)"
        last = self._records[-1]
        return (
            f"TrainingMonitor(every={self.every}, records={len(self._records)}, "
            f"mean_condition={last.mean_condition:.4g}, total_energy={last.total_energy:.4g})"
        )

    def _batch(
        self, num_samples: int, learning_rate: Any, loss: Any, batch_size: Any, index: Any, mean_gradients: Any
    ) -> _Batch:
        """Check what is said about a mini-batch of which so many gradients are there."""
        size = positive_int(num_samples if batch_size is None else batch_size, "batch_size")
        if size > _LARGEST_BATCH:
            raise ValueError(f"batch_size: expected at most 2**53, got {size}")
        if size < num_samples:
            raise ValueError(f"batch_size: expected at least the {num_samples} samples of the gradients, got {size}")
        following = self._records[-1].index + self.every if self._records else 0
        iteration = following if index is None else positive_int(index, "index", minimum=0)
        if not self.wants(iteration):
            raise ValueError(
                f"index: expected a multiple of every={self.every}, got {iteration}; ask wants(index) before update()"
            )
        if self._records and iteration < following:
            raise ValueError(
                f"index: expected an iteration after the last one, {self._records[-1].index}, got {iteration}; "
                "count on through the epochs of a run, and give each run a monitor of its own"
            )
        return _Batch(
            index=iteration,
            size=size,
            learning_rate=non_negative(learning_rate, "learning_rate"),
            loss=None if loss is None else number(loss, "loss"),
            factor=float(size) if boolean(mean_gradients, "mean_gradients") else 1.0,
        )

    def _in_double(self, layers: list[LayerFactors]) -> FactoredJacobian:
        """The factors in float64; memory of copies is kept for the next mini-batch, for fresh pages cost more."""
        if layers[0].A.dtype == np.float64:
            return FactoredJacobian(tuple(layers))
        needed = sum(layer.A.size + layer.B.size for layer in layers)
        if len(self._scratch) < needed:
            self._scratch = np.empty(needed)
        offset = 0

        def copied(array: FloatArray) -> FloatArray:
            nonlocal offset
            begin, offset = offset, offset + array.size
            copy = self._scratch[begin:offset].reshape(array.shape)
            copy[...] = array
            return copy

        return FactoredJacobian(tuple(LayerFactors(copied(l.A), copied(l.B), l.bias) for l in layers))

    def _record(self, gram: FloatArray, dtype: np.dtype[Any], batch: _Batch, num_parameters: int) -> MonitorRecord:
        """Append what follows from the Gram matrix of the gradients, unscaled, float64."""
        b = len(gram)
        squares = gram.diagonal()
        if 0 < squares.max() < _SMALLEST:
            raise ValueError(
                f"gradients: expected squares of at least {_SMALLEST:g}, got at most {squares.max():g}; scale the loss "
                "up"
            )
        if not np.isfinite(squares).all():
            i = int(np.flatnonzero(~np.isfinite(squares))[0])
            raise ValueError(
                f"gradients: expected squares within float64, got {squares[i]} at sample {i}; scale the loss down"
            )
        values, rank = _spectrum(gram, _floor(b, dtype), num_parameters)
        values *= batch.factor**2 / b
        trace = float(squares.sum()) * batch.factor**2 / b
        largest, smallest = (float(values[0]), float(values[rank - 1])) if rank else (0.0, math.nan)
        condition = math.sqrt(largest / smallest) if rank else math.nan
        energy = batch.learning_rate * math.sqrt(trace / batch.size)
        if not math.isfinite(energy) or not math.isfinite(trace):
            raise ValueError(
                f"learning_rate: expected one whose energy float64 can hold, got {batch.learning_rate:g} at "
                f"tr F = {trace:g}"
            )
        mean, smoothed = self._averages(condition)
        record = MonitorRecord(
            index=batch.index,
            batch_size=batch.size,
            num_samples=b,
            learning_rate=batch.learning_rate,
            loss=batch.loss,
            condition=condition,
            mean_condition=mean,
            smoothed_condition=smoothed,
            energy=energy,
            total_energy=(self._records[-1].total_energy if self._records else 0.0) + self.every * energy,
            gradient_norm=math.sqrt(max(float(gram.sum()), 0.0)) * batch.factor / b,
            fisher_condition=largest / smallest,
            fisher_trace=trace,
            fisher_maximum=largest,
            fisher_minimum=smallest,
            rank=rank,
            fisher_eigenvalues=values if self.keep_eigenvalues else None,
        )
        self._records.append(record)
        return record

    def _averages(self, condition: float) -> tuple[float, float]:
        """Running and exponential average of the condition numbers, this one included if it is a number."""
        mean, smoothed = math.nan, math.nan
        if self._records:
            mean, smoothed = self._records[-1].mean_condition, self._records[-1].smoothed_condition
        if math.isnan(condition):
            return mean, smoothed
        self._num_conditions += 1
        if self._num_conditions == 1:
            return condition, condition
        return mean + (condition - mean) / self._num_conditions, self.rho * smoothed + (1 - self.rho) * condition


_COLUMNS = {
    field.name: np.int64 if field.type == "int" else np.float64
    for field in fields(MonitorRecord)
    if field.name != "fisher_eigenvalues"
}


@dataclass(frozen=True, slots=True)
class _Batch:
    """A mini-batch: its iteration, its size, and what its gradients are to be multiplied by."""

    index: int
    size: int
    learning_rate: float
    loss: float | None
    factor: float


def _plain(value: Any) -> Any:
    """A field of a record as JSON has it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if isinstance(value, float) and math.isnan(value) else value


# --- factors ------------------------------------------------------------------------------------------------


def _as_layers(factors: Any) -> list[LayerFactors]:
    """Factors of one seed, checked; at least one layer."""
    expected = f"a FactoredJacobian or a sequence with {_LAYER} for every layer"
    given = factors.layers if isinstance(factors, FactoredJacobian) else as_sequence(factors, "factors", expected)
    if not given:
        raise ValueError(f"factors: expected {expected}, got none")
    layers = [_as_layer(layer, f"factors[{l}]") for l, layer in enumerate(given)]
    same_dtype((f"factors[{l}].{name}", getattr(layer, name)) for l, layer in enumerate(layers) for name in "AB")
    require_cpu(layers[0].A, "factors[0].A", "the monitor works")
    b = len(layers[0].A)
    for l, layer in enumerate(layers):
        for name, found in (("A", len(layer.A)), ("B", layer.B.shape[1])):
            if found != b:
                raise ValueError(f"factors[{l}].{name}: expected {b} samples like factors[0].A, got {found}")
    return layers


def _as_layer(given: Any, name: str) -> LayerFactors:
    """One layer, with B of shape (1, b, M_out)."""
    if isinstance(given, LayerFactors):
        given = (given.A, given.B, given.bias)
    parts = as_sequence(given, name, _LAYER)
    if len(parts) not in (2, 3):
        raise ValueError(f"{name}: expected {_LAYER}, got {len(parts)} entries")
    A = as_float_array(parts[0], f"{name}.A", ndim=2)
    seeds = np.shape(parts[1])[0] if np.ndim(parts[1]) == 3 else 1
    if seeds != 1:
        raise ValueError(
            f"{name}.B: expected one gradient a sample, shape (b, M_out) or (1, b, M_out), got {np.shape(parts[1])}; "
            "take the scores at the targets (kind='empirical') or at one draw"
        )
    B = as_float_array(parts[1], f"{name}.B", ndim=3 if np.ndim(parts[1]) == 3 else 2)
    bias = boolean(parts[2], f"{name}.bias") if len(parts) == 3 else True
    return LayerFactors(A, B.reshape(1, *B.shape[-2:]), bias)


# --- eigenvalues --------------------------------------------------------------------------------------------


def _floor(num_samples: int, dtype: np.dtype[Any]) -> float:
    """Squared sine of the angle to the span of others below which rounding may have made a gradient independent."""
    return max(num_samples * float(np.finfo(np.float64).eps), (num_samples * float(np.finfo(dtype).eps)) ** 2)


def _spectrum(gram: FloatArray, floor: float, most: int) -> tuple[FloatArray, int]:
    """Eigenvalues of a Gram matrix, descending and exactly zero beyond the rank, and the rank, at most ``most``.

    The rank is that of the matrix of cosines, which knows no lengths. Vectors are sorted by length: so LAPACK finds
    the small eigenvalues of a graded matrix as accurately, relative to themselves, as the large ones.
    """
    values = np.zeros(len(gram))
    lengths = np.sqrt(gram.diagonal())
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    if len(order) == 0:
        return values, 0
    graded, lengths = gram[order][:, order], lengths[order]
    cosines = graded / lengths[:, None] / lengths
    found = _eigenvalues(graded)[::-1] if _is_regular(cosines, floor) else _singular_spectrum(cosines, lengths, floor)
    rank = min(int(np.count_nonzero(found > 0)), most)
    values[:rank] = found[:rank]
    return values, rank


def _eigenvalues(matrix: FloatArray) -> FloatArray:
    """Eigenvalues, ascending: of small matrices on this thread, for those of the BLAS would get in a trainer's way."""
    if len(matrix) > _SMALL:
        return np.linalg.eigvalsh(matrix)
    values = np.empty(len(matrix))
    kernels.symmetric_eigenvalues(np.ascontiguousarray(matrix), values)
    return values


def _is_regular(matrix: FloatArray, floor: float) -> bool:
    """Whether all eigenvalues are above the floor, by a Cholesky factorisation."""
    shifted = matrix.copy()
    shifted.flat[:: len(matrix) + 1] -= floor
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return False
    return True


def _singular_spectrum(cosines: FloatArray, lengths: FloatArray, floor: float) -> FloatArray:
    """Eigenvalues that are not zero, descending, of the Gram matrix of vectors that may depend on each other.

    The Cholesky factor R (rank, b) of the cosines, pivoted and cut off at the floor, gives with the lengths D the Gram
    matrix ``(R D)^T (R D)``: the eigenvalues are squared singular values of R D.
    """
    root, pivots, rank, _ = lapack.dpstrf(cosines, tol=floor)
    gradients = np.empty((rank, len(lengths)))
    gradients[:, pivots - 1] = np.triu(root[:rank]) * lengths[pivots - 1]
    return np.asarray(np.linalg.svd(np.linalg.qr(gradients, mode="r"), compute_uv=False) ** 2)
