"""Duals on workers that share no memory: the same bytes, from processes, Dask and MPI."""

import importlib
import importlib.util
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield import _engines, _native, panels
from repository import needed

from cases import cases, make_case

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # of Python 3.12 and later

CASE = make_case((30, 60, 50, 2), ("tanh", "custom"), 60)
TILE = 8  # 8 panels, 36 tiles

needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs the extra 'dask'")
# beside the interpreter, whose environment need not be activated, or anywhere
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or MPIEXEC is None, reason="needs the extra 'mpi'"
)


def fisher(case=CASE, **options):
    return ff.Fisher(case.net, case.X, **options)


EXPECTED = fisher().dual()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dual.npy"


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def client():
    from dask.distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


class InThisThread(Executor):
    """Calls when asked for the result; counts what is under way."""

    _max_workers = 3

    def __init__(self):
        self.pending, self.most = 0, 0

    def submit(self, fn, *arguments):
        self.pending += 1
        self.most = max(self.most, self.pending)
        executor = self

        class Later(Future):
            def result(self, timeout=None):
                executor.pending -= 1
                return fn(*arguments)

        future = Later()
        future.set_result(None)
        return future


# --- tasks and payloads -----------------------------------------------------------------------------------


class Payload:
    """Writes down in which process it arrives."""

    def __init__(self, log):
        self.log = log

    def __setstate__(self, state):
        self.log = state["log"]
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")


def work(payload, item):
    time.sleep(0.005)
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "fail":
        raise ZeroDivisionError("a task failed")
    return item, os.getpid()


class Homeless:
    """Comes from a module that workers do not have."""

    def __reduce__(self):
        return importlib.import_module, ("of_another_machine",)


class Counting:
    """An executor that counts how often the payload is sent."""

    def __init__(self, executor):
        self.executor, self.sent = executor, 0

    def submit(self, function, job, payload, *arguments):
        self.sent += payload is not None
        return self.executor.submit(function, job, payload, *arguments)

    @property
    def _max_workers(self):
        return self.executor._max_workers


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_payload_reaches_every_worker_once(tmp_path, workers):
    log = tmp_path / "log"
    with ProcessPoolExecutor(workers) as pool:
        counting = Counting(pool)
        results = list(_engines.completed(counting, Payload(str(log)), work, range(60)))
    assert sorted(item for item, _ in results) == list(range(60))
    assert all(item == answer for item, (answer, _) in results)
    arrivals = log.read_text().split()
    assert sorted(arrivals) == sorted({str(worker) for _, (_, worker) in results})
    assert len(arrivals) <= counting.sent <= 2 * workers


@needs_dask
def test_dask_sends_the_payload_to_every_worker_once(client, tmp_path):
    log = tmp_path / "log"
    results = list(_engines.completed(client.get_executor(), Payload(str(log)), work, range(60)))
    assert sorted(item for item, _ in results) == list(range(60))
    used = {str(worker) for _, (_, worker) in results}
    assert len(used) == 2
    arrivals = log.read_text().split()
    assert sorted(arrivals) == sorted(used)
    assert set(client.run(_number_held).values()) == {0}


@needs_dask
def test_errors_on_dask_workers(client):
    with pytest.raises(RuntimeError, match="executor: expected workers that can import what the calling process uses"):
        list(_engines.completed(client.get_executor(), Homeless(), work, range(4)))
    with pytest.raises(ZeroDivisionError, match="a task failed"):
        list(_engines.completed(client.get_executor(), "payload", work, [*range(10), "fail", *range(1000)]))
    assert set(client.run(_number_held).values()) == {0}


def test_few_tasks_are_under_way():
    executor = InThisThread()
    assert len(list(_engines.completed(executor, "payload", work, range(40)))) == 40
    assert executor.most == 6


def test_workers_keep_two_payloads(pool):
    for _ in range(5):
        list(_engines.completed(pool, "payload", work, range(6)))
    held = [future.result() for future in [pool.submit(_number_held) for _ in range(8)]]
    assert max(held) <= 2


def _number_held():
    return len(_engines._payloads)


