"""No bit of a result depends on the number of threads, the tile size, or the other samples."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fisherfield as ff
from child import output_of
from fisherfield import _executor
from fisherfield._native import kernels

from cases import cases, make_case

ONE = ThreadPoolExecutor(1)
POOLS = [ThreadPoolExecutor(n) for n in (2, 4)]
# Widths around and between the panels of the kernels, more than one k-block and column block.
WIDTHS = [(7, 30, 29, 3), (300, 530, 97, 2), (33, 1, 200, 1)]
RESIDUAL = [(7, 29, 29, 29, 3), (33, 277, 277, 277, 2), (30, 1, 1, 1, 1)]


def everything(case, pool, tile):
    fim = ff.Fisher(case.net, case.X, executor=pool)
    stats = fim.statistics() if tile is None else None
    return {
        "forward": case.net(case.X, executor=pool),
        "dual": fim.dual(tile=tile),
        "diagonal": fim.diagonal(),
        "trace": fim.trace(),
        "statistics": stats and (stats.mean, stats.second_moment),
    }


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("widths", WIDTHS + RESIDUAL, ids=str)
@pytest.mark.parametrize("names", [("tanh", "gelu"), ("softplus", "custom")], ids=str)
def test_threads_and_tiles(widths, names, dtype):
    case = make_case(widths, names, 70, dtype=dtype, residual=widths in RESIDUAL)
    expected = everything(case, ONE, None)
    for pool in [*POOLS, None]:
        for tile in (None, 9, 24, 1000):
            for name, value in everything(case, pool, tile).items():
                if value is not None:
                    np.testing.assert_array_equal(value, expected[name], err_msg=f"{name}, tile {tile}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_explicit_matrices(dtype):
    case = make_case((9, 13, 2), ("tanh",), 50, dtype=dtype)
    one = ff.Fisher(case.net, case.X, executor=ONE)
    for pool in POOLS:
        fim = ff.Fisher(case.net, case.X, executor=pool)
        np.testing.assert_array_equal(fim.jacobian(), one.jacobian())
        np.testing.assert_array_equal(fim.dense(), one.dense())
        for block, expected in zip(fim.layer_blocks(), one.layer_blocks(), strict=True):
            np.testing.assert_array_equal(block, expected)


def other_metrics(case, pool):
    """Likelihoods, kinds and metrics beyond the plain Fisher information matrix."""
    net, X, C = case.net, case.X, case.net.num_outputs
    drawn = {"likelihood": "poisson", "kind": "monte_carlo", "samples": 3, "seed": 0}
    metrics = {
        "bernoulli": ff.Fisher(net, X, likelihood="bernoulli", executor=pool),
        "monte carlo": ff.Fisher(net, X / 10, executor=pool, **drawn),
        "empirical": ff.Fisher(net, X, kind="empirical", targets=np.ones((len(X), C), X.dtype), executor=pool),
        "features": ff.feature_metric(net, X, executor=pool),
        "kernel": ff.TangentKernel(net, X, executor=pool),
        "rescaled": ff.TangentKernel(net, X, parametrization="ntk", weight_var=2.0, executor=pool)
        if not net.has_biases
        else ff.TangentKernel(net, X, parametrization="ntk", weight_var=2.0, bias_var=0.1, executor=pool),
    }
    if C > 1:
        metrics["softmax"] = ff.Fisher(net, X, likelihood="softmax", executor=pool)
    metrics["layer"] = metrics["bernoulli"].layer(case.net.depth)
    metrics["centered"] = metrics["kernel"].centered()  # its seeds are unit vectors: no product with the BLAS
    return metrics


@given(st.data(), st.sampled_from(["float64", "float32"]))
@settings(max_examples=25)
def test_any_metric(data, dtype):
    case = data.draw(cases(dtype=dtype, max_width=40, max_samples=40))
    begin = data.draw(st.integers(0, len(case.X) - 1))
    tile = data.draw(st.integers(1, 50))
    one, many = (other_metrics(case, pool) for pool in (ONE, POOLS[1]))
    for name, expected in one.items():
        np.testing.assert_array_equal(many[name].dual(tile=tile), expected.dual(), err_msg=name)
        np.testing.assert_array_equal(many[name].diagonal(), expected.diagonal(), err_msg=name)
        assert many[name].trace() == expected.trace(), name
    np.testing.assert_array_equal(many["kernel"].mean_gradients(), one["kernel"].mean_gradients())
    for trace in (False, True):
        whole = ff.ntk(case.net, case.X, trace=trace, executor=ONE)
        part = ff.ntk(case.net, case.X, case.X[begin:], trace=trace, executor=POOLS[1])
        np.testing.assert_array_equal(part, whole[:, begin:])


@given(st.data(), st.sampled_from(["float64", "float32"]))
@settings(max_examples=60)
def test_any_case(data, dtype):
    case = data.draw(cases(dtype=dtype, max_width=60, max_samples=60))
    tile = data.draw(st.integers(1, 70))
    one = everything(case, ONE, None)
    many = everything(case, POOLS[1], tile)
    for name in ("forward", "dual", "diagonal", "trace"):
        np.testing.assert_array_equal(many[name], one[name], err_msg=name)


@given(st.data(), st.sampled_from(["float64", "float32"]))
@settings(max_examples=60)
def test_sub_batches(data, dtype):
    """The output, gradients and dual entries of a sample do not depend on which samples accompany it."""
    case = data.draw(cases(dtype=dtype, max_width=60, max_samples=60))
    samples = len(case.X)
    begin = data.draw(st.integers(0, samples - 1))
    end = data.draw(st.integers(begin + 1, samples))
    part = slice(begin, end)
    np.testing.assert_array_equal(case.net(case.X[part]), case.net(case.X)[part])
    whole, some = ff.Fisher(case.net, case.X), ff.Fisher(case.net, case.X[part])
    np.testing.assert_array_equal(some.jacobian(), whole.jacobian()[part])
    for layer, expected in zip(some.factors, whole.factors.samples(begin, end), strict=True):
        np.testing.assert_array_equal(layer.A, expected.A)
        np.testing.assert_array_equal(layer.B, expected.B)


@given(st.data(), st.sampled_from(["float64", "float32"]))
def test_forward_with_and_without_derivatives(data, dtype):
    """The network's outputs are those from which the Fisher information matrix is made."""
    case = data.draw(cases(dtype=dtype, max_width=60))
    last = ff.Fisher(case.net, case.X).factors.layers[-1]
    np.testing.assert_array_equal(case.net.affine(case.net.depth - 1, last.A), case.net(case.X))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_of_a_residual_block_do_not_depend_on_the_cut(dtype):
    """Wherever the columns are cut, on a panel of the kernels or not, sums with what is skipped are the same."""
    n, samples = 61, 5
    rng = np.random.default_rng(0)
    W, h, slope, skip = (rng.standard_normal((rows, n)).astype(dtype) for rows in (n, samples, samples, samples))
    delta, phi = rng.standard_normal((2, samples, n)).astype(dtype), ff.activations.get("tanh").native

    def forward(cuts):
        out, pre = np.empty((2, samples, n), dtype)
        for cut in cuts:
            kernels.layer_forward(h, W, None, phi, out, None, *cut, skip, pre)
        return np.stack([out, pre])

    def backward(cuts):
        out = np.empty_like(delta)
        for cut in cuts:
            kernels.layer_backward(delta, W, slope, out, *cut, True)
        return out

    for step in (forward, backward):
        for cuts in ([(0, 1), (1, 61)], [(0, 7), (7, 24), (24, 61)], [(l, l + 1) for l in range(61)]):
            np.testing.assert_array_equal(step(cuts), step([(0, 61)]))


