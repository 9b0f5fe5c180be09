"""Metrics of one network: the likelihood makes the seeds, the layers give the factors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import devices, likelihoods
from ._engines import num_workers, shares_memory
from ._executor import Progress, check_executor, reporter
from ._memory import as_bytes, available_beside, batch_bytes, human, require_memory
from ._validate import (
    FloatArray,
    as_dtype,
    as_generator,
    choice,
    positive_int,
    require_finite,
)
from .centered import Centered
from .factors import (
    BATCH_BYTES,
    FactoredJacobian,
    LayerFactors,
    bytes_per_sample,
    factorize,
    require_finite_outputs,
    unit_seeds,
)
from .gram import gram_matrix
from .gramfile import Work, identity_of
from .linearized import Chart, LinearizedNetwork
from .matrixfree import MatrixFreeMetric
from .network import Network
from .panels import Panels, panel_memory, panel_size
from .products import (
    Batch,
    BatchedGradients,
    ExplicitSeeds,
    FactoredBatch,
    GradientMap,
    LikelihoodSeeds,
    SweptBatch,
    UnitSeeds,
)
from .unitwise import counted_from

__all__ = ["NetworkMetric"]

_FACTORED_SEEDS = 2  # up to so many, factors take half the operations of sweeps and about the same memory


class NetworkMetric(MatrixFreeMetric):
    """A metric whose gradients are those of one network: the likelihood makes the seeds, layers give the factors.

    Parameters
    ----------
    net, X, likelihood, kind, samples, seed, targets, executor, memory, storage, precision
        As of :class:`~fisherfield.Fisher`.

    Raises
    ------
    ValueError, TypeError
        As of :class:`~fisherfield.Fisher`.
    """

    def __init__(
        self,
        net: Network,
        X: Any,
        likelihood: str | likelihoods.Likelihood,
        kind: str,
        samples: int | None,
        seed: int | np.random.Generator | None,
        targets: Any,
        executor: Executor | None,
        memory: float | str | None,
        storage: npt.DTypeLike | None,
        precision: str | None = None,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(
                f"net: expected a fisherfield.Network (for instance arch.sample(seed=0)), got {type(net).__name__}"
            )
        check_executor(executor)
        self.net = net
        self.X = net.check_inputs(X)
        self.likelihood = likelihoods.get(likelihood)
        self.likelihood.check_outputs(net.num_outputs)
        self.kind = choice(kind, "kind", likelihoods.KINDS)
        _refuse_foreign("samples", samples, self.kind, "monte_carlo")
        _refuse_foreign("seed", seed, self.kind, "monte_carlo")
        _refuse_foreign("targets", targets, self.kind, "empirical")
        self._executor = executor
        self._budget = None if memory is None else as_bytes(memory, "memory")
        self._storage = _as_storage(storage, net.dtype)
        self._precision = _as_precision(precision, net)
        self._layers = slice(None)  # of which the metric consists
        self._parent: NetworkMetric | None = None  # of which this is a block
        if self.kind == "monte_carlo":
            self._num_draws = positive_int(1 if samples is None else samples, "samples")
            # taken now: a generator may have moved on by the time the targets are drawn
            self._entropy = as_generator(seed, stream="targets").integers(2**32, size=8)
        if self.kind == "empirical":
            if targets is None:
                raise ValueError("targets: expected the observed targets with kind='empirical', got None")
            self._observed = likelihoods.observed_targets(self.likelihood, targets, net.num_outputs, self.X)

    @property
    def _whole(self) -> NetworkMetric:
        """The metric of which this is a block, else this one; it keeps factors and targets."""
        return self if self._parent is None else self._parent

    @property
    def _described(self) -> str:
        """What it is, for repr."""
        block = "" if self._parent is None else f"layer {self._layers.stop}, "
        return (
            f"{block}{self.kind}, {self.likelihood.name}, P={self.dimension}, T={self.num_samples}, R={self.num_seeds}"
        )

    # --- likelihood and kind --------------------------------------------------------------------------------

    @property
    def num_seeds(self) -> int:
        """R: for the exact kind the rank of the output Fisher information, otherwise the targets per sample."""
        if self.kind == "exact":
            return self.likelihood.num_seeds(self.net.num_outputs)
        return self._num_draws if self.kind == "monte_carlo" else 1

    @property
    def num_outliers(self) -> int:
        """How many eigenvalues leave the bulk in a wide network: C, and C - 1 for the categorical likelihood."""
        return self.likelihood.num_seeds(self.net.num_outputs)

    @property
    def targets(self) -> tuple[Any, ...] | None:
        """The targets of the scores, one array per draw: drawn (once) or observed; None for the exact kind."""
        return None if self.kind == "exact" else self._whole._scored_targets

    @cached_property
    def _scored_targets(self) -> tuple[Any, ...]:
        return (self._observed,) if self.kind == "empirical" else self._draw(self._outputs())

    def _draw(self, outputs: FloatArray) -> tuple[Any, ...]:
        """Targets at these outputs (T, C), one array per draw; the random numbers are always the same."""
        return likelihoods.draw_targets(self.likelihood, outputs, np.random.default_rng(self._entropy), self._num_draws)

    def _targets_at(self, outputs: FloatArray) -> tuple[Any, ...] | None:
        """Targets at other outputs than f(X): the observed ones, or drawn with the same random numbers."""
        return self._draw(outputs) if self.kind == "monte_carlo" else self.targets

    def output_seeds(self) -> FloatArray:
        """Return S, (R, T, C): square roots of the output Fisher information, or the scores of its estimates."""
        return self._seeds(self._outputs(), self.targets)

    def _outputs(self) -> FloatArray:
        """f(X), in batches: no layer is held for all samples."""
        step = max(1, self._batch_bytes // (sum(self.net.widths) * self.dtype.itemsize))
        parts = [
            self.net(self.X[begin : begin + step], executor=self._executor)
            for begin in range(0, self.num_samples, step)
        ]
        outputs = np.concatenate(parts)
        require_finite_outputs(outputs)
        return outputs

    def _seeds(self, outputs: FloatArray, targets: tuple[Any, ...] | None) -> FloatArray:
        """S, (R, t, C), at the outputs (t, C) of some samples, with their targets if the kind has any."""
        if self._has_unit_seeds:
            return unit_seeds(len(outputs), self.net.num_outputs, outputs)
        if targets is None:
            return self._checked(self.likelihood.seeds(outputs), outputs)
        return self._checked(likelihoods.score_seeds(self.likelihood, outputs, targets), outputs)

    def _checked(self, seeds: FloatArray, outputs: FloatArray) -> FloatArray:
        """Seeds as the kernels take them, also those of likelihoods that are not ours."""
        expected = (self.num_seeds, *outputs.shape)
        seeds = devices.as_like(devices.as_array(seeds), outputs)
        if seeds.shape != expected or seeds.dtype != outputs.dtype:
            raise ValueError(
                f"likelihood {self.likelihood.name}: expected seeds or scores of shape {expected} and dtype "
                f"{outputs.dtype} in all, got shape {seeds.shape} and dtype {seeds.dtype}"
            )
        if not np.isfinite(seeds).all():
            r, t, k = (int(i) for i in np.argwhere(~np.isfinite(seeds))[0])
            raise ValueError(
                f"likelihood {self.likelihood.name}: expected finite seeds, got {seeds[r, t, k]} at sample {t}, "
                f"output {k}, where net(X) is {outputs[t, k]}; scale the outputs down"
            )
        contiguous: FloatArray = devices.contiguous(seeds)
        return contiguous

    # --- factors --------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def _charts(self) -> tuple[Chart, ...]:
        """How every layer of the network moves with its coordinates in this metric."""

    @property
    def _layer_dimensions(self) -> tuple[int, ...]:
        """P_l, of every layer of the network."""
        return tuple(chart.dimension(W) for chart, W in zip(self._charts, self.net.weights, strict=True))

    def _represent(self, l: int, layer: LayerFactors) -> LayerFactors:
        """The layer's gradients in this metric, from those with respect to its weights and biases."""
        return layer

    @property
    def dimension(self) -> int:
        """P, the number of rows of the matrix."""
        return sum(self._layer_dimensions[self._layers])

    def layer(self, l: int) -> Self:
        """Return the diagonal block of layer l = 1, ..., L as a metric of its own; it shares the factors.

        Parameters
        ----------
        l : int
            From 1 to L, the layer of W_l and b_l.

        Returns
        -------
        NetworkMetric
            Of the class of this one.

        Raises
        ------
        ValueError, TypeError
            If there is no such layer.
        """
        names = range(1, self.net.depth + 1)[self._layers]
        if positive_int(l, "l") not in names:
            raise ValueError(f"l: expected a layer from {names[0]} to {names[-1]}, got {l}")
        block = self._without_results()
        block._layers, block._parent = slice(l - 1, l), self._whole
        return block

    def _portable(self, executor: Executor | None) -> Self:
        """A copy that another process can use: with the targets that were drawn, and with its own threads."""
        targets = self.targets
        copy = self._without_results()
        copy._executor, copy._parent = executor, None
        if targets is not None:
            copy.__dict__["_scored_targets"] = targets
        return copy

    def _without_results(self) -> Self:
        """A copy that has yet to compute everything."""
        copy = object.__new__(type(self))
        computed = {name for name in self.__dict__ if isinstance(getattr(type(self), name, None), cached_property)}
        copy.__dict__.update({name: value for name, value in self.__dict__.items() if name not in computed | {"_dual"}})
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: not what can be computed again, nor the threads, which cannot be sent."""
        state = self._without_results().__dict__ | {"_executor": None}
        drawn = {name: self.__dict__[name] for name in ("_scored_targets",) if name in self.__dict__}
        return state | drawn

    @cached_property
    def factors(self) -> FactoredJacobian:
        """The factored Jacobian of all samples (kept)."""
        if self._parent is not None:
            return self._block_of(self._whole.factors)
        require_memory(
            self._factor_bytes,
            "the factored Jacobian",
            "use fewer samples; diagonal() and trace() work batch by batch without it",
            self.X,
        )
        return self._factorize(0, self.num_samples)

    @property
    def _factor_bytes(self) -> int:
        return self._bytes_per_sample(self.num_seeds) * self.num_samples

    def _bytes_per_sample(self, num_seeds: int) -> int:
        """Memory that making the factors of one sample takes."""
        return bytes_per_sample(self.net, num_seeds)

    def _block_of(self, factors: FactoredJacobian) -> FactoredJacobian:
        return FactoredJacobian(factors.layers[self._layers])

    def _factorize(self, begin: int, end: int, seeds: FloatArray | None = None) -> FactoredJacobian:
        """Factors of samples [begin, end), of all layers; ``seeds`` (R, T, C) instead of the likelihood's."""

        def seeds_at(outputs: FloatArray) -> FloatArray:
            if seeds is not None:
                part: FloatArray = devices.contiguous(seeds[:, begin:end])
                return part
            return self._batch_seeds(outputs, begin, end)

        with counted_from(begin):
            factors = factorize(self.net, self.X[begin:end], seeds_at, self._executor)
        return FactoredJacobian(tuple(self._represent(l, layer) for l, layer in enumerate(factors)))

    def _batch_seeds(self, outputs: FloatArray, begin: int, end: int) -> FloatArray:
        """The likelihood's seeds (R, t, C) at the outputs of samples [begin, end)."""
        targets = self.targets
        return self._seeds(outputs, targets and tuple(drawn[begin:end] for drawn in targets))

    @property
    def _batch_bytes(self) -> int:
        """Bytes of the factors of one batch."""
        wanted = batch_bytes(self.X, BATCH_BYTES)
        return wanted if self._budget is None else max(BATCH_BYTES, min(wanted, self._budget // 2))

    def _batches(
        self, bytes_per_sample: int, seeds: FloatArray | None = None, progress: Progress = None
    ) -> Iterator[FactoredJacobian]:
        """Factors of successive batches of samples, cut in the same places whether or not they are kept."""
        devices.require_current(self.X, "X")  # factors that are kept lie beside it
        step = max(1, self._batch_bytes // bytes_per_sample)
        ranges = list(pairwise([*range(0, self.num_samples, step), self.num_samples]))
        report, close = reporter(progress, len(ranges), "samples")
        try:
            for done, (begin, end) in enumerate(ranges, 1):
                yield self._factors_of(begin, end, seeds)
                report(done, len(ranges))
        finally:
            close()

    def _factors_of(self, begin: int, end: int, seeds: FloatArray | None) -> FactoredJacobian:
        """Factors of samples [begin, end), from those that are kept if there are any."""
        if seeds is None and "factors" in self._whole.__dict__:
            return self._block_of(self._whole.factors.samples(begin, end))
        return self._block_of(self._factorize(begin, end, seeds))

    def _factor_batches(self, seeds: FloatArray | None = None, progress: Progress = None) -> Iterator[FactoredJacobian]:
        num_seeds = self.num_seeds if seeds is None else len(seeds)
        return self._batches(self._bytes_per_sample(num_seeds), seeds, progress)

    # --- products -------------------------------------------------------------------------------------------

    @property
    def _gradients(self) -> GradientMap:
        return self._gradient_map(self._has_unit_seeds, self._held_batches)

    @cached_property
    def _held_batches(self) -> dict[tuple[int, int], Batch]:
        """What products keep; no object that refers to this one, which would not be freed with its last user."""
        return {}

    @cached_property
    def _memory(self) -> int:
        """Bytes that factors may take."""
        return self._budget or (available_beside(self.X) or 2**40) // 2

    @property
    def _panel_memory(self) -> int:
        """Bytes of factors and tiles in every process that computes a dual panel by panel."""
        return self._budget or panel_memory(self.X)

    def _gradient_map(self, unit_seeds: bool, kept: dict[tuple[int, int], Batch]) -> GradientMap:
        """Gradients of the likelihood's seeds or of the outputs: in batches, as many kept as the budget allows."""
        devices.require_current(self.X, "X")
        num_seeds = self.net.num_outputs if unit_seeds else self.num_seeds
        factored = num_seeds <= _FACTORED_SEEDS
        held = self._held_bytes(num_seeds, factored)
        working = held + self._working_bytes(num_seeds, factored)
        if working > self._memory:
            raise MemoryError(f"memory: expected at least {human(working)}, for one sample, got {human(self._memory)}")
        step = max(1, min(self._batch_bytes, self._memory // 2) // working)
        ranges = list(pairwise([*range(0, self.num_samples, step), self.num_samples]))
        num_kept = int((self._memory - step * working) // (step * held))

        def make(begin: int, end: int) -> Batch:
            if not factored:
                return self._swept(begin, end, unit_seeds)
            seeds = self._unit_seeds() if unit_seeds and not self._has_unit_seeds else None
            return FactoredBatch(self._factors_of(begin, end, seeds), self._storage, self._executor)

        return BatchedGradients(ranges, make, kept, num_kept, num_seeds, self.dimension)

    def _held_bytes(self, num_seeds: int, factored: bool) -> int:
        """Memory per sample of what products keep: factors, or signals, slopes and outputs."""
        if factored:
            return self._bytes_per_sample(num_seeds) * self._storage.itemsize // self.dtype.itemsize
        seeds = num_seeds * self.net.num_outputs if self._holds_seeds and not self._has_unit_seeds else 0
        outputs = (self.net.num_outputs + seeds) * self.dtype.itemsize
        return 2 * sum(self.net.widths[1:-1]) * self._storage.itemsize + outputs

    def _working_bytes(self, num_seeds: int, factored: bool) -> int:
        """Memory per sample that making them, or a product, takes besides."""
        layers = 5 * max(self.net.widths) * self.dtype.itemsize
        return layers + (self._bytes_per_sample(num_seeds) if factored else 0)

    def _swept(self, begin: int, end: int, unit_seeds: bool) -> SweptBatch:
        with counted_from(begin):
            network = LinearizedNetwork(
                self.net, self.X[begin:end], self._charts, self._layers, self._storage, self._executor
            )
        if unit_seeds:
            return SweptBatch(network, UnitSeeds())
        if self._holds_seeds:
            return SweptBatch(network, ExplicitSeeds(self._batch_seeds(network.outputs, begin, end)))
        return SweptBatch(network, LikelihoodSeeds(self.likelihood, network.outputs))

    @property
    def _holds_seeds(self) -> bool:
        """Whether products keep the seeds: where these take less than a sample's signals."""
        return self.kind != "exact" or self.num_seeds * self.net.num_outputs <= sum(self.net.widths)

    def _subsample(self, samples: npt.NDArray[np.intp]) -> Self:
        """The same metric of some of the samples, with their targets."""
        targets = self.targets
        part = self._without_results()
        part._layers, part._parent = slice(None), None
        chosen = devices.as_like(samples, self.X)
        part.X = devices.contiguous(self.X[chosen])
        if targets is not None:
            part.__dict__["_scored_targets"] = tuple(drawn[chosen] for drawn in targets)
        if self._parent is None:
            return part
        block = part._without_results()
        block._layers, block._parent = self._layers, part
        return block

    def _seed_products(self, c: FloatArray) -> FloatArray:
        if self.kind != "exact":
            products: FloatArray = np.einsum("rtc,kc->krt", self.output_seeds(), c)
            return products
        outputs = self._outputs()
        rows = (np.broadcast_to(row, outputs.shape) for row in c)
        return np.stack([self.likelihood.seeds_transposed_times(outputs, row) for row in rows])

    @property
    def _operations(self) -> dict[str, float]:
        widths, R, T = self.net.widths, self.num_seeds, self.num_samples
        layers = list(pairwise(widths))
        used = layers[self._layers]
        through = float(sum(a * b for a, b in layers))
        own = float(sum(a * b for a, b in used))
        factors = 2 * T * (through + R * float(sum(a * b for a, b in layers[1:])))
        factored = R <= _FACTORED_SEEDS
        return {
            "factors": factors,
            "dual": factors + float(T) ** 2 * sum(R**2 * b + a for a, b in used),
            "diagonal": factors + 2 * T * own,
            "product": 4 * T * own if factored else 4 * T * (own + through),
        }

    @property
    def _product_bytes(self) -> int:
        factored = self.num_seeds <= _FACTORED_SEEDS
        needed = self.num_samples * self._held_bytes(self.num_seeds, factored) + 2 * self._batch_bytes
        return needed if self._budget is None else min(needed, self._budget)

    @property
    def _has_unit_seeds(self) -> bool:
        """Whether the seeds are the unit vectors of output space."""
        return self.kind == "exact" and self.likelihood == likelihoods.Gaussian()

    # --- answers --------------------------------------------------------------------------------------------

    @property
    def _gram_bytes(self) -> int:
        return 0 if "factors" in self._whole.__dict__ else self._factor_bytes

    def _gram(
        self, tile: int | None, executor: Executor | None, progress: Progress, seeds: FloatArray | None = None
    ) -> FloatArray:
        devices.require_current(self.X, "X")
        if executor is not None and not shares_memory(executor):
            num_seeds = self.num_seeds if seeds is None else len(seeds)
            step = panel_size(self, num_seeds, num_workers(executor)) if tile is None else tile
            return Panels(self, step, self._executor, seeds).gather(executor, progress)
        whole = self.factors if seeds is None else self._block_of(self._factorize(0, self.num_samples, seeds))
        return gram_matrix(
            whole,
            self._scale,
            tile=tile,
            executor=executor or self._executor,
            progress=progress,
            precision=self._precision,
        )

    @property
    def _options(self) -> dict[str, Any]:
        """What else than network, data and likelihood makes the metric, in terms of JSON."""
        reduced = {} if self._precision is None else {"precision": self._precision}
        return {"layer": None if self._layers == slice(None) else self._layers.stop} | reduced

    def _identity(self) -> dict[str, Any]:
        return identity_of(self)

    def _file_tile(self, executor: Executor | None) -> int:
        workers = 1 if executor is None or shares_memory(executor) else num_workers(executor)
        return panel_size(self, self.num_seeds, workers)

    def _file_work(self, tile: int, executor: Executor | None) -> Work:
        threads = executor if shares_memory(executor) else None
        panels = Panels(self, tile, threads or self._executor)
        return lambda pairs: panels.computed(pairs, executor)

    def _sum_of_squares(self) -> float:
        norms = np.concatenate([factors.squared_norms() for factors in self._factor_batches()], axis=1)
        return float(norms.sum() * self._scale)

    def _diagonal(self, progress: Progress = None, seeds: FloatArray | None = None) -> FloatArray:
        total = np.zeros(self.dimension, self.dtype, like=self.X)
        for factors in self._factor_batches(seeds, progress):
            total += factors.diagonal(self._scale, self._executor)
        return total

    def _jacobians(self) -> Iterator[FloatArray]:
        for factors in self._batches(self.num_seeds * self.dimension * self.dtype.itemsize):
            yield factors.jacobian()

    def mean_gradients(self, *, progress: Progress = None) -> FloatArray:
        r"""Return the C mean gradients of the outputs, :math:`\frac{1}{T} \sum_t \nabla f_k(x_t)`.

        In a wide network that is not centred they span the eigenspace of the C largest eigenvalues for the Gaussian
        likelihood (Karakida, Akaho, Amari 2021, Theorem 3.2). One matrix product per layer and output.

        Parameters
        ----------
        progress : None, True or callable
            Progress over batches of samples: a bar (needs tqdm) or ``callable(done, total)``.

        Returns
        -------
        array, shape (C, P)
            In the precision of the network.

        Raises
        ------
        ValueError
            If they overflow.
        TypeError
            For a ``progress`` that is none of these.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            total = self._summed_gradients(self._unit_seeds(), progress)
        require_finite(total, "mean_gradients()")
        return total

    def _unit_seeds(self) -> FloatArray:
        """The unit vectors of output space, (C, T, C)."""
        return unit_seeds(self.num_samples, self.net.num_outputs, self.X)

    def _summed_gradients(self, seeds: FloatArray, progress: Progress = None) -> FloatArray:
        r"""``(1/T) sum_t seeds[r, t] . grad f(x_t)``, (R, P)."""
        require_memory(
            2 * len(seeds) * self.dimension * self.dtype.itemsize,
            f"the mean gradients of shape {(len(seeds), self.dimension)} (and one batch's part of them)",
            "ask layer by layer: layer(l)",
            self.X,
        )
        total = np.zeros((len(seeds), self.dimension), self.dtype, like=self.X)
        for factors in self._factor_batches(seeds, progress):
            total += factors.summed_gradients(1.0 / self.num_samples, self._executor)
        return total

    def centered(self) -> Centered:
        r"""Return the metric of the mean-subtracted network, :math:`f(x_t) - \frac{1}{T} \sum_s f(x_s)`.

        Mean subtraction is batch normalisation of the last layer without its scale. It takes the mean gradient from
        every gradient, and with it the outliers from the spectrum (Karakida, Akaho, Amari 2021, Eq. 22; 2019,
        arXiv:1906.02926): for the Gaussian likelihood :math:`G^*` becomes
        :math:`(I_C \otimes P)\, G^* (I_C \otimes P)` with :math:`P = I - 1 1^\top / T`. Other likelihoods are
        evaluated at the mean-subtracted outputs, and their Monte-Carlo targets are drawn there, from the same random
        numbers.
        """
        return Centered(self)


def _refuse_foreign(name: str, value: Any, kind: str, owner: str) -> None:
    """Refuse an option that another kind would use."""
    if value is not None and kind != owner:
        raise ValueError(f"{name}: expected only together with kind={owner!r}, got {name} with kind={kind!r}")


def _as_precision(precision: str | None, net: Network) -> str | None:
    """A reduced precision of the dual, where there is one."""
    if precision is None:
        return None
    choice(precision, "precision", devices.PRECISIONS)
    if net.device == "cpu" or net.dtype != np.float32:
        raise ValueError(
            f"precision: expected only together with a float32 network on a GPU, got {precision!r} with a {net.dtype} "
            f"network on {net.device}"
        )
    return precision


def _as_storage(storage: npt.DTypeLike | None, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Precision in which factors are held: at most that of the network."""
    found = dtype if storage is None else as_dtype(storage, "storage")
    if found.itemsize > dtype.itemsize:
        raise ValueError(f"storage: expected at most the precision of the network, {dtype}, got {found}")
    return found