def test_errors_of_tasks(pool):
    with pytest.raises(ZeroDivisionError, match="a task failed"):
        list(_engines.completed(pool, "payload", work, [*range(10), "fail", *range(1000)]))
    assert len(list(_engines.completed(pool, "payload", work, range(10)))) == 10


def test_what_is_left_is_cancelled(pool):
    start = time.perf_counter()
    results = _engines.completed(pool, "payload", work, range(10**6))
    next(results)
    results.close()
    assert len(list(_engines.completed(pool, "payload", work, range(10)))) == 10
    assert time.perf_counter() - start < 10


def test_another_build(pool, monkeypatch):
    list(_engines.completed(pool, "payload", work, range(4)))  # its processes have the build of this one
    monkeypatch.setattr(_native, "level", "v9")
    with pytest.raises(RuntimeError, match=r"expected workers with .* and kernels v9, .* got .* and v\d on"):
        fisher().dual(executor=pool)


@pytest.mark.skipif(len(_native.usable_levels()) < 2, reason="one build is installed, or runs here")
def test_workers_of_another_level(monkeypatch):
    monkeypatch.setenv("FISHERFIELD_ISA", next(level for level in _native.usable_levels() if level != _native.level))
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with pool, pytest.raises(RuntimeError, match="set FISHERFIELD_ISA to a level that all have"):
        fisher().dual(executor=pool)


def test_what_cannot_be_sent(pool):
    net = ff.Network(CASE.net.weights, CASE.net.biases, activation=lambda u: u / (1 + u * u))
    with pytest.raises(TypeError, match=r"executor: expected a network .* that can be sent to other processes"):
        ff.Fisher(net, CASE.X).dual(executor=pool)


def test_what_is_no_executor(pool):
    class Client:
        get_executor = None

    with pytest.raises(TypeError, match=r"executor: expected None or a concurrent.futures.Executor .*, got int"):
        fisher().dual(executor=2)
    with pytest.raises(TypeError, match=r"got Client; use client.get_executor\(\)"):
        fisher().dual(executor=Client())
    with pytest.raises(TypeError, match=r"got ProcessPoolExecutor; dual\(executor=...\) takes it"):
        fisher(executor=pool)


@needs_dask
def test_constructors_take_threads_only(client):
    with pytest.raises(TypeError, match=r"got ClientExecutor; dual\(executor=...\) takes it"):
        fisher(executor=client.get_executor())


# --- duals ------------------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from(["float64", "float32"]))
@settings(max_examples=25)
def test_any_network(pool, data, dtype):
    case = data.draw(cases(dtype=dtype, max_width=30, max_samples=40))
    tile = data.draw(st.none() | st.integers(1, 50))
    np.testing.assert_array_equal(fisher(case).dual(executor=pool, tile=tile), fisher(case).dual())


def metrics():
    drawn = fisher(likelihood="bernoulli", kind="monte_carlo", samples=3, seed=0)
    softmax = fisher(likelihood="softmax")
    return {
        "drawn": drawn,
        "drawn layer": drawn.layer(2),
        "observed": fisher(kind="empirical", targets=np.ones((60, 2))),
        "softmax": softmax,
        "features": ff.feature_metric(CASE.net, CASE.X),
        "rescaled": ff.TangentKernel(CASE.net, CASE.X, parametrization="ntk", weight_var=2.0, bias_var=0.1),
        "centred": fisher().centered(),
        "centred softmax": softmax.centered(),
    }


@pytest.mark.parametrize("name", list(metrics()))
def test_any_metric(pool, path, name):
    expected = metrics()[name].dual()
    np.testing.assert_array_equal(metrics()[name].dual(executor=pool, tile=TILE), expected)
    np.testing.assert_array_equal(metrics()[name].dual(executor=pool, tile=TILE, out=path), expected)


def engines(request):
    if request.param == "dask":
        return request.getfixturevalue("client").get_executor()
    return InThisThread() if request.param == "this thread" else request.getfixturevalue("pool")


@pytest.fixture(params=["processes", pytest.param("dask", marks=needs_dask), "this thread"])
def engine(request):
    return engines(request)