@pytest.mark.parametrize("name", ff.activations.available())
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_activations_do_not_depend_on_the_cut(name, dtype):
    """Where an entry lies in an array, in the vector body or the remainder, does not change its values."""
    phi = ff.activations.get(name)
    u = np.random.default_rng(0).normal(scale=3, size=203).astype(dtype)
    whole = phi.evaluate(u, order=2)
    for begin, end in [(0, 1), (0, 7), (1, 18), (3, 203), (190, 203), (17, 82)]:
        for part, expected in zip(phi.evaluate(u[begin:end], order=2), whole, strict=True):
            np.testing.assert_array_equal(part, expected[begin:end])


def test_number_of_threads_from_the_environment(monkeypatch):
    monkeypatch.setenv("FISHERFIELD_NUM_THREADS", "3")
    assert _executor.num_threads() == 3
    for wrong in ("0", "-1", "many", "2.5", ""):
        monkeypatch.setenv("FISHERFIELD_NUM_THREADS", wrong)
        with pytest.raises(ValueError, match=f"FISHERFIELD_NUM_THREADS: expected .* got '?{wrong}"):
            _executor.num_threads()
    monkeypatch.delenv("FISHERFIELD_NUM_THREADS")
    assert _executor.num_threads() >= 1


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_and_interrupts_come_out_of_the_pool(threads):
    """An exception in a task is raised only once no task is running any more."""
    finished = []

    def task(item):
        if item == 3:
            raise KeyboardInterrupt
        finished.append(item)

    with ThreadPoolExecutor(threads) as pool, pytest.raises(KeyboardInterrupt):
        _executor.run(task, range(1000), pool)
    assert len(finished) < 1000


def test_a_pool_inside_its_own_task():
    """Asking for a Fisher information matrix from a task of the same pool of two does not deadlock."""
    case = make_case((30, 100, 1), ("tanh",), 60)
    expected = ff.Fisher(case.net, case.X).dual()
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(lambda: ff.Fisher(case.net, case.X, executor=pool).dual(tile=10)) for _ in range(8)]
        for job in jobs:
            np.testing.assert_array_equal(job.result(timeout=60), expected)


def test_one_matrix_asked_from_many_threads():
    case = make_case((30, 40, 2), ("tanh",), 90)
    expected = ff.Fisher(case.net, case.X)
    shared = ff.Fisher(case.net, case.X)
    with ThreadPoolExecutor(8) as callers:
        calls = [callers.submit(getattr(shared, name)) for name in ("dual", "trace", "diagonal", "eigenvalues") * 4]
        for call, name in zip(calls, ("dual", "trace", "diagonal", "eigenvalues") * 4, strict=True):
            np.testing.assert_array_equal(call.result(timeout=60), getattr(expected, name)())


def test_a_failing_progress_report_leaves_no_half_made_answer():
    case = make_case((30, 40, 2), ("tanh",), 90)

    def stop(done, total):
        if done == 3:
            raise RuntimeError("stop")

    fim = ff.Fisher(case.net, case.X)
    with pytest.raises(RuntimeError, match="stop"):
        fim.dual(tile=10, progress=stop)
    np.testing.assert_array_equal(fim.dual(), ff.Fisher(case.net, case.X).dual())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_start_their_own_pool():
    code = """
import os, warnings
warnings.simplefilter("ignore")
import fisherfield as ff, numpy as np
net, X = ff.MLP(widths=(30, 40, 1)).sample(seed=0), np.ones((300, 30))
before = ff.Fisher(net, X).dual(tile=24)
child = os.fork()
if child == 0:
    os._exit(0 if (ff.Fisher(net, X).dual(tile=24) == before).all() else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert output_of(code, FISHERFIELD_NUM_THREADS="2") == "0\n"
