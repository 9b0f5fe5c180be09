"""Duals in files: the same bytes as in memory, whatever happens on the way."""

import errno
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fisherfield as ff
from child import output_of, start_python
from fisherfield import _native, gram, gramfile, panels
from test_memory import MEASURE, MIB

from cases import cases, make_case, swish_like

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # of Python 3.12 and later

CASE = make_case((7, 12, 9, 2), ("tanh", "relu"), 40)
TILE = 6  # 7 panels, 28 tiles


def fisher(case=CASE, **options):
    return ff.Fisher(case.net, case.X, **options)


def saved(matrix):
    content = io.BytesIO()
    np.save(content, matrix)
    return content.getvalue()


EXPECTED = saved(fisher().dual())


class Stopped(Exception):
    pass


def begun(path, tiles=5, metric=None):
    """A file with some tiles."""

    def stop(done, total):
        if done == tiles:
            raise Stopped

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gramfile, "_WAITING", 1)  # one tile after the other
        with pytest.raises(Stopped):
            (metric or fisher()).dual(out=path, tile=TILE, progress=stop)
    return path.with_name(path.name + ".part"), path.with_name(path.name + ".index")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dual.npy"


def require_no_work(monkeypatch):
    def refuse(*_):
        raise AssertionError("a tile was computed")

    monkeypatch.setattr(panels.Panels, "tile", refuse)


# --- the matrix -----------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from(["float64", "float32"]))
@settings(max_examples=60)
def test_any_network_and_tile(tmp_path_factory, data, dtype):
    case = data.draw(cases(dtype=dtype, max_width=30, max_samples=40))
    tile = data.draw(st.none() | st.integers(1, 50))
    path = tmp_path_factory.mktemp("any") / "dual.npy"
    matrix = fisher(case).dual(out=path, tile=tile)
    assert isinstance(matrix, np.memmap)
    assert not matrix.flags.writeable
    assert path.read_bytes() == saved(fisher(case).dual())
    assert not path.with_name("dual.npy.part").exists()


def metrics():
    ones = np.ones_like(CASE.net(CASE.X))
    made = {
        "softmax": fisher(likelihood="softmax"),
        "drawn": fisher(likelihood="bernoulli", kind="monte_carlo", samples=3, seed=0),
        "observed": fisher(kind="empirical", targets=ones),
        "layer": fisher(likelihood="bernoulli").layer(2),
        "features": ff.feature_metric(CASE.net, CASE.X),
        "rescaled": ff.TangentKernel(CASE.net, CASE.X, parametrization="ntk", weight_var=2.0, bias_var=0.1),
    }
    return made | {
        "drawn layer": made["drawn"].layer(3),
        "centred": made["rescaled"].centered(),
        "centred softmax": made["softmax"].centered(),
        "centred draws": made["drawn"].centered(),
    }


@pytest.mark.parametrize("name", list(metrics()))
def test_any_metric(name, path, monkeypatch):
    expected = saved(metrics()[name].dual())
    metrics()[name].dual(out=path, tile=TILE)
    assert path.read_bytes() == expected
    require_no_work(monkeypatch)
    again = metrics()[name].dual(out=path)
    np.testing.assert_array_equal(again, metrics()[name].dual())


@given(st.integers(1, 4), st.integers(2, 60), st.data(), st.sampled_from(["float64", "float32"]))
def test_a_tile_alone_has_the_bits_of_the_whole(seeds, samples, data, dtype):
    case = make_case((5, 33, seeds), ("tanh",), samples, dtype=dtype)
    begin, end = sorted(data.draw(st.lists(st.integers(0, samples), min_size=2, max_size=2, unique=True)))
    factors = fisher(case).factors
    whole = gram.gram_matrix(factors, 0.3).reshape(seeds, samples, seeds, samples)
    part = gram.kernel_matrix(factors, factors.samples(begin, end), scale=0.3)
    np.testing.assert_array_equal(part.reshape(seeds, samples, seeds, -1), whole[..., begin:end])


