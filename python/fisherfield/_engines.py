"""Spreading work over executors whose workers share no memory with this process: processes, MPI ranks, Dask workers.

What all tasks of a job have in common, its payload, reaches every worker once and is kept there. A task names the job
only; a worker that lacks the payload answers so, and the next task carries it along. Workers of Dask have addresses, to
which it is sent directly: in a task it would be part of a graph, scattered it would be dropped where it is not in use.
The threads of a pool of GPUs are workers too: each has a payload of its own, on its GPU, until the job is done.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Generic, TypeVar
from uuid import uuid4

from . import _executor, _native, devices
from ._config import version
from .devices.pool import GPUPool, gpu_of_worker

__all__ = ["check_engine", "completed", "num_workers", "shares_memory", "worker_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_Worker = tuple[str, int, int | None]  # host, process, GPU of the thread
_Key = tuple[str, int | None]  # job, GPU of the thread

_KEPT_JOBS = 2  # payloads that a worker keeps: two jobs that take turns do not send theirs again and again
_payloads: OrderedDict[_Key, Any] = OrderedDict()  # of the workers in this process
_receiving = Lock()


def check_engine(executor: Any, like: Any) -> None:
    """Refuse what is no executor, or none for work on an array like this one."""
    if isinstance(executor, GPUPool) and not devices.is_cuda(like):
        raise TypeError(
            "executor: expected a network and inputs on a GPU with a GPUPool, got those on the cpu; move them with "
            "net.to('cuda') and cupy.asarray(X)"
        )
    if executor is not None and not isinstance(executor, Executor):
        hint = "; use client.get_executor()" if hasattr(executor, "get_executor") else ""
        raise TypeError(
            "executor: expected None or a concurrent.futures.Executor (threads, processes, "
            f"mpi4py.futures.MPIPoolExecutor, a Dask client's), got {type(executor).__name__}{hint}"
        )


def shares_memory(executor: Executor | None) -> bool:
    """Whether tasks may write into arrays of this process."""
    return executor is None or isinstance(executor, ThreadPoolExecutor)


def num_workers(executor: Executor) -> int:
    """How many tasks run at once, as a hint for how finely to cut the work; no result depends on it."""
    client = _dask_client(executor)
    if client is not None:
        return max(1, int(sum(client.nthreads().values())))
    of_mpi = getattr(executor, "num_workers", None)
    return max(1, int(getattr(executor, "_max_workers", 1) if of_mpi is None else of_mpi))


def worker_threads() -> ThreadPoolExecutor:
    """Threads inside one task on a worker: the engine runs as many tasks as it wants processors used.

    ``FISHERFIELD_NUM_THREADS`` on the workers says otherwise, for one rank on a machine of many processors.
    """
    return ThreadPoolExecutor(_executor.num_threads() if "FISHERFIELD_NUM_THREADS" in os.environ else 1)


@dataclass(frozen=True)
class _Job:
    """What every task carries: which payload it needs, and the build whose bits it has to give."""

    token: str
    build: tuple[str, str]


@dataclass(frozen=True)
class _Answer(Generic[Result]):
    """A worker's answer: the result, or that it lacks the payload."""

    worker: _Worker
    lacking: bool
    result: Result | None = None


def _build() -> tuple[str, str]:
    return version(), _native.level


def _perform(job: _Job, payload: bytes | None, function: Callable[[Any, Item], Result], item: Item) -> _Answer[Result]:
    """Do one task, on the worker."""
    worker = (socket.gethostname(), os.getpid(), gpu_of_worker())
    _receive(job, payload)
    with _receiving:
        if not _holds(job):
            return _Answer(worker, lacking=True)
        held = _payloads[_key(job)]
    return _Answer(worker, lacking=False, result=function(held, item))


