r"""Sums over samples of numbers of units times powers of inputs: what everything about diagonals consists of.

The gradient with respect to a weight :math:`W_{ij}` is :math:`b_i a_j`, its second derivative :math:`d_i a_j^2`. Hence
diagonals are sums :math:`\sum_t n_i(t)\, a_j(t)^2` and their variances :math:`\sum_t n_i(t)\, a_j(t)^4`, with numbers n
that each unit makes from its b and d alone: one matrix product per layer, and never a Jacobian. Samples pass in parts
that stay in the cache of the processor, or keep a GPU busy; of a sample only inputs of layers and numbers of units are
held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from itertools import accumulate, pairwise
from threading import Lock

import numpy as np
import numpy.typing as npt

from . import _executor, devices
from ._executor import SERIAL, Progress, reporter, workers
from ._memory import batch_bytes, require_memory
from ._validate import FloatArray
from .factors import BATCH_BYTES, add_power_sum, bytes_per_sample
from .network import Network

__all__ = ["counted_from", "layer_slices", "ordered_sum", "unit_sums"]

# For samples [begin, end): of each layer its inputs (t, M_in), and its numbers (t, M_out), one array per sum.
_UnitNumbers = Callable[[int, int], Sequence[tuple[FloatArray, Sequence[FloatArray] | FloatArray]]]

_ROWS = 1024  # of a matrix product of one part; enough to make up for packing the weights


def unit_sums(
    net: Network,
    num_samples: int,
    numbers: _UnitNumbers,
    powers: Sequence[int],
    num_seeds: int,
    layers: slice = slice(None),
    executor: Executor | None = None,
    progress: Progress = None,
    dtype: npt.DTypeLike | None = None,
) -> FloatArray:
    """Return ``sum_t n_k(t)_i a(t)_j^powers[k]`` of every parameter of some layers and every k, shape (K, P).

    Parameters
    ----------
    net : Network
    num_samples : int
        T.
    numbers : callable
        ``numbers(begin, end)`` gives inputs and numbers of the layers at some samples; it runs on one thread.
    powers : sequence of {2, 4}
        One per sum.
    num_seeds : int
        Vectors that ``numbers`` sends back per sample: how many samples make a part depends on it, no bit does.
    layers : slice
        Of the layers that ``numbers`` gives.
    executor, progress
        Threads; progress over samples.
    dtype : dtype, optional
        Of the sums (default: that of the network).
    """
    precision = np.dtype(net.dtype if dtype is None else dtype)
    shapes = [W.shape for W in net.weights[layers]]
    slices = layer_slices(net, layers)
    size = slices[-1].stop
    require_memory(
        len(powers) * size * precision.itemsize,
        f"{len(powers)} arrays of one number per parameter ({size})",
        "use a smaller network, or float32",
        net.weights[0],
    )
    out = np.zeros((len(powers), size), precision, like=net.weights[0])
    per_sample = sum(columns + len(powers) * rows for rows, columns in shapes) * precision.itemsize
    memory = batch_bytes(out, BATCH_BYTES)
    batch = min(num_samples, max(1, memory // per_sample))
    held = _carved([((batch, columns), (len(powers), batch, rows)) for rows, columns in shapes], out)
    if devices.is_cuda(out):  # one part after the other, as large as their seeds may be
        executor, part = SERIAL, max(1, memory // bytes_per_sample(net, num_seeds))
    else:
        part = max(1, _ROWS // num_seeds)
    report, close = reporter(progress, num_samples, "samples")
    try:
        for begin in range(0, num_samples, batch):
            end = min(begin + batch, num_samples)
            _fill(held, numbers, begin, end, part, executor, lambda done: report(done, num_samples))
            for of_layer, (inputs, weights) in zip(slices, held, strict=True):
                for sums, power, weight in zip(out, powers, weights[:, : end - begin], strict=True):
                    add_power_sum(inputs[: end - begin], weight, net.has_biases, power, sums[of_layer], executor)
    finally:
        close()
    return out


def _carved(
    shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], like: FloatArray
) -> list[tuple[FloatArray, FloatArray]]:
    """Pairs of arrays from one block of memory: a large one comes in large pages, many small ones in many small."""
    sizes = [math.prod(shape) for pair in shapes for shape in pair]
    begins = [0, *accumulate(-(-size // 16) * 16 for size in sizes)]  # each on a multiple of what a cache line holds
    block = np.empty(begins[-1], like.dtype, like=like)
    arrays = (block[begin : begin + size] for begin, size in zip(begins, sizes, strict=False))
    return [(next(arrays).reshape(first), next(arrays).reshape(second)) for first, second in shapes]


def ordered_sum(terms: FloatArray) -> FloatArray:
    """Return the sum over the first axis, in its order: NumPy's own order depends on how long the other axes are."""
    total: FloatArray = terms[0].copy()
    for term in terms[1:]:
        total += term
    return total


def layer_slices(net: Network, layers: slice = slice(None)) -> list[slice]:
    """Return where the parameters of each of some layers lie among theirs."""
    ends = accumulate(W.size + net.has_biases * len(W) for W in net.weights[layers])
    return [slice(begin, end) for begin, end in pairwise([0, *ends])]


def _fill(
    held: Sequence[tuple[FloatArray, FloatArray]],
    numbers: _UnitNumbers,
    begin: int,
    end: int,
    part: int,
    executor: Executor | None,
    report: Callable[[int], object],
) -> None:
    """Write inputs (t, M_in) and numbers (K, t, M_out) of every layer, of a batch of samples, into ``held``.

    At most ``part`` samples are asked for at once. ``report`` is called with how many samples are done.
    """
    counting, done = Lock(), begin

    def fill(samples: tuple[int, int]) -> None:
        first, last = samples
        with counted_from(first), np.errstate(over="ignore", invalid="ignore"):
            found = numbers(first, last)
        for (inputs, weights), (A, values) in zip(held, found, strict=True):
            inputs[first - begin : last - begin] = A
            for weight, value in zip(weights, values, strict=True):
                weight[first - begin : last - begin] = value
        nonlocal done
        with counting:
            done += last - first
            report(done)

    _executor.run(fill, _parts(begin, end, part, workers(executor)), executor)


def _parts(begin: int, end: int, most: int, threads: int) -> list[tuple[int, int]]:
    """Cut samples evenly into ranges of at most so many, as many for each thread."""
    count = end - begin
    rounds = -(-count // (most * threads))
    parts = min(count, rounds * threads)
    return list(pairwise([begin + count * part // parts for part in range(parts + 1)]))


@contextmanager
def counted_from(begin: int) -> Iterator[None]:
    """Say of an error in some samples from which one its numbers count."""
    try:
        yield
    except ValueError as error:
        if begin > 0:
            error.add_note(f"Samples are counted from sample {begin} of X, where a batch begins.")
        raise
