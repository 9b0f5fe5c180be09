"""The largest eigenpairs: of explicit matrices, and of metrics against dense answers."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield.eigenpairs import block_lanczos
from test_products import build

from cases import cases, make_case

CLOSE = {"float64": 1e-9, "float32": 2e-5}


def matrix_of(spectrum, seed=0, dtype="float64"):
    n = len(spectrum)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    return ((Q * spectrum) @ Q.T).astype(dtype)


def search(matrix, k, *, start=None, tol=1e-8, max_products=2000, max_basis=None, seed=0):
    rng = np.random.default_rng(seed)
    start = rng.standard_normal((k, len(matrix))).astype(matrix.dtype) if start is None else start
    return block_lanczos(
        lambda rows: rows @ matrix,
        start,
        k,
        tol=tol,
        max_products=max_products,
        max_basis=max_basis or max(20, 4 * k),
        rng=rng,
        method="matrix-free",
    ).pairs


SPECTRA = {
    "decay": lambda n: 0.8 ** np.arange(n),
    "one outlier": lambda n: np.r_[100.0, np.linspace(1, 0, n - 1)],
    "repeated": lambda n: np.r_[np.full(min(3, n), 5.0), np.linspace(1, 0.1, n)[: n - min(3, n)]],
    "low rank": lambda n: np.r_[np.arange(3.0, 0, -1)[: min(3, n)], np.zeros(n - min(3, n))],
    "identity": lambda n: np.ones(n),
    "zero": lambda n: np.zeros(n),
}


@given(
    st.sampled_from(sorted(SPECTRA)),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from(["float64", "float32"]),
    st.integers(0, 99),
)
def test_of_explicit_matrices(kind, n, k, dtype, seed):
    k = min(k, n)
    spectrum = SPECTRA[kind](n)
    matrix = matrix_of(spectrum, seed, dtype)
    found = search(matrix, k, seed=seed)
    scale = max(spectrum[0], 1e-30)
    assert found.converged
    np.testing.assert_allclose(found.values, np.sort(spectrum)[::-1][:k], atol=CLOSE[dtype] * scale)
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(k), atol=CLOSE[dtype])
    residuals = np.linalg.norm(matrix @ found.vectors - found.vectors * found.values, axis=0)
    np.testing.assert_allclose(residuals, found.residuals, atol=CLOSE[dtype] * scale)
    assert (np.diff(found.values) <= 0).all()
    assert found.values.dtype == found.vectors.dtype == dtype


def test_restarts_keep_what_was_found():
    """A basis of 2 k + 2 vectors forces restarts; the spectrum is dense at its top."""
    spectrum = np.linspace(1, 0.5, 300) ** 3
    found = search(matrix_of(spectrum), 2, max_basis=8)
    assert found.converged
    assert found.products > 16
    np.testing.assert_allclose(found.values, spectrum[:2], rtol=1e-9)


def test_what_does_not_converge_says_so():
    found = search(matrix_of(np.linspace(1, 0.9, 300)), 1, max_products=5)
    assert not found.converged
    assert found.products == 5
    assert found.residuals[0] > 1e-8
    assert "NOT converged" in repr(found)


def test_start_at_an_eigenvector_needs_one_product():
    spectrum = SPECTRA["decay"](50)
    matrix = matrix_of(spectrum)
    top = np.linalg.eigh(matrix)[1][:, -1:].T
    assert search(matrix, 1, start=top).products == 1


# --- of metrics -----------------------------------------------------------------------------------------


@given(cases(max_width=8, max_samples=8), st.sampled_from(["parameters", "ntk", "features"]), st.data())
def test_methods_agree(case, metric, data):
    fim = build(case, metric)
    if data.draw(st.booleans(), "block"):
        fim = fim.layer(data.draw(st.integers(1, case.net.depth), "l"))
    if data.draw(st.booleans(), "centered"):
        fim = fim.centered()
    k = data.draw(st.integers(1, min(4, fim.rank_bound)), "k")
    values = np.linalg.eigvalsh(fim.dense())[::-1][:k]
    for method in ("auto", "dense", "dual matrix", "matrix-free"):
        found = fim.top_eigenpairs(k, 1e-8, method=method)
        np.testing.assert_allclose(found.values, values, atol=1e-9 * max(abs(values[0]), 1e-12))
        assert found.vectors is None
        assert found.converged
        assert method in ("auto", found.method)


def test_vectors_of_as_many_gradients_as_parameters():
    """The dual is then as large as G, and its eigenvectors are not those of G."""
    fim = ff.Fisher(ff.Network([np.array([[1.0, 2.0]])]), np.array([[1.0, 0.2], [0.3, 1.0]]))
    found = fim.top_eigenpairs(2, vectors=True, method="dense")
    np.testing.assert_allclose(fim.dense() @ found.vectors, found.vectors * found.values, atol=1e-14)


@pytest.mark.parametrize("method", ["dense", "dual matrix", "matrix-free"])
def test_vectors(method):
    case = make_case((5, 8, 8, 3), ("tanh", "relu"), 6)
    fim = ff.Fisher(case.net, case.X)
    found = fim.top_eigenpairs(4, 1e-9, vectors=True, method=method)
    F = fim.dense()
    np.testing.assert_allclose(F @ found.vectors, found.vectors * found.values, atol=1e-7 * found.values[0])
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(4), atol=1e-9)


def large(dtype="float64", samples=2000, **options):
    arch = ff.MLP((20, 24, 24, 4), "tanh", weight_var=3.0, bias_var=0.64)
    X = np.random.default_rng(0).standard_normal((samples, 20)).astype(dtype)
    return ff.Fisher(arch.sample(seed=0, dtype=dtype), X, **options)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_search_from_a_subsample(dtype, likelihood):
    fim = large(dtype, likelihood=likelihood)
    found = fim.top_eigenpairs(3, method="matrix-free")
    dense = large("float64", likelihood=likelihood).top_eigenpairs(3, method="dense")
    assert found.converged
    np.testing.assert_allclose(found.values, dense.values, rtol=CLOSE[dtype])


@pytest.mark.parametrize("kind", ["monte_carlo", "empirical"])
def test_search_from_a_subsample_of_scores(kind):
    """The subsample takes its targets along."""
    options = {"kind": kind, "likelihood": "categorical"}
    if kind == "monte_carlo":
        options |= {"samples": 3, "seed": 0}
    else:
        options["targets"] = np.random.default_rng(1).integers(4, size=2000)
    fim = large(**options)
    found = fim.top_eigenpairs(2, 1e-8, method="matrix-free")
    np.testing.assert_allclose(found.values, fim.top_eigenpairs(2, method="dense").values, rtol=1e-9)
    block = fim.layer(2)
    found = block.top_eigenpairs(2, 1e-8, method="matrix-free")
    np.testing.assert_allclose(found.values, block.top_eigenpairs(2, method="dense").values, rtol=1e-9)


def test_theory_knows_where_to_start():
    """Mean gradients save a third of the products and more, a subsample of the data half of all."""
    arch = ff.MLP((20, 100, 100, 4), "tanh", weight_var=3.0, bias_var=0.64)
    fim = ff.Fisher(arch.sample(seed=0), np.random.default_rng(0).standard_normal((5000, 20)))
    rng = np.random.default_rng(0)

    def products(k, start):
        options = {
            "tol": 1e-2,
            "max_products": 99,
            "max_basis": 40,
            "rng": rng,
            "method": "",
            "guarded": lambda _: False,
        }
        return block_lanczos(fim._times, start, k, **options).pairs.products

    assert products(4, fim.mean_gradients()) <= products(4, rng.standard_normal((4, fim.shape[0]))) * 2 / 3
    anywhere = products(1, rng.standard_normal((1, fim.shape[0])))
    assert fim.top_eigenpairs(1, 1e-2, method="matrix-free").products <= anywhere / 2


def test_of_a_centred_metric_whose_mean_gradients_vanish():
    fim = large(samples=1500).centered()
    found = fim.top_eigenpairs(2, 1e-7, method="matrix-free")
    np.testing.assert_allclose(found.values, fim.top_eigenpairs(2, method="dense").values, rtol=1e-8)


def test_result_does_not_depend_on_the_memory(monkeypatch):
    whole, scarce = large(), large(memory="2 MB")
    assert len(scarce._gradients.ranges) > 1
    V = np.random.default_rng(0).standard_normal((whole.shape[0], 2))
    np.testing.assert_allclose(scarce @ V, whole @ V, atol=1e-12 * np.abs(whole @ V).max())


def test_bad_arguments():
    fim = large(samples=100)
    for options, error, text in (
        ({"k": 0}, ValueError, "k: expected an integer >= 1"),
        ({"k": 401}, ValueError, "k: expected at most min(P, R T) = 400"),
        ({"tol": 0.0}, ValueError, "tol: expected a number > 0"),
        ({"tol": float("nan")}, ValueError, "tol"),
        ({"method": "magic"}, ValueError, "method: expected one of 'auto', 'dense'"),
        ({"vectors": 1}, TypeError, "vectors: expected True or False"),
        ({"max_products": 0}, ValueError, "max_products"),
        ({"start": np.ones(3)}, ValueError, "start: expected shape"),
        ({"start": np.ones(fim.shape[0], "float32")}, TypeError, "start: expected float64 like the metric"),
        ({"start": np.ones(fim.shape[0]), "method": "dense"}, ValueError, "start: expected only together with"),
        ({"start": np.ones((fim.shape[0], 401))}, ValueError, "start: expected at most 400 vectors"),
        ({"seed": -1}, ValueError, "seed"),
    ):
        with pytest.raises(error, match=re.escape(text)):
            fim.top_eigenpairs(**options)


def test_start_is_used():
    fim = large(samples=100)
    found = fim.top_eigenpairs(1, start=fim.top_eigenpairs(1, 1e-8, vectors=True).vectors[:, 0])
    assert found.method == "matrix-free"
    assert found.products < fim.top_eigenpairs(1, method="matrix-free").products


# --- where the top is not where it is looked for ------------------------------------------------------------


def linear_layer(X, **options):
    return ff.Fisher(ff.MLP((X.shape[1], 10), "linear", **options).sample(seed=0), X)


def centred_data():
    """The mean gradient is the eigenvector of the biases, and not the top one."""
    X = np.random.default_rng(0).standard_normal((900, 150)) * np.linspace(0.1, 3, 150)
    return linear_layer(X - X.mean(axis=0), bias_var=0.0)


def mirrored_data():
    """Odd network, odd data: mean gradients lie in the block of the biases."""
    Z = np.random.default_rng(0).standard_normal((400, 30))
    net = ff.MLP((30, 20, 20, 5), "tanh", weight_var=2.0, bias_var=0.0).sample(seed=0)
    return ff.Fisher(net, np.concatenate([Z, -Z]))


def one_hot_data():
    """Eigenvectors of a subsample are eigenvectors of all, in another order."""
    return linear_layer(np.eye(200)[np.random.default_rng(0).integers(200, size=3000)], bias_var=None)


def mirrored_single():
    fim = mirrored_data()
    net = ff.Network([W.astype("f4") for W in fim.net.weights], [b.astype("f4") for b in fim.net.biases])
    return ff.Fisher(net, fim.X.astype("f4"))


@pytest.mark.parametrize("make", [centred_data, mirrored_data, one_hot_data, mirrored_single])
@pytest.mark.parametrize("k", [1, 3])
def test_starts_that_mislead(make, k):
    fim = make()
    found = fim.top_eigenpairs(k, 1e-5, method="matrix-free")
    dense = make().top_eigenpairs(k, method="dense")
    assert found.converged
    np.testing.assert_allclose(found.values, dense.values, rtol=1e-4)


def test_tangent_kernels_of_subsamples_are_smaller():
    """The kernel sums over samples: a subsample's eigenvalues are its share, and believed nevertheless."""
    fim = large(samples=3000)
    kernel = ff.TangentKernel(fim.net, fim.X)
    ours, of_kernel = (metric.top_eigenpairs(1, 1e-2, method="matrix-free") for metric in (fim, kernel))
    np.testing.assert_allclose(of_kernel.values, 3000 * ours.values, rtol=1e-9)
    assert of_kernel.products == ours.products