def _receive(job: _Job, payload: bytes | None) -> None:
    """Keep a payload, if it is new, on the worker."""
    if _build() != job.build:
        raise RuntimeError(
            f"executor: expected workers with fisherfield {job.build[0]} and kernels {job.build[1]}, as in the calling "
            f"process, got {' and '.join(_build())} on {socket.gethostname()}: their bits differ; install the same "
            "version, and set FISHERFIELD_ISA to a level that all have"
        )
    with _receiving:
        if payload is not None and not _holds(job):
            _payloads[_key(job)] = _unpickled(payload)
            own = [key for key in _payloads if key[1] == gpu_of_worker()]
            for key in own[:-_KEPT_JOBS]:
                del _payloads[key]


def _key(job: _Job) -> _Key:
    return job.token, gpu_of_worker()


def _holds(job: _Job) -> bool:
    return _key(job) in _payloads


def _forget(job: _Job) -> None:
    """Keep the payload no longer, on any GPU of this process."""
    with _receiving:
        for key in [key for key in _payloads if key[0] == job.token]:
            del _payloads[key]


def _pickled(payload: Any) -> bytes:
    try:
        return pickle.dumps(payload, protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"executor: expected a network and a likelihood that can be sent to other processes, got one that cannot "
            f"({error}); define its functions in a module, not as lambdas or inside functions"
        ) from error


def _unpickled(payload: bytes) -> Any:
    try:
        return pickle.loads(payload)
    except (AttributeError, ImportError) as error:
        raise RuntimeError(
            f"executor: expected workers that can import what the calling process uses, got {error!r} on "
            f"{socket.gethostname()}; define functions in a module that the workers can import"
        ) from error


def _dask_client(executor: Executor | None) -> Any:
    client = getattr(executor, "_client", None)
    return client if hasattr(client, "scatter") else None


def _deliver(client: Any, job: _Job, sealed: bytes) -> None:
    """Send the payload to the workers of a Dask cluster that lack it: all at first, later those that join."""
    holds = client.run(_holds, job, on_error="ignore")
    lacking = [address for address, held in holds.items() if not held]
    if lacking:
        answers = client.run(_receive, job, sealed, workers=lacking, on_error="return")
        for answer in answers.values():
            if isinstance(answer, Exception) and not isinstance(answer, OSError):  # a worker may be lost
                raise answer


def completed(
    executor: Executor, payload: Any, function: Callable[[Any, Item], Result], items: Iterable[Item]
) -> Generator[tuple[Item, Result]]:
    """Yield ``item, function(payload, item)`` as workers finish.

    At most two items a worker are under way, so that none waits while results travel. ``function`` is a module's or a
    class's, for it is pickled by name. Errors of a task are raised here; what has not started is then cancelled.
    """
    job, waiting = _Job(uuid4().hex, _build()), deque(items)
    client, limit, sealed = _dask_client(executor), 2 * num_workers(executor), _pickled(payload)
    submit: Callable[..., Future[_Answer[Result]]] = executor.submit
    if client is not None:
        _deliver(client, job, sealed)
        submit = partial(submit, pure=False)  # a task that is submitted again is not answered from memory
    running: dict[Future[_Answer[Result]], Item] = {}
    carrying: set[Future[_Answer[Result]]] = set()  # tasks on their way with the payload
    lacking: set[_Worker] = set()  # workers that wait for it
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                item, carries = waiting.popleft(), len(carrying) < len(lacking)
                future = submit(_perform, job, sealed if carries else None, function, item)
                running[future] = item
                if carries:
                    carrying.add(future)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                carrying.discard(future)
                answer = future.result()
                if answer.lacking:
                    waiting.appendleft(item)
                    if client is None:
                        lacking.add(answer.worker)
                    else:
                        _deliver(client, job, sealed)
                else:
                    lacking.discard(answer.worker)
                    yield item, answer.result  # type: ignore[misc]
    finally:
        started = [future for future in running if not future.cancel()]
        if client is not None:
            client.run(_forget, job, on_error="ignore")
        if isinstance(executor, GPUPool):
            wait(started)  # lest one of them receives the payload again
            _forget(job)