@pytest.mark.parametrize("threads", [1, 3])
def test_threads(path, threads):
    with ThreadPoolExecutor(threads) as pool:
        fisher().dual(out=path, executor=pool, tile=TILE)
        np.testing.assert_array_equal(fisher().dual(executor=pool), fisher().dual())
    assert path.read_bytes() == EXPECTED


@pytest.mark.parametrize("memory", [2**10, 2**14, 2**16, 2**18, 2**29])
def test_any_budget(path, memory):
    fim = fisher()
    fim._budget = memory
    fim.dual(out=path)
    assert path.read_bytes() == EXPECTED


@pytest.mark.parametrize("held", [2, 3, 4, 10])
def test_panels_are_made_few_times(held, monkeypatch):
    """Once each if they can be held; otherwise once for every group of row panels that can."""
    made = []
    make = panels.Panels._make
    monkeypatch.setattr(panels.Panels, "_make", lambda self, *rows: made.append(rows) or make(self, *rows))
    some = panels.Panels(fisher(), 4)
    some._num_held, count = held, len(some.ranges)
    made.clear()
    assert len(list(some.computed(panels.panel_pairs(count), None))) == count * (count + 1) // 2
    group = max(1, held - 2)
    assert count == 10
    assert len(made) <= (count if held >= count else sum(count - i for i in range(0, count, group)) + group)


def test_progress(path):
    calls = []
    begun(path, 5)
    fisher().dual(out=path, progress=lambda done, total: calls.append((done, total)))
    assert calls[0][0] > 5
    assert calls == [(done, 28) for done in range(calls[0][0], 29)]


def test_infinite_entries_are_refused(path):
    net = ff.Network([np.ones((1, 1))], None)
    with pytest.raises(ValueError, match=r"dual\(\): expected finite numbers"):
        ff.Fisher(net, np.full((5, 1), 1e200)).dual(out=path)
    assert not path.exists()
    steep = ff.Network([np.full((1, 1), 1e200)], None)
    with pytest.raises(ValueError, match=r"net\(X\): expected finite outputs"):
        ff.Fisher(steep, np.full((5, 1), 1e200)).dual(out=path, resume=False)


def test_flat_memory(tmp_path):
    """A matrix of 72 MB from factors of 29 MB, through a budget of 16 MiB."""
    call = f"fim.dual(out={str(tmp_path / 'dual.npy')!r})"
    code = MEASURE.format(widths=(50, 400, 400, 1), samples=3000, call=call, dtype="float64")
    code = code.replace("print(", "fim = ff.Fisher(net, X); fim._budget = 2**24\nprint(")
    assert int(output_of(code, FISHERFIELD_NUM_THREADS="2")) <= 40 * MIB
    assert (tmp_path / "dual.npy").stat().st_size > 68 * MIB


# --- interruptions --------------------------------------------------------------------------------------

LONG = """
import numpy as np, fisherfield as ff
net = ff.MLP((20, 300, 300, 2), "tanh", bias_var=0.1).sample(seed=0)
X = np.random.default_rng(0).standard_normal((900, 20))
fim = ff.Fisher(net, X)
"""
WRITE = LONG + "fim.dual(out={path!r}, tile={tile}, progress=lambda done, total: print(done))"


def long_dual(**options):
    names = {}
    exec(LONG, names)
    return names["fim"].dual(**options)


