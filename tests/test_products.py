"""Products with a metric and its dual, against the matrices written out."""

import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg, eigsh

import fisherfield as ff
from child import output_of
from fisherfield import likelihoods
from test_kinds import draw_targets, laws_for, likelihood_of, moderate
from tolerances import assert_close, tolerance_of

from cases import cases, make_case

METRICS = ("parameters", "ntk", "features")


def build(case, metric, **options):
    if metric == "features":
        return ff.feature_metric(case.net, case.X, **options)
    if metric == "parameters":
        return ff.Fisher(case.net, case.X, **options)
    variances = {"weight_var": 2.0} | ({"bias_var": 0.5} if case.net.has_biases else {})
    return ff.TangentKernel(case.net, case.X, parametrization="ntk", **variances)


def vectors(n, k, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((n, k)).astype(dtype)


def check_products(metric, tolerance):
    G, dual = metric.dense(), metric.dual()
    V, U = vectors(len(G), 3, metric.dtype), vectors(len(dual), 2, metric.dtype)
    # the size of G V is bounded by that of its terms
    scale, dual_scale = np.abs(G).max() * np.sqrt(len(G)), np.abs(dual).max() * np.sqrt(len(dual))
    assert_close(metric @ V, G @ V, tolerance=tolerance, scale=scale)
    assert_close(metric @ V[:, 0], G @ V[:, 0], tolerance=tolerance, scale=scale)
    assert_close(V.T @ metric, V.T @ G, tolerance=tolerance, scale=scale)
    assert_close(metric.dual_operator() @ U, dual @ U, tolerance=tolerance, scale=dual_scale)


@given(cases(max_width=7, max_samples=7), st.sampled_from(METRICS), st.booleans(), st.data())
def test_of_every_metric(case, metric, centered, data):
    fim = build(case, metric)
    if data.draw(st.booleans(), "block"):
        fim = fim.layer(data.draw(st.integers(1, case.net.depth), "l"))
    fim = fim.centered() if centered else fim
    assume(fim.dense().any())
    check_products(fim, 10 * tolerance_of(case))


@given(cases(max_width=6, max_samples=6), st.sampled_from(["exact", "monte_carlo", "empirical"]), st.data())
def test_of_every_likelihood_and_kind(case, kind, data):
    law = data.draw(st.sampled_from(laws_for(case.net.num_outputs)), "likelihood")
    outputs = case.net(case.X)
    assume(moderate(outputs))
    likelihood = likelihood_of(law, case.net.num_outputs)
    options = {"likelihood": likelihood, "kind": kind}
    if kind == "monte_carlo":
        options |= {"samples": data.draw(st.integers(1, 4), "samples"), "seed": 0}
    if kind == "empirical":
        options["targets"] = draw_targets(law, outputs)
    check_products(ff.Fisher(case.net, case.X, **options), 10 * tolerance_of(case))


@given(cases(max_width=7, max_samples=7), st.sampled_from(METRICS), st.integers(0, 3))
def test_of_float32(case, metric, seed):
    """Against the products in float64 of the same numbers."""
    case = make_case(case.net.widths, case.names, len(case.X), seed=seed, dtype="float32", residual=case.net.residual)
    assume(case.smooth_here)
    fim = build(case, metric)
    exact = build(in_float64(case), metric)
    V = vectors(fim.shape[0], 2, "float32")
    scale = np.abs(exact.dense()).max() * np.sqrt(len(V))
    assume(scale > 1e-10)
    assert_close(fim @ V, exact @ V.astype("float64"), tolerance=3e-5, scale=scale)


def in_float64(case):
    net = case.net
    arrays = [None if part is None else [p.astype("float64") for p in part] for part in (net.weights, net.biases)]
    twin = ff.Network(*arrays, activation=net.activations[: len(case.names)], residual=net.residual)
    return type(case)(twin, case.X.astype("float64"), case.names)


# --- many outputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["gaussian", "categorical", "bernoulli", "poisson", "heteroscedastic"])
def test_of_seeds_that_are_not_held(law):
    """C seeds of C numbers would be more than a sample's signals: they are multiplied without being formed."""
    case = make_case((3, 4, 40), ("tanh",), 5)
    likelihood = likelihoods.Gaussian(noise_var=2.0) if law == "gaussian" else law
    fim = ff.Fisher(case.net, case.X, likelihood=likelihood)
    assert not fim._holds_seeds
    check_products(fim, 1e-11)


@given(
    st.sampled_from(["gaussian", "categorical", "bernoulli", "poisson", "heteroscedastic"]),
    st.integers(1, 6),
    st.integers(1, 4).map(lambda half: 2 * half),
    st.floats(0, 60),
    st.integers(0, 99),
)
def test_seeds_as_maps(law, samples, outputs, spread, seed):
    rng = np.random.default_rng(seed)
    f = spread * rng.standard_normal((samples, outputs))
    likelihood = likelihoods.get(law)
    S = likelihood.seeds(f)
    u, y = rng.standard_normal(S.shape[:2]), rng.standard_normal(f.shape)
    bound = max(np.abs(S).max(), 1e-300)
    assert_close(likelihood.seeds_times(f, u), np.einsum("rtk,rt->tk", S, u), tolerance=1e-12, scale=10 * bound)
    assert_close(
        likelihood.seeds_transposed_times(f, y), np.einsum("rtk,tk->rt", S, y), tolerance=1e-12, scale=10 * bound
    )


# --- budgets, storage, threads --------------------------------------------------------------------------


def wide(dtype="float64", outputs=5, samples=600, **options):
    net = ff.MLP((30, 50, 40, outputs), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=0, dtype=dtype)
    return ff.Fisher(net, np.random.default_rng(0).standard_normal((samples, 30)).astype(dtype), **options)


@pytest.mark.parametrize("outputs", [1, 5])
def test_bits_do_not_depend_on_what_is_kept(outputs, monkeypatch):
    monkeypatch.setattr("fisherfield.network_metric.BATCH_BYTES", 2**17)
    V, found = vectors(wide(outputs=outputs).shape[0], 2, "float64"), []
    for memory in ("1 GB", "800 kB", "300 kB"):
        fim = wide(outputs=outputs, memory=memory)
        first = fim @ V
        np.testing.assert_array_equal(fim @ V, first)
        found.append((len(fim._held_batches), first))
    kept = [count for count, _ in found]
    assert kept[0] > kept[1] > kept[2]
    for _, product in found[1:]:
        np.testing.assert_array_equal(product, found[0][1])


@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bits_do_not_depend_on_threads(outputs, dtype):
    V = vectors(wide(dtype, outputs).shape[0], 2, dtype)
    U = vectors(600 * outputs, 2, dtype)
    found = []
    for workers in (1, 2, 3, 5):
        with ThreadPoolExecutor(workers) as pool:
            fim = wide(dtype, outputs, executor=pool)
            found.append((fim @ V, fim.dual_operator() @ U))
    for product, dual_product in found[1:]:
        np.testing.assert_array_equal(product, found[0][0])
        np.testing.assert_array_equal(dual_product, found[0][1])


@pytest.mark.parametrize("outputs", [1, 5])
def test_factors_held_in_single_precision(outputs):
    V = vectors(wide(outputs=outputs).shape[0], 2, "float64")
    exact, rounded = wide(outputs=outputs) @ V, wide(outputs=outputs, storage="float32") @ V
    assert rounded.dtype == np.float64
    error = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-10 < error < 1e-6


def test_budgets_that_cannot_be():
    for memory, text in (
        ("a lot", "memory: expected bytes, as a number or like '4 GB'"),
        ("3 XB", "memory: expected bytes"),
        (0, "memory: expected a number > 0"),
        (-1.0, "memory: expected a number > 0"),
        (float("inf"), "memory: expected a finite number"),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            wide(memory=memory)
    with pytest.raises(MemoryError, match=r"memory: expected at least .* for one sample, got 1000 B"):
        wide(memory="1 kB") @ vectors(wide().shape[0], 1, "float64")
    with pytest.raises(ValueError, match="storage: expected at most the precision of the network, float32"):
        wide("float32", storage="float64")
    with pytest.raises(TypeError, match="storage"):
        wide(storage="int8")


# --- operators ------------------------------------------------------------------------------------------


def test_operators_of_scipy():
    fim = wide(samples=60)
    F, dual = fim.dense(), fim.dual()
    for operator, matrix in ((fim.as_linear_operator(), F), (fim.dual_operator(), dual)):
        assert isinstance(operator, LinearOperator)
        assert operator.shape == matrix.shape
        assert operator.dtype == matrix.dtype
        v = vectors(len(matrix), 1, "float64")
        np.testing.assert_allclose(operator @ v, matrix @ v, atol=1e-12 * np.abs(matrix @ v).max())
        np.testing.assert_allclose(operator.H @ v[:, 0], matrix @ v[:, 0], atol=1e-12 * np.abs(matrix @ v).max())
        np.testing.assert_allclose(operator.T.matmat(v), operator.rmatmat(v))
        top = eigsh(operator, 2, v0=v[:, 0])[0]
        np.testing.assert_allclose(top, np.linalg.eigvalsh(matrix)[-2:], rtol=1e-10)
    damped = fim.as_linear_operator() + 0.1 * aslinearoperator(np.eye(len(F)))
    x, status = cg(damped, F[:, 0], rtol=1e-10)
    assert status == 0
    np.testing.assert_allclose(x, np.linalg.solve(F + 0.1 * np.eye(len(F)), F[:, 0]), atol=1e-8)


def test_vectors_that_do_not_fit():
    fim = wide(samples=50)
    P = fim.shape[0]
    for V, error, text in (
        (np.ones(P - 1), ValueError, f"V: expected shape ({P}), got"),
        (np.ones((2, P)), ValueError, f"V: expected shape ({P}, any), got (2, {P})"),
        (np.ones((P, 0)), ValueError, "V: expected at least one entry"),
        (np.ones((P, 1, 1)), ValueError, "V: expected 2 dimensions"),
        (np.ones(P, "float32"), TypeError, "V: expected float64 like the metric, got float32"),
        (np.ones(P, int), TypeError, "V: expected a float32 or float64 array"),
        (np.ones(P, complex), TypeError, "V: expected a float32 or float64 array"),
        (np.full(P, np.nan), ValueError, "V: expected finite numbers"),
        ("vector", TypeError, "V"),
    ):
        with pytest.raises(error, match=re.escape(text)):
            fim @ V
    with pytest.raises(TypeError, match="V: expected float64 like the operator"):
        fim.dual_operator() @ np.ones(250, "float32")


def test_overflow_is_told():
    case = make_case((3, 4, 2), ("linear",), 5, dtype="float32")
    net = ff.Network([1e10 * W for W in case.net.weights], case.net.biases, activation="linear")
    with pytest.raises(ValueError, match="the product: expected finite numbers"):
        ff.Fisher(net, 1e9 * case.X) @ np.full(net.num_parameters, 1e10, "float32")


def test_storage_without_the_range():
    case = make_case((10, 20, 2), ("relu",), 5, biases=False)
    for size in (1e-50, 1e50):
        with pytest.raises(ValueError, match="storage: expected factors within the range of float32"):
            ff.Fisher(case.net, size * case.X, storage="float32") @ np.ones(case.net.num_parameters)


def test_masked_vectors():
    fim = wide(samples=50)
    V = np.ma.array(np.ones(fim.shape[0]), mask=True)
    for product in (lambda: fim @ V, lambda: V @ fim):
        with pytest.raises(ValueError, match="V: expected numbers only, got masked entries"):
            product()


def test_pickles_hold_no_results():
    options = {"likelihood": "categorical", "kind": "monte_carlo", "seed": 0}
    fim = ff.Fisher(wide().net, wide().X, samples=2, **options)
    v = np.ones(fim.shape[0])
    small = len(pickle.dumps(fim))
    product = fim @ v
    fim.dual()
    assert len(pickle.dumps(fim)) < small + 600 * 100
    with ThreadPoolExecutor(2) as pool:
        again = pickle.loads(pickle.dumps(wide(executor=pool)))
        np.testing.assert_array_equal(again @ np.ones(fim.shape[0]), wide() @ np.ones(fim.shape[0]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fim)) @ v, product)


# --- costs ----------------------------------------------------------------------------------------------


def test_costs():
    fim = wide(samples=600)
    widths, T, R = fim.net.widths, 600, 5
    product, dual = fim.estimate("product"), fim.estimate("dual")
    assert product.flops == 8 * T * sum(a * b for a, b in pairwise(widths))
    assert dual.bytes >= (R * T) ** 2 * 8
    assert dual.flops > T**2 * R**2 * sum(widths[1:])
    assert product.seconds > 0
    assert "operations, about" in str(dual)
    assert wide(outputs=1).estimate("product").flops == 4 * T * (30 * 50 + 50 * 40 + 40)
    for what in ("eigenvalues", "dense", "jacobian", "diagonal", "top_eigenpairs"):
        assert fim.estimate(what).bytes > 0
        assert fim.centered().estimate(what).flops > 0
    with pytest.raises(ValueError, match="what: expected one of 'dual'"):
        fim.estimate("everything")


def test_refusals_tell_the_cost(monkeypatch):
    fim = wide()
    monkeypatch.setattr("fisherfield._memory.available_bytes", lambda: 10**6)
    with pytest.raises(MemoryError, match=r"3000 x 3000 dual matrix .*operations.* needs .* use a file"):
        fim.dual()


def test_sums_over_batches_tell_their_progress(monkeypatch):
    monkeypatch.setattr("fisherfield.network_metric.BATCH_BYTES", 2**17)
    seen = []
    wide().mean_gradients(progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 2
    assert seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]


def test_diagonals_tell_how_many_samples_are_done():
    fim, seen = wide(), []
    fim.diagonal(progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 1
    assert {total for _, total in seen} == {fim.num_samples} == {seen[-1][0]}
    assert (np.diff([done for done, _ in seen]) > 0).all()


# --- interruption ---------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, threading, time
import numpy as np
import fisherfield as ff
net = ff.MLP((500, 1000, 1000, 10), "tanh").sample(seed=0)
fim = ff.Fisher(net, np.ones((6000, 500)))
def interrupt():
    print(time.time())
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(2, interrupt).start()
try:
    while True:
        fim.top_eigenpairs(3, 1e-12, method="matrix-free", start=np.random.default_rng(0).standard_normal(fim.shape[0]))
except KeyboardInterrupt:
    print(time.time())
"""


def test_interrupts_are_heard_between_layers():
    """An interrupt falls into kernels of some milliseconds each: what runs ends, the rest is dropped."""
    sent, heard = map(float, output_of(INTERRUPTED).split())
    assert 0 <= heard - sent < 1
