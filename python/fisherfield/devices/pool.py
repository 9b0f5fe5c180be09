"""The GPUs of this process: which one is current, and an executor with one thread for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

from . import import_cupy, num_gpus

__all__ = ["GPUPool", "gpu_of_worker"]

Result = TypeVar("Result")

_worker = threading.local()


def gpu_of_worker() -> int | None:
    """Return the GPU of the :class:`GPUPool` that the calling thread works for; None in other threads."""
    return getattr(_worker, "gpu", None)


class GPUPool(Executor):
    """An executor with one thread for each of several GPUs, for ``dual(executor=...)``.

    The tiles of the dual are computed on all of them. Network and inputs, on whichever GPU they are, are copied once to
    every GPU of the pool; tiles travel through the memory of the host, and the result lies where the inputs are.

    Parameters
    ----------
    devices : sequence of int, optional
        Indices of the GPUs, as of ``cupy.cuda.Device``. Default: all.

    Attributes
    ----------
    devices : tuple of int

    Raises
    ------
    ValueError, TypeError
        If there is no such GPU, or one is given twice.
    ImportError
        Without CuPy.

    Examples
    --------
    >>> with ff.GPUPool() as pool:  # doctest: +SKIP
    ...     matrix = ff.Fisher(net.to("cuda"), cupy.asarray(X)).dual(executor=pool)
    """

    def __init__(self, devices: Sequence[int] | None = None) -> None:
        cupy = import_cupy()
        count = num_gpus(cupy)
        self.devices = tuple(range(count)) if devices is None else _checked(devices, count)
        waiting: SimpleQueue[int] = SimpleQueue()
        for gpu in self.devices:
            waiting.put(gpu)

        def start() -> None:
            _worker.gpu = waiting.get()
            cupy.cuda.Device(_worker.gpu).use()

        self._max_workers = len(self.devices)
        self._threads = ThreadPoolExecutor(self._max_workers, "fisherfield-gpu", initializer=start)

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Call ``fn`` on the next GPU that is free.

        Parameters
        ----------
        fn : callable
            The task.
        *args
            Its arguments by position.
        **kwargs
            Its arguments by name.

        Returns
        -------
        concurrent.futures.Future
            Of its result.

        Raises
        ------
        RuntimeError
            After :meth:`shutdown`.
        """
        return self._threads.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and wait for those that run.

        Parameters
        ----------
        wait : bool
            Whether to return only when the tasks that were given are done (default True).
        cancel_futures : bool
            Whether to drop those that have not begun (default False).
        """
        self._threads.shutdown(wait, cancel_futures=cancel_futures)

    def __repr__(self) -> str:
        return f"GPUPool({list(self.devices)})"


def _checked(devices: Sequence[int], count: int) -> tuple[int, ...]:
    """The indices of GPUs, each once."""
    expected = f"devices: expected different numbers from 0 to {count - 1} in a sequence, got {devices!r}"
    if isinstance(devices, str) or not isinstance(devices, Sequence) or any(type(gpu) is not int for gpu in devices):
        raise TypeError(expected)
    if not devices or len(set(devices)) < len(devices) or not all(0 <= gpu < count for gpu in devices):
        raise ValueError(expected)
    return tuple(devices)