def test_killed_at_any_moment(path):
    """What was reported is there; the file ends up the same."""
    rng = random.Random(0)
    finished, total = 0, None
    for _ in range(3):
        child = start_python(WRITE.format(path=str(path), tile=20))
        for _ in range(rng.randint(1, 30)):
            reported = int(child.stdout.readline())
            assert reported > finished
        time.sleep(0.02 * rng.random())
        child.kill()
        rest, _ = child.communicate()
        reported = max([reported, *(int(line) for line in re.findall(r"(\d+)\n", rest))])
        content = Path(f"{path}.index").read_bytes()
        index = gramfile._Index.parse(content, path)
        finished, total = sum(index.done), len(index.done)
        assert reported <= finished
    calls = []
    long_dual(out=path, progress=lambda done, _: calls.append(done))
    assert calls == list(range(finished + 1, total + 1))
    assert path.read_bytes() == saved(long_dual())


def test_interrupted(path):
    child = start_python(WRITE.format(path=str(path), tile=40))
    for _ in range(5):
        child.stdout.readline()
    start = time.perf_counter()
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert time.perf_counter() - start < 1
    assert child.returncode == -signal.SIGINT
    assert re.search(r"KeyboardInterrupt\n\d+ of \d+ tiles are kept in .*dual.npy.part': call again, with", error)
    long_dual(out=path)
    assert path.read_bytes() == saved(long_dual())


def test_killed_between_the_last_tile_and_the_name(path, monkeypatch):
    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop)
        with pytest.raises(Stopped):
            fisher().dual(out=path, tile=TILE)
    assert not path.exists()
    require_no_work(monkeypatch)
    fisher().dual(out=path)
    assert path.read_bytes() == EXPECTED


@pytest.mark.parametrize("call", ["ftruncate", "posix_fallocate", "fsync", "unlink", "pwrite", "fdatasync"])
@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_killed_while_beginning(path, call, nth, resume):
    """Dead at the n-th call of a function of the system: the next call works."""
    if not resume:
        fisher(likelihood="bernoulli").dual(out=path)
    count = iter(range(1, 1000))
    function = getattr(os, call)

    def deadly(*arguments):
        if next(count) == nth:
            os._exit(9)
        return function(*arguments)

    child = os.fork()
    if child == 0:
        setattr(os, call, deadly)
        fisher(executor=ThreadPoolExecutor(1)).dual(out=path, tile=TILE, resume=resume)
        os._exit(0)
    os.waitpid(child, 0)
    fisher().dual(out=path, resume=resume or not path.exists())
    assert path.read_bytes() == EXPECTED


# --- what is there ----------------------------------------------------------------------------------------


def test_a_finished_file_is_opened_at_once(path, monkeypatch):
    fisher().dual(out=path, tile=TILE)
    require_no_work(monkeypatch)
    for tile in (None, TILE, 11):
        np.testing.assert_array_equal(fisher().dual(out=path, tile=tile), fisher().dual())


def test_overwriting(path):
    begun(path)
    other = fisher(likelihood="bernoulli")
    other.dual(out=path, resume=False)
    assert path.read_bytes() == saved(other.dual())
    fisher().dual(out=path, resume=False, tile=11)
    assert path.read_bytes() == EXPECTED
    assert sorted(file.name for file in path.parent.iterdir()) == ["dual.npy", "dual.npy.index"]


def test_the_index_is_readable(path):
    _, index = begun(path)
    first, text = index.read_bytes().split(b"\n", 1)
    fields, _ = json.JSONDecoder().raw_decode(text.decode(errors="replace"))
    assert first.startswith(b"fisherfield dual, tiles 28, sha256 ")
    assert (fields["likelihood"], fields["kind"], fields["tile"], fields["widths"]) == (
        "gaussian", "exact", TILE, [7, 12, 9, 2],
    )  # fmt: skip


def refused(path, match, metric=None, **options):
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(ValueError, match=match):
        (metric or fisher()).dual(out=path, **options)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_truncated_index(path):
    _, index = begun(path)
    content = index.read_bytes()
    for length in range(len(content)):
        index.write_bytes(content[:length])
        refused(path, "damaged file; resume=False starts anew")
    index.write_bytes(content + b"\0")
    refused(path, "damaged file")


