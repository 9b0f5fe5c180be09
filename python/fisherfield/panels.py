"""Gram matrices whose factors do not fit in memory: made for panels of samples, and kept while there is room."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Generator, Iterable
from concurrent.futures import Executor
from contextlib import closing
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from . import devices
from ._engines import completed, shares_memory, worker_threads
from ._executor import Progress, reporter
from ._validate import FloatArray
from .factors import FactoredJacobian
from .gram import gram_matrix, kernel_matrix, sample_ranges

if TYPE_CHECKING:
    from .network_metric import NetworkMetric

__all__ = ["Pair", "Panels", "panel_memory", "panel_pairs", "panel_size"]

# bytes of panels' factors and of tiles at once, in every process or on every GPU, unless a metric has a budget
_MEMORY = 2**29
_GPU_MEMORY = 2**31  # tiles of some thousand rows, for which a GPU takes as long as they take to reach the host

Pair = tuple[int, int]  # of panels, rows before columns or the same


def panel_pairs(num_panels: int) -> list[Pair]:
    """All tiles on and above the diagonal."""
    return [(i, j) for i in range(num_panels) for j in range(i, num_panels)]


def panel_memory(like: FloatArray) -> int:
    """Return the memory of panels and tiles on the device of an array."""
    return _GPU_MEMORY if devices.is_cuda(like) else _MEMORY


def panel_size(metric: NetworkMetric, num_seeds: int, num_workers: int = 1) -> int:
    """Samples a panel.

    Four tiles are at once in memory: one that is computed, one that waits, one that is written and its mirror image.
    They get a quarter of it, and making the factors of a panel, derivatives included, an eighth. Several workers get at
    least four tiles each.
    """
    T = metric.num_samples
    memory = metric._panel_memory
    by_tile = math.isqrt(memory // 16 // metric.dtype.itemsize) // num_seeds
    by_factors = memory // 8 // metric._bytes_per_sample(num_seeds)
    by_workers = T if num_workers == 1 else T // (math.isqrt(8 * num_workers) + 1)
    size = min(by_tile, by_factors, by_workers, T)
    return max(1, size if size < 48 else size // 48 * 48)  # whole panels of the kernels


class Panels:
    """Tiles of the dual of a metric, from factors of which a budget's worth is held.

    Tiles come to the host, wherever they were computed. Pickled, it takes the network, the inputs and the targets
    along, and no factors; those of a GPU are unpickled on the GPU that is current there.

    Attributes
    ----------
    ranges : list of (begin, end)
        Samples of each panel.
    """

    def __init__(
        self,
        metric: NetworkMetric,
        tile: int,
        executor: Executor | None = None,
        seeds: FloatArray | None = None,
    ) -> None:
        self.ranges = sample_ranges(metric.num_samples, tile)
        self._metric, self._seeds = metric._portable(executor), seeds
        largest = max(end - begin for begin, end in self.ranges)
        self._num_held = max(2, metric._panel_memory * 3 // 4 // (self._bytes_of_sample() * largest))
        self._forget()

    def _bytes_of_sample(self) -> int:
        """What is kept of a sample's factors; the inputs of the first layer are a view of X."""
        arrays = [array for layer in self._make(0, 1) for array in (layer.A, layer.B)]
        return max(1, sum(array.nbytes for array in arrays if not np.may_share_memory(array, self._metric.X)))

    def _forget(self) -> None:
        self._held: OrderedDict[int, FactoredJacobian] = OrderedDict()  # the latest used last
        self._making = Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_held", "_making")} | {
            "_metric": self._metric._portable(None)
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._metric = self._metric._portable(worker_threads())
        self._forget()

    def _ordered(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The pairs in an order in which few panels have to be made again.

        As many row panels as can be held besides the column panels pass by all columns: a panel that leaves has served
        all of them.
        """
        group = max(1, self._num_held - 2)  # one column panel is in use, and the one before it leaves last
        return sorted(pairs, key=lambda pair: (pair[0] // group, pair[1], pair[0]))

    def tile(self, pair: Pair) -> FloatArray:
        """Products of the gradients of two panels, scaled: (R t, R t')."""
        i, j = pair
        with np.errstate(over="ignore", invalid="ignore"):
            rows, columns = self._panel(i), self._panel(j)
        scale, executor, precision = self._metric._scale, self._metric._executor, self._metric._precision
        if i == j:
            block = gram_matrix(rows, scale, executor=executor, precision=precision)
        else:
            block = kernel_matrix(rows, columns, scale=scale, executor=executor, precision=precision)
        on_host: FloatArray = devices.on_host(block)
        return on_host

    def computed(self, pairs: Iterable[Pair], executor: Executor | None) -> Generator[tuple[Pair, FloatArray]]:
        """Yield tiles as they are ready: one after the other in this process, or from the workers of an executor."""
        ordered = self._ordered(pairs)
        if executor is None or shares_memory(executor):
            return ((pair, self.tile(pair)) for pair in ordered)
        return completed(executor, self, Panels.tile, ordered)

    def gather(self, executor: Executor, progress: Progress) -> FloatArray:
        """Return the whole matrix, on the device of the inputs, from the workers of an executor."""
        R, T = self._metric.num_seeds if self._seeds is None else len(self._seeds), self._metric.num_samples
        out = np.empty((R, T, R, T), self._metric.dtype, like=self._metric.X)
        pairs = panel_pairs(len(self.ranges))
        report, close = reporter(progress, len(pairs), "dual")
        try:
            with closing(self.computed(pairs, executor)) as tiles:
                for done, ((i, j), block) in enumerate(tiles, 1):
                    rows, columns = slice(*self.ranges[i]), slice(*self.ranges[j])
                    part = out[:, rows, :, columns]
                    part[:] = devices.as_like(block, out).reshape(part.shape)
                    if i != j:
                        out[:, columns, :, rows] = part.transpose(2, 3, 0, 1)
                    report(done, len(pairs))
        finally:
            close()
        return out.reshape(R * T, R * T)

    def _panel(self, index: int) -> FactoredJacobian:
        with self._making:  # two tasks of a process that need the same panel make it once
            if index in self._held:
                self._held.move_to_end(index)
                return self._held[index]
            while len(self._held) >= self._num_held:
                self._held.popitem(last=False)
            self._held[index] = self._make(*self.ranges[index])
            return self._held[index]

    def _make(self, begin: int, end: int) -> FactoredJacobian:
        return self._metric._block_of(self._metric._factorize(begin, end, self._seeds))