def test_start_at_other_eigenvectors():
    fim = large(samples=200)
    pairs = fim.top_eigenpairs(5, method="dense", vectors=True)
    found = fim.top_eigenpairs(1, start=pairs.vectors[:, 1:])
    np.testing.assert_allclose(found.values[0], pairs.values[0], rtol=1e-9)


@pytest.mark.parametrize(("dtype", "size"), [("float64", 1e-100), ("float32", 1e-11), ("float64", 1e60)])
@pytest.mark.parametrize("method", ["dense", "dual matrix", "matrix-free"])
def test_scales(dtype, size, method):
    """Eigenvalues are squares: their own squares leave the range."""
    net = ff.MLP((10, 40, 40, 3), "relu", weight_var=2.0, bias_var=None).sample(seed=0)
    X = np.random.default_rng(0).standard_normal((50, 10))
    values = ff.Fisher(net, X).eigenvalues()[:2] * size**2
    net = ff.Network([W.astype(dtype) for W in net.weights], activation="relu")
    found = ff.Fisher(net, (X * size).astype(dtype)).top_eigenpairs(2, 1e-5, method=method)
    assert found.converged
    np.testing.assert_allclose(found.values, values, rtol=1e-4)


@pytest.mark.parametrize("method", ["dense", "dual matrix", "matrix-free"])
def test_more_pairs_than_the_rank(method):
    X = np.repeat(np.random.default_rng(0).standard_normal((2, 10)), 20, axis=0)
    found = linear_layer(X, bias_var=None).layer(1).top_eigenpairs(25, method=method)
    assert found.converged
    assert np.abs(found.values[20:]).max() < 1e-12 * found.values[0]
    assert found.products < 100