def test_corrupt_index(path):
    """A wrong bit anywhere is noticed, but in the record of a tile that is then computed again."""
    _, index = begun(path)
    content = bytearray(index.read_bytes())
    for position in range(len(content)):
        content[position] ^= 1 << position % 8
        index.write_bytes(content)
        refused(path, "damaged file")
        content[position] ^= 1 << position % 8
    end = len(content) - 28 * 8
    for number in range(28):
        content[end + 8 * number : end + 8 * (number + 1)] = bytes(8)
    index.write_bytes(content)
    fisher().dual(out=path)
    assert path.read_bytes() == EXPECTED


def test_records_of_other_tiles_and_files_do_not_count(path):
    _, index = begun(path)
    content = index.read_bytes()
    end = len(content) - 28 * 8
    records = [content[i : i + 8] for i in range(end, len(content), 8)]
    index.write_bytes(content[:end] + b"".join(records[1:] + records[:1]))
    refused(path, "damaged file")


@pytest.mark.parametrize("size", [-1, 1])
def test_wrong_size(path, size):
    part, _ = begun(path)
    os.truncate(part, part.stat().st_size + size)
    refused(path, r"out: expected 51328 bytes in '.*dual.npy.part', got 5132[79]; resume=False")
    fisher().dual(out=path, resume=False)
    os.truncate(path, path.stat().st_size + size)
    refused(path, r"out: expected 51328 bytes in '.*dual.npy', got 5132[79]; resume=False")


def test_wrong_kind_of_file(path):
    part, _ = begun(path)
    with part.open("r+b") as file:
        file.write(b"\x93NUMPX")
    refused(path, "out: expected a 80 x 80 .npy in")


def test_files_without_index(path):
    path.write_bytes(b"precious")
    refused(path, "out: expected no file, or one beside its index, got '.*dual.npy' alone")
    path.rename(path.with_name("dual.npy.part"))
    refused(path, "out: expected no file, or one beside its index, got '.*dual.npy.part' alone")


def test_both_files(path):
    begun(path)
    path.write_bytes(b"precious")
    refused(path, "got both")


def test_unfinished_under_the_finished_name(path):
    part, _ = begun(path)
    part.rename(path)
    refused(path, "tiles are missing")


def test_index_without_data(path):
    part, _ = begun(path)
    part.unlink()
    other = fisher(likelihood="bernoulli")
    other.dual(out=path)
    assert path.read_bytes() == saved(other.dual())


def changed_case(**changes):
    weights, biases, X = list(CASE.net.weights), list(CASE.net.biases), CASE.X
    if changes.get("weight"):
        weights[1] = weights[1].copy()
        weights[1][3, 2] = np.nextafter(weights[1][3, 2], 9)
    if changes.get("bias"):
        biases[0] = biases[0] + 1e-9
    if changes.get("X"):
        X = X.copy()
        X[-1, -1] += 1e-15
    if changes.get("samples"):
        X = X[:-1]
    activation = changes.get("activation", ["tanh", "relu"])
    dtype = changes.get("dtype", "float64")
    weights, biases = ([array.astype(dtype) for array in arrays] for arrays in (weights, biases))
    net = ff.Network(weights, None if changes.get("unbiased") else biases, activation=activation)
    return net, X.astype(dtype)