@pytest.mark.parametrize("tile", [None, 1000, TILE])
def test_any_engine(engine, path, tile):
    np.testing.assert_array_equal(fisher().dual(executor=engine, tile=tile), EXPECTED)
    np.testing.assert_array_equal(fisher().dual(executor=engine, tile=tile, out=path), EXPECTED)


def test_from_one_engine_to_another(engine, pool, path):
    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fisher().dual(executor=engine, tile=TILE, out=path, progress=stop)
    np.testing.assert_array_equal(fisher().dual(out=path, executor=pool), EXPECTED)


def test_progress(pool):
    calls = []
    fisher().dual(executor=pool, tile=TILE, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 36) for done in range(1, 37)]


def test_workers_get_tiles_enough():
    fim = ff.Fisher(CASE.net, np.zeros((5000, 30)))
    for workers in (2, 10, 100):
        count = len(panels.sample_ranges(5000, panels.panel_size(fim, 2, workers)))
        assert count * (count + 1) // 2 >= 4 * workers


def test_threads_of_a_worker(monkeypatch):
    monkeypatch.delenv("FISHERFIELD_NUM_THREADS", raising=False)
    assert _engines.worker_threads()._max_workers == 1
    monkeypatch.setenv("FISHERFIELD_NUM_THREADS", "5")
    assert _engines.worker_threads()._max_workers == 5


def test_a_lost_process(path):
    """The pool is broken; the tiles are kept, and another pool goes on."""

    def kill(done, total):
        if done == 6:
            os.kill(next(iter(pool._processes)), signal.SIGKILL)

    with ProcessPoolExecutor(2) as pool, pytest.raises(BrokenProcessPool) as caught:
        fisher().dual(executor=pool, tile=2, out=path, progress=kill)
    note = re.match(r"(\d+) of (\d+) tiles are kept in", caught.value.__notes__[0])
    kept, total = int(note[1]), int(note[2])
    assert 6 <= kept < total
    calls = []
    with ProcessPoolExecutor(2) as another:
        matrix = fisher().dual(executor=another, out=path, progress=lambda done, total: calls.append(done))
    np.testing.assert_array_equal(matrix, EXPECTED)
    assert calls == list(range(kept + 1, total + 1))


@needs_dask
def test_a_lost_dask_worker(client, path):
    killed = []

    def kill(done, total):
        if done >= 6 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    matrix = fisher().dual(executor=client.get_executor(), out=path, tile=3, progress=kill)
    assert killed
    np.testing.assert_array_equal(matrix, EXPECTED)


# --- the guide --------------------------------------------------------------------------------------------


def blocks(language):
    guide = needed("docs") / "docs" / "several-machines.md"
    return re.findall(rf"^```{language}\n(.*?)^```", guide.read_text(encoding="utf-8"), re.M | re.S)


def run_block(folder, code, command):
    (folder / "script.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = re.search(r"^ *net = (.*)\n^ *X = (.*)\n", code, re.M)
    net, X = (eval(expression, {"ff": ff, "np": np}) for expression in made.groups())
    np.testing.assert_array_equal(np.load(folder / "dual.npy"), ff.Fisher(net, X).dual())
    assert re.search(r"\(1000, 1000\) \[", done.stdout)


def test_the_guide_has_three_examples():
    assert [("dask" in code, "mpi4py" in code) for code in blocks("python")] == [
        (False, False), (True, False), (False, True),
    ]  # fmt: skip


def test_example_of_a_file(tmp_path):
    run_block(tmp_path, blocks("python")[0], [sys.executable, "-W", "error", "script.py"])


@needs_dask
def test_example_of_dask(tmp_path, client):
    command = [sys.executable, "-W", "error", "script.py", client.scheduler.address]
    run_block(tmp_path, blocks("python")[1], command)


@needs_mpi
def test_example_of_mpi(tmp_path):
    (command,) = blocks("sh")
    _, *arguments = command.replace(" python ", f" {sys.executable} -W error ").split()
    run_block(tmp_path, blocks("python")[2], [MPIEXEC, *arguments])
