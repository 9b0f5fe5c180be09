r"""The Fisher information matrix given one input: its spectrum is that of a matrix as large as the output.

Online learning sees one input at a time, and the largest eigenvalue of the matrix at that input bounds its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import cached_property
from itertools import count, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _executor, devices, spectrum
from ._executor import SERIAL, Progress, check_executor, reporter
from ._memory import batch_bytes, require_memory
from ._validate import FloatArray, as_float_array, require_finite
from .factors import BATCH_BYTES, FactoredJacobian, LayerFactors, backward, bytes_per_sample, require_finite_outputs
from .gram import gram_matrix
from .network import Network
from .statistics import critical_learning_rate

__all__ = ["ConditionalFisher", "conditional_fisher"]

GROUP_BYTES = 2**28  # backpropagated seeds of so many layers are held at once; no group depends on threads


class ConditionalFisher:
    r"""The Fisher information matrix of a network given one input, or given each of several inputs by itself.

    .. math:: F(x) = J^\top J, \qquad J = \partial f(x) / \partial\theta, \qquad
        K(x) = J J^\top = \sum_l (|h^{l-1}|^2 + 1)\, B_l B_l^\top, \quad B_l = \partial f / \partial u^l,

    for the Gaussian likelihood of unit noise (the +1 where layers have biases; Hayase, Karakida 2021). The dual K is
    C x C and has all eigenvalues of F(x) but P - C zeros. For networks of one width M and without biases K / M is
    :math:`H_L` of the recursion :math:`H_{l+1} = \hat q_l I + W_{l+1} D_l H_l D_l W_{l+1}^\top`, with
    :math:`\hat q_l = |h^l|^2 / M` and :math:`D_l = \mathrm{diag}(\phi'(u^l))`.

    For N inputs every answer has one axis more, of length N, in front; it holds what each input gives alone. ``x`` is
    not copied: do not change it while this object is in use.

    Made by :func:`conditional_fisher`.

    Parameters
    ----------
    net : Network
        P parameters, C outputs.
    x : array, shape (M_0,) or (N, M_0)
        One input, or N of them, in the precision of the network.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool).

    Attributes
    ----------
    net : Network
    X : array, shape (N, M_0)
        The inputs; one row for a single one.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision.
    """

    net: Network
    X: FloatArray

    def __init__(self, net: Network, x: Any, *, executor: Executor | None = None) -> None:
        if not isinstance(net, Network):
            raise TypeError(
                f"net: expected a fisherfield.Network (for instance arch.sample(seed=0)), got {type(net).__name__}"
            )
        check_executor(executor)
        self.net = net
        self._single = _is_vector(x)
        rows = as_float_array(x, "x", ndim=1, shape=net.widths[:1])[None] if self._single else x
        self.X = net.check_inputs(rows, "x")
        self._executor = executor

    # --- what is asked of it --------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the network, the inputs, the dual and its eigenvalues."""
        return self.net.dtype

    def dual(self, *, progress: Progress = None) -> FloatArray:
        """Return K, shape (C, C) or (N, C, C): for each input x the dual of ``Fisher(net, x[None])``.

        Parameters
        ----------
        progress : None, True or callable
            Progress over layers and batches of inputs: a bar (needs tqdm) or ``callable(done, total)``.

        Returns
        -------
        array
            Kept, hence read-only; copy it to change it. No bit of it depends on the number of threads or on the
            other inputs.

        Raises
        ------
        MemoryError
            If it cannot fit, with the bytes needed.
        ValueError
            If it overflows.
        """
        if "_dual" not in self.__dict__:
            N, C = len(self.X), self.net.num_outputs
            require_memory(
                N * C**2 * self.dtype.itemsize + self._work_bytes,
                f"the {C} x {C} dual matrix of {'one input' if N == 1 else f'each of {N} inputs'}",
                "use fewer outputs or float32"
                if N == 1
                else "eigenvalues(), mean, variance and maximum hold that of few inputs at a time",
                self.X,
            )
            kept = np.empty((N, C, C), self.dtype, like=self.X)
            for begin, part in self._batches(progress):
                kept[begin : begin + len(part)] = part
            self._dual = devices.read_only(kept)
        return self._shaped(self._dual)

    def eigenvalues(self, *, progress: Progress = None) -> FloatArray:
        """Return the eigenvalues of the dual, those of F(x) but P - C zeros, descending; shape (C,) or (N, C).

        They come from LAPACK: their last bits may follow the number of threads of the BLAS. Rounding can leave values
        of about ``-eps * maximum``; they are not clipped. The duals of several inputs are not kept. Moments are found
        on the way, so ask for ``mean`` and ``variance`` afterwards.

        Parameters
        ----------
        progress : None, True or callable
            As of :meth:`dual`.

        Returns
        -------
        array
            Kept, hence read-only.

        Raises
        ------
        MemoryError, ValueError
            As of :meth:`dual`.
        """
        if "_eigenvalues" not in self.__dict__:
            N, C = len(self.X), self.net.num_outputs
            require_memory(
                (N * C + C**2) * self.dtype.itemsize + self._work_bytes,
                f"the {C} x {C} matrix of one input, its copy for LAPACK and the eigenvalues of {N}",
                "use fewer outputs or float32",
                self.X,
            )
            values = np.empty((N, C), self.dtype, like=self.X)
            moments = np.empty((N, 2))
            for n, K in self._duals(progress):
                values[n], moments[n] = spectrum.eigenvalues(K), _mean_and_variance(K)
            self._eigenvalues, self._moments = devices.read_only(values), moments
        return self._shaped(self._eigenvalues)

    @property
    def mean(self) -> float | npt.NDArray[np.float64]:
        """Mean of the C eigenvalues of the dual, ``tr K / C``; a float or (N,). No eigenvalue problem is solved."""
        return self._scalar(self._moments[:, 0])

    @property
    def variance(self) -> float | npt.NDArray[np.float64]:
        """Variance of the C eigenvalues of the dual, ``|K - mean|^2 / C``; a float or (N,). No eigenvalue problem."""
        return self._scalar(self._moments[:, 1])

    @property
    def maximum(self) -> float | npt.NDArray[np.float64]:
        """The largest eigenvalue of F(x), from :meth:`eigenvalues`; a float or (N,)."""
        self.eigenvalues()
        return self._scalar(self._eigenvalues[:, 0].astype(np.float64))

    def critical_learning_rate(self, momentum: float = 0.0) -> float | npt.NDArray[np.float64]:
        r"""Return :math:`2 (1 + \mu) / \lambda_{\max}(F(x))`, a float or (N,), infinite where no gradient is.

        Beyond it, descent with momentum :math:`\mu` on :math:`|f(x) - y|^2 / 2` of this one input does not settle (for
        :math:`\mu = 0` Hayase, Karakida 2021).

        Parameters
        ----------
        momentum : float
            :math:`\mu`, at least 0 and below 1 (default 0).

        Returns
        -------
        float, or array of shape (N,) in float64

        Raises
        ------
        ValueError, TypeError
            For another momentum, or if the dual overflows.
        MemoryError
            If the dual of an input cannot fit.
        """
        self.eigenvalues()
        tops = devices.on_host(self._eigenvalues[:, 0])
        rates = [critical_learning_rate(float(top), momentum) for top in tops]
        return self._scalar(np.array(rates))

    @property
    def squared_norms(self) -> FloatArray:
        """For each layer the squared norm of its input, plus 1 if it has biases: (L,) or (N, L), float64."""
        return self._shaped(self._squared_norms)

    @property
    def slopes(self) -> list[FloatArray]:
        """For each hidden layer the derivatives of its activation at this input: L - 1 arrays (M_l,) or (N, M_l)."""
        parts = [slopes for _, slopes in self._forward_batches()]
        return [self._shaped(np.concatenate(layer)) for layer in zip(*parts, strict=True)]

    # --- how it is found ------------------------------------------------------------------------------------

    @cached_property
    def _moments(self) -> npt.NDArray[np.float64]:
        """Mean and variance, (N, 2), on the host."""
        moments = np.empty((len(self.X), 2))
        for n, K in self._duals():
            moments[n] = _mean_and_variance(K)
        return moments

    @cached_property
    def _squared_norms(self) -> npt.NDArray[np.float64]:
        found = np.concatenate([norms for norms, _ in self._forward_batches()])
        require_finite(found, "squared_norms")
        kept: npt.NDArray[np.float64] = devices.read_only(found)
        return kept

    def _duals(self, progress: Progress = None) -> Iterator[tuple[int, FloatArray]]:
        """Index and dual of every input. The dual of a single one is kept."""
        if self._single or "_dual" in self.__dict__:
            self.dual(progress=progress)
            yield from enumerate(self._dual)
            return
        require_memory(self._work_bytes, "a batch of dual matrices", "use fewer outputs or float32", self.X)
        for begin, part in self._batches(progress):
            yield from enumerate(part, begin)

    def _batches(self, progress: Progress) -> Iterator[tuple[int, FloatArray]]:
        """Duals of successive batches of inputs, (n, C, C), each with the index of its first input."""
        begins = range(0, len(self.X), self._batch_size)
        total, done = len(begins) * self.net.depth, count(1)
        report, close = reporter(progress, total, "dual")
        try:
            for begin in begins:
                X = self.X[begin : begin + self._batch_size]
                yield begin, self._dual_of(X, lambda: report(next(done), total))
        finally:
            close()

    @property
    def _batch_size(self) -> int:
        """Inputs that go through the network together, so that small outputs make large matrix products."""
        C = self.net.num_outputs
        per_input = bytes_per_sample(self.net, C) + C**2 * self.dtype.itemsize
        return max(1, batch_bytes(self.X, BATCH_BYTES) // per_input)

    @property
    def _group_size(self) -> int:
        """Layers of a batch whose seeds are held together, and whose terms are summed in one go."""
        return max(1, GROUP_BYTES // self._seed_bytes)

    @property
    def _seed_bytes(self) -> int:
        """Memory of the seeds of one layer, for a batch of inputs."""
        inputs = min(self._batch_size, len(self.X))
        return inputs * self.net.num_outputs * max(self.net.widths[1:]) * self.dtype.itemsize

    @property
    def _work_bytes(self) -> int:
        """Memory that the duals of a batch of inputs take, themselves included."""
        inputs, C = min(self._batch_size, len(self.X)), self.net.num_outputs
        layers = min(self._group_size + 1, self.net.depth)
        duals = (inputs + 1) * C**2 * self.dtype.itemsize
        return duals + layers * self._seed_bytes + inputs * bytes_per_sample(self.net, 0)

    def _dual_of(self, X: FloatArray, report: Callable[[], object]) -> FloatArray:
        """Duals of a batch of inputs, (n, C, C). ``report`` is called after each layer."""
        norms, slopes = self._forward(X)
        C = self.net.num_outputs
        duals = np.zeros((len(X), C, C), self.dtype, like=X)
        of_layers = devices.on_host(norms).T  # numbers for each layer and input
        terms = zip(of_layers[-2::-1], self._backpropagated(slopes, report), strict=True)
        with np.errstate(over="ignore", invalid="ignore"):
            while group := list(islice(terms, self._group_size)):
                self._add(group, duals)
            diagonals = duals.reshape(len(X), -1)[:, :: C + 1]
            diagonals += norms[:, -1:].astype(self.dtype)  # the seeds of the last layer are 1
        report()
        require_finite(duals.diagonal(axis1=1, axis2=2), "dual()")  # bounds every entry, by Cauchy-Schwarz
        return duals

    def _backpropagated(self, slopes: list[FloatArray], report: Callable[[], object]) -> Iterator[FloatArray]:
        """B_{L-1}, ..., B_1, each (C, n, M_l); from the identity the first step is no matrix product."""
        net = self.net
        if not slopes:
            return
        delta: FloatArray = net.weights[-1][:, None, :] * slopes.pop()
        report()
        yield delta
        for W, skip in zip(net.weights[-2:0:-1], net.skips[-2:0:-1], strict=True):
            delta = backward(delta, W, slopes.pop(), skip, self._executor)
            report()
            yield delta

    def _add(self, group: list[tuple[npt.NDArray[np.float64], FloatArray]], duals: FloatArray) -> None:
        """Add the terms of some layers, squared norms (n,) and seeds (C, n, M_l), to the duals (n, C, C)."""
        executor = SERIAL if devices.is_cuda(duals) else self._executor  # a GPU works on one after the other

        def add(n: int) -> None:
            layers = tuple(_as_samples(float(norms[n]), seeds[:, n]) for norms, seeds in group)
            duals[n] += gram_matrix(FactoredJacobian(layers), 1.0, executor=executor)

        _executor.run(add, range(len(duals)), executor)

    def _forward_batches(self) -> Iterator[tuple[npt.NDArray[np.float64], list[FloatArray]]]:
        step = max(1, batch_bytes(self.X, BATCH_BYTES) // bytes_per_sample(self.net, 0))
        for begin in range(0, len(self.X), step):
            yield self._forward(self.X[begin : begin + step])

    def _forward(self, X: FloatArray) -> tuple[npt.NDArray[np.float64], list[FloatArray]]:
        """Squared norms of the inputs of all layers, (n, L), and the derivatives of the hidden ones, (n, M_l) each."""
        slopes: list[Any] = []
        h, norms = X, [_squared_norms(X)]
        for value, slope in self.net.hidden_layers(X, executor=self._executor):
            h = value
            norms.append(_squared_norms(h))
            slopes.append(slope)
        require_finite_outputs(self.net.affine(self.net.depth - 1, h, executor=self._executor))
        return np.stack(norms, axis=1) + self.net.has_biases, slopes

    def _shaped(self, array: FloatArray) -> FloatArray:
        """Without the axis of inputs if a single one was given."""
        shaped: FloatArray = array[0] if self._single else array
        return shaped

    def _scalar(self, array: npt.NDArray[np.float64]) -> float | npt.NDArray[np.float64]:
        if self._single:
            return float(array[0])
        several: npt.NDArray[np.float64] = devices.as_like(array, self.X).copy()
        return several

    def __repr__(self) -> str:
        inputs = "one input" if self._single else f"N={len(self.X)}"
        return f"ConditionalFisher({inputs}, C={self.net.num_outputs}, P={self.net.num_parameters}, dtype={self.dtype})"


def _is_vector(x: Any) -> bool:
    """Whether x is one input."""
    try:
        return np.ndim(x) == 1
    except ValueError:  # rows of different lengths, refused with the matrices
        return False


def _squared_norms(h: FloatArray) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore"):
        total: npt.NDArray[np.float64] = np.square(h, dtype=np.float64).sum(axis=1)
    return total


def _as_samples(squared_norm: float, seeds: FloatArray) -> LayerFactors:
    """A layer of one input (C, M_l) as one of C samples and a single seed, which can be cut into tiles."""
    A = np.full_like(seeds, math.sqrt(squared_norm), order="C", shape=(len(seeds), 1))
    return LayerFactors(A, devices.contiguous(seeds)[None], False)


def _mean_and_variance(K: FloatArray) -> tuple[float, float]:
    """Of the eigenvalues of a symmetric matrix, by traces; the mean is taken off first, for both may be close."""
    C = len(K)
    mean = float(K.trace(dtype=np.float64)) / C
    squares, step = 0.0, max(1, 2**20 // C)
    for begin in range(0, C, step):
        rows = K[begin : begin + step].astype(np.float64)
        i = np.arange(len(rows), like=rows)
        rows[i, begin + i] -= mean
        with np.errstate(over="ignore"):
            squares += float(np.square(rows, out=rows).sum())
    require_finite(squares, "variance")
    return mean, squares / C


def conditional_fisher(net: Network, x: Any, *, executor: Executor | None = None) -> ConditionalFisher:
    r"""Return the Fisher information matrix given one input, or given each of several inputs by itself.

    .. math:: F(x) = \left(\frac{\partial f(x)}{\partial\theta}\right)^\top \frac{\partial f(x)}{\partial\theta}

    (Hayase, Karakida 2021), for the Gaussian likelihood of unit noise.

    Parameters
    ----------
    net : Network
        With or without biases and skips; P parameters, C outputs.
    x : array, shape (M_0,) or (N, M_0)
        One input, or N of them, in the precision of the network. Of N inputs answers have one axis more, in front.
    executor : concurrent.futures.Executor, optional
        Threads to use (default: a shared pool of ``FISHERFIELD_NUM_THREADS`` or all processors). No bit of the dual
        depends on their number; only the last bits of eigenvalues may follow the BLAS's own threads.

    Returns
    -------
    ConditionalFisher
        Everything is computed when asked.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, NaN or infinity, mixed precision.

    Examples
    --------
    >>> import numpy as np, fisherfield as ff
    >>> arch = ff.MLP((50,) * 6, "hard_tanh", weight_var=1.01, bias_var=0.0, init="orthogonal")
    >>> x = np.random.default_rng(0).standard_normal((3, 50))
    >>> one = ff.conditional_fisher(arch.sample(seed=0), x[0])
    >>> one.dual().shape, len(one.slopes)
    ((50, 50), 4)
    >>> bool(np.isclose(one.mean, one.eigenvalues().mean()))
    True
    >>> several = ff.conditional_fisher(arch.sample(seed=0), x)
    >>> several.eigenvalues().shape, several.critical_learning_rate().shape
    ((3, 50), (3,))
    """
    return ConditionalFisher(net, x, executor=executor)
