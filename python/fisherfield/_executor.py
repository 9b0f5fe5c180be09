"""Spreading kernel calls over threads: the kernels are single-threaded and release the GIL."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from itertools import count, pairwise, product
from threading import Lock
from typing import TypeVar

from ._validate import positive_int

__all__ = ["SERIAL", "Progress", "assisted", "check_executor", "check_progress", "num_threads", "run"]

Item = TypeVar("Item")
Progress = bool | Callable[[int, int], object] | None

_default_pool: ThreadPoolExecutor | None = None


def num_threads() -> int:
    """Number of threads of the default pool: ``FISHERFIELD_NUM_THREADS``, else the processors this process may use."""
    wanted = os.environ.get("FISHERFIELD_NUM_THREADS")
    if wanted is not None:
        try:
            return positive_int(int(wanted), "FISHERFIELD_NUM_THREADS")
        except ValueError as error:
            raise ValueError(f"FISHERFIELD_NUM_THREADS: expected a positive integer, got {wanted!r}") from error
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_executor(executor: Executor | None) -> None:
    """Refuse what cannot run tasks that write into shared arrays."""
    if executor is None:
        return
    foreign = type(executor).__module__.partition(".")[0] in ("distributed", "mpi4py")
    foreign = foreign or type(executor).__module__ == "fisherfield.devices.pool"  # its workers have GPUs of their own
    if isinstance(executor, ProcessPoolExecutor) or foreign or not isinstance(executor, Executor):
        raise TypeError(
            "executor: expected a concurrent.futures.ThreadPoolExecutor (or another executor whose workers share "
            f"this process's memory) or None for the default pool, got {type(executor).__name__}"
            + ("; dual(executor=...) takes it" if isinstance(executor, Executor) else "")
        )


def _forget_default_pool() -> None:
    global _default_pool
    _default_pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_default_pool)  # threads do not survive a fork


def _pool() -> ThreadPoolExecutor:
    global _default_pool
    if _default_pool is None:
        _default_pool = ThreadPoolExecutor(num_threads(), thread_name_prefix="fisherfield")
    return _default_pool


class _Serial(Executor):
    """Everything in the calling thread: for work inside a task, when there is a task for every thread."""

    _max_workers = 1


SERIAL = _Serial()


def workers(executor: Executor | None) -> int:
    """How many tasks run at once, as a hint for how finely to cut the work; no result depends on it."""
    check_executor(executor)
    if executor is None:
        return num_threads()
    return int(getattr(executor, "_max_workers", num_threads()))


def run(
    task: Callable[[Item], object],
    items: Iterable[Item],
    executor: Executor | None = None,
    progress: Progress = None,
    label: str = "",
) -> None:
    """Call ``task(item)`` for every item; return when all are done.

    The calling thread works too, so that a task may itself ask for work from the same pool. An exception (or an
    interrupt) drops what has not started and is raised when nothing runs any more: a running kernel still writes into
    the caller's arrays. ``progress`` is None, True (a bar of tqdm) or a callable ``(done, total)``.
    """
    waiting = deque(items)
    total, helpers = len(waiting), min(workers(executor), len(waiting)) - 1
    report, close = reporter(progress, total, label)
    counting, done = Lock(), count(1)

    def drain() -> None:
        try:
            while True:
                try:
                    item = waiting.popleft()
                except IndexError:
                    return
                task(item)
                with counting:
                    report(next(done), total)
        except BaseException:
            waiting.clear()
            raise

    try:
        futures = []
        try:
            for _ in range(helpers):
                futures.append((executor or _pool()).submit(drain))
            drain()
        except BaseException:
            waiting.clear()
            raise
        finally:
            running = [future for future in futures if not future.cancel()]
            wait(running)
        for future in running:
            future.result()
    finally:
        close()


def assisted(
    lead: Callable[[], Item],
    help: Callable[[], object],
    dismiss: Callable[[], object],
    helpers: int,
    executor: Executor | None = None,
) -> Item:
    """Return ``lead()``, called here, while up to so many threads call ``help()``, which ends after ``dismiss()``.

    They are dismissed whatever happens, an interrupt among the submissions included.
    """
    futures = []
    try:
        try:
            for _ in range(helpers):
                futures.append((executor or _pool()).submit(help))
            return lead()
        finally:
            dismiss()
    finally:
        wait([future for future in futures if not future.cancel()])


def reporter(
    progress: Progress, total: int, label: str, initial: int = 0
) -> tuple[Callable[[int, int], object], Callable[[], object]]:
    """Return what to call with ``(done, total)`` as items beyond ``initial`` get done, and what to call at the end."""
    check_progress(progress)
    if not progress:
        return (lambda done, total: None), (lambda: None)
    if callable(progress):
        return progress, (lambda: None)
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'fisherfield[progress]'") from error
    bar = tqdm(total=total, initial=initial, desc=label or None, leave=False)
    return (lambda done, total: bar.update(done - bar.n)), bar.close


def check_progress(progress: Progress) -> None:
    """Refuse what shows no progress."""
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress: expected None, True or a callable (done, total), got {progress!r}")


def column_blocks(columns: int, itemsize: int, flops: float, executor: Executor | None) -> list[tuple[int, int]]:
    """Cut ``columns`` evenly into ranges (begin, end) of whole kernel panels, a few per worker.

    Work that takes no longer than waking a thread (``flops`` in all) stays in one piece.
    """
    return _cut(columns, _wanted_blocks(4, flops, executor), itemsize)


def sample_blocks(samples: int, flops: float, executor: Executor | None) -> list[tuple[int, int]]:
    """Cut samples, each of which is work of its own, into ranges (begin, end), a few per worker."""
    blocks = min(samples, _wanted_blocks(4, flops, executor))
    return list(pairwise([samples * block // blocks for block in range(blocks + 1)]))


def weight_blocks(
    rows: int, columns: int, itemsize: int, flops: float, executor: Executor | None
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Cut a matrix of sums over samples into blocks (rows, columns), about two per worker and close to square.

    Each block packs its own columns and transposes its own rows of all samples, so few and square ones are best.
    """
    wanted = _wanted_blocks(2, flops, executor)
    down = math.isqrt(wanted)
    return list(product(_cut(rows, down, itemsize), _cut(columns, -(-wanted // down), itemsize)))


def _wanted_blocks(per_worker: int, flops: float, executor: Executor | None) -> int:
    return 1 if executor is SERIAL else max(1, min(per_worker * workers(executor), int(flops / 4e6)))


def _cut(length: int, blocks: int, itemsize: int) -> list[tuple[int, int]]:
    """Ranges (begin, end) of whole kernel panels, at most so many and as even as can be."""
    panel = 192 // itemsize
    panels = -(-length // panel)
    blocks = max(1, min(blocks, panels))
    cuts = [min(panels * block // blocks * panel, length) for block in range(blocks + 1)]
    return list(pairwise(cuts))