def test_many_outputs_within_the_budget():
    """No seeds of C^2 numbers are formed for the start."""
    net = ff.MLP((50, 100, 300), "tanh", weight_var=2.0, bias_var=0.1).sample(seed=0)
    X = np.random.default_rng(0).standard_normal((600, 50))
    fim = ff.Fisher(net, X, likelihood="categorical", memory="50 MB")
    fim.output_seeds = lambda: pytest.fail("seeds were formed")
    assert fim.top_eigenpairs(1, 1e-3).converged


def test_products_stop_where_they_are_told_to():
    fim = large(samples=3000)
    for most in (1, 5, 20):
        assert fim.top_eigenpairs(3, 1e-12, method="matrix-free", max_products=most).products <= most + 5


def test_progress_counts_products():
    seen = []
    found = large().top_eigenpairs(1, method="matrix-free", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert len(seen) == found.iterations
    assert {total for _, total in seen} == {330}


def test_of_a_dual_in_a_file(tmp_path):
    """It is found block by block of rows, and read no more than that at a time."""
    fim = large(samples=500)
    dense = large(samples=500).top_eigenpairs(3, method="dense").values
    fim.dual(out=tmp_path / "dual.npy")
    found = fim.top_eigenpairs(3, 1e-8, vectors=True)
    assert found.method == "dual matrix"
    np.testing.assert_allclose(found.values, dense, rtol=1e-12)
    np.testing.assert_allclose(fim @ found.vectors, found.vectors * found.values, atol=1e-6 * dense[0])
    np.testing.assert_allclose(fim.eigenvalues()[:3], dense, rtol=1e-12)