OTHERS = {
    # field of the index that is named: what differs in it
    "weights": lambda: ff.Fisher(*changed_case(weight=True)),
    "biases": lambda: ff.Fisher(*changed_case(bias=True)),
    "biases ": lambda: ff.Fisher(*changed_case(unbiased=True)),
    "X": lambda: ff.Fisher(*changed_case(X=True)),
    "samples": lambda: ff.Fisher(*changed_case(samples=True)),
    "activation": lambda: ff.Fisher(*changed_case(activation="tanh")),
    "dtype": lambda: ff.Fisher(*changed_case(dtype="float32")),
    "likelihood": lambda: fisher(likelihood="bernoulli"),
    "values of the likelihood": lambda: fisher(likelihood=ff.likelihoods.Gaussian(noise_var=2.0)),
    "kind": lambda: fisher(kind="monte_carlo", samples=2, seed=0),
    "seeds": lambda: fisher(kind="monte_carlo", samples=3, seed=0),
    "layer": lambda: fisher().layer(2),
    "class": lambda: ff.feature_metric(CASE.net, CASE.X),
    "class ": lambda: fisher().centered(),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("finish", [False, True])
def test_other_computations(path, name, finish):
    begun(path)
    if finish:
        fisher().dual(out=path)
    message = f"expected '.*dual.npy' to hold this computation, got one in which {name.strip()} differs .*resume=False"
    refused(path, message, OTHERS[name]())


def test_other_functions_of_the_same_name(path):
    def swish(factor):
        function = lambda u: factor * swish_like(u)  # noqa: E731
        return ff.Fisher(*changed_case(activation=ff.activations.custom(function, name="mine")))

    begun(path, metric=swish(1.0))
    refused(path, "values of the activations differs", swish(1.1))


def test_other_draws(path):
    begun(path, metric=fisher(likelihood="bernoulli", kind="monte_carlo", seed=0))
    refused(path, "likelihood differs", fisher(likelihood="bernoulli", kind="monte_carlo", seed=1))


def test_other_parametrization(path):
    def kernel(**options):
        return ff.TangentKernel(CASE.net, CASE.X, parametrization="ntk", bias_var=0.1, **options)

    begun(path, metric=kernel(weight_var=1.0))
    refused(path, "variances differs", kernel(weight_var=2.0))
    refused(path, "parametrization differs", ff.TangentKernel(CASE.net, CASE.X))


def test_other_builds(path, monkeypatch):
    begun(path)
    for owner, name, value, field in (
        (_native, "level", "v1", "kernels"),
        (gramfile, "version", lambda: "0.0.9", "fisherfield"),
        (np, "__version__", "1.0", "numpy"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, value)
            refused(path, rf"{field} differs \('.*', here '.*'\)")


def test_another_tile(path):
    begun(path)
    refused(path, r"tile: expected 6 or None, to resume '.*dual.npy.part', got 7", tile=7)
    fisher().dual(out=path, tile=6)
    assert path.read_bytes() == EXPECTED


# --- the system -------------------------------------------------------------------------------------------


def test_two_at_once(path):
    """Refused from the same process and, were the lock left to forked children, after them."""
    refusals = []

    def again(done, total):
        if done == 3:
            with pytest.raises(BlockingIOError, match="out: expected a file that no other process writes"):
                fisher().dual(out=path)
            refusals.append(done)

    fisher().dual(out=path, tile=TILE, progress=again)
    assert refusals == [3]
    assert path.read_bytes() == EXPECTED


@pytest.mark.parametrize("other", [{}, {"likelihood": "bernoulli"}])
def test_finished_by_another_process_just_before_the_lock(path, monkeypatch, other):
    """The file appears between the look at it and the lock; it is neither computed again nor overwritten."""
    lock = gramfile.GramFile._lock
    begun(path)

    def late(self):
        monkeypatch.setattr(gramfile.GramFile, "_lock", lock)
        fisher().dual(out=path)
        require_no_work(monkeypatch)
        return lock(self)

    monkeypatch.setattr(gramfile.GramFile, "_lock", late)
    if other:
        with pytest.raises(ValueError, match="likelihood differs"):
            fisher(**other).dual(out=path)
    else:
        fisher().dual(out=path)
    assert path.read_bytes() == EXPECTED


def test_forked_children_do_not_hold_the_lock(path):
    children = []

    def fork(done, total):
        child = os.fork()
        if child == 0:
            time.sleep(60)
        children.append(child)
        raise Stopped

    try:
        with pytest.raises(Stopped):
            fisher().dual(out=path, tile=TILE, progress=fork)
        fisher().dual(out=path)
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)
    assert path.read_bytes() == EXPECTED


def test_paths(tmp_path, path):
    with pytest.raises(TypeError, match=r"out: expected a path or None, got 3"):
        fisher().dual(out=3)
    with pytest.raises(TypeError, match=r"out: expected a path or None, got b'x'"):
        fisher().dual(out=b"x")
    with pytest.raises(IsADirectoryError, match="out: expected a path of a file, got the folder"):
        fisher().dual(out=tmp_path)
    for missing in (tmp_path / "none" / "x.npy", __file__ + "/x.npy"):
        with pytest.raises(FileNotFoundError, match=r"out: expected a path in a folder that exists, got '.*x.npy'"):
            fisher().dual(out=missing)
    with pytest.raises(ValueError, match="resume: expected only together with out"):
        fisher().dual(resume=False)
    with pytest.raises(TypeError, match="resume: expected True or False"):
        fisher().dual(out=path, resume=1)
    with pytest.raises(ValueError, match="tile: expected an integer >= 1"):
        fisher().dual(out=path, tile=0)
    fisher().dual(out=str(path))
    assert path.read_bytes() == EXPECTED


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_where_nothing_can_be_written():
    with pytest.raises(OSError, match=r"out: expected a folder in which files can be written, got .*: '/proc/x.npy"):
        fisher().dual(out="/proc/x.npy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anyway")
def test_read_only_folder(path):
    path.parent.chmod(0o500)
    with pytest.raises(PermissionError, match="out: expected a folder in which files can be written"):
        fisher().dual(out=path)
    path.parent.chmod(0o700)
    fisher().dual(out=path)
    path.parent.chmod(0o500)
    np.testing.assert_array_equal(fisher().dual(out=path), fisher().dual())


def test_a_finished_file_is_only_read(path, monkeypatch):
    fisher().dual(out=path)
    monkeypatch.setattr(gramfile.GramFile, "_lock", None)
    np.testing.assert_array_equal(fisher().dual(out=path), fisher().dual())


def test_full_disk(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(
            OSError, match=r"room for 51328 bytes \(50.12 KiB\), got No space .* with .*iB free"
        ) as caught:
            fisher().dual(out=path)
    assert caught.value.errno == errno.ENOSPC
    assert not path.with_name("dual.npy.part").exists()
    fisher().dual(out=path)
    assert path.read_bytes() == EXPECTED


def test_a_limit_on_the_size_of_files(path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))

    code = f"import test_gramfile as t; t.fisher().dual(out={str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert "out: expected room for 51328 bytes (50.12 KiB), got File too large" in done.stderr
    fisher().dual(out=path)
    assert path.read_bytes() == EXPECTED


def test_errors_while_writing(path, monkeypatch):
    """A failing disk is an error of the call; what was written before stays."""
    calls = iter(range(10000))

    def failing(*_):
        if next(calls) == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", failing)
        patched.setattr(gramfile, "_WAITING", 1)
        with pytest.raises(OSError, match=r"Input/output error") as caught:
            fisher().dual(out=path, tile=TILE)
    assert re.fullmatch(
        r"[1-9]\d* of 28 tiles are kept in '.*dual.npy.part': call again, with resume=True, to go on from there.",
        caught.value.__notes__[0],
    )
    fisher().dual(out=path)
    assert path.read_bytes() == EXPECTED


def test_short_writes(path, monkeypatch):
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:11], at))
    fisher().dual(out=path, tile=TILE)
    assert path.read_bytes() == EXPECTED


def test_nothing_is_left_open(path):
    fisher().dual(out=path, tile=TILE)
    begun(path.with_name("other.npy"))
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    begun(path.with_name("third.npy"))
    assert len(os.listdir("/proc/self/fd")) == files
    assert threading.active_count() == threads
    assert not gramfile._locked
