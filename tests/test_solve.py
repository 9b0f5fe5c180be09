"""Damped systems against dense solves, by every method and of every metric."""

import re
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fisherfield as ff
from test_kinds import laws_for, likelihood_of, moderate
from tolerances import assert_close

from cases import cases, make_case


def dense(metric, g, damping):
    G = np.asarray(metric.dense(), np.float64)
    return np.linalg.solve(G + damping * np.eye(len(G)), np.asarray(g, np.float64))


@settings(max_examples=40)
@given(cases(), st.data(), st.sampled_from([1e-3, 0.1, 10.0]), st.sampled_from(["auto", "dense", "matrix-free"]))
def test_every_method(case, data, damping, method):
    assume(case.smooth_here and moderate(case.net(case.X)))
    law = data.draw(st.sampled_from(laws_for(case.net.num_outputs)))
    fim = ff.Fisher(case.net, case.X, likelihood=likelihood_of(law, case.net.num_outputs))
    g = np.random.default_rng(0).standard_normal((fim.shape[0], data.draw(st.integers(1, 3))))
    condition = 1 + fim.trace() / damping
    assume(condition < 1e6)
    expected = dense(fim, g, damping)
    # conjugate gradients stop at a residual, which the condition number turns into an error
    tolerance = 1e-9 if method != "matrix-free" else max(1e-9, 1e-12 * condition)
    assert_close(fim.solve(g, damping, method=method, tol=1e-12), expected, tolerance=tolerance)
    assert_close(fim.solve(g[:, 0], damping, method=method, tol=1e-12), expected[:, 0], tolerance=tolerance)


def metrics():
    net = ff.MLP((6, 15, 12, 3), "tanh", weight_var=2.0, bias_var=0.3).sample(seed=0)
    X, y = np.random.default_rng(0).standard_normal((9, 6)), np.arange(9) % 3
    fim = ff.Fisher(net, X, likelihood="categorical")
    return {
        "Fisher": ff.Fisher(net, X),
        "categorical": fim,
        "empirical": ff.Fisher(net, X, likelihood="categorical", kind="empirical", targets=y),
        "layer": fim.layer(2),
        "centered": ff.Fisher(net, X).centered(),
        "features": ff.feature_metric(net, X),
        "tangent kernel": ff.TangentKernel(net, X, parametrization="ntk"),
        "more samples than parameters": ff.Fisher(
            ff.MLP((2, 3, 1), "tanh").sample(seed=0), np.random.default_rng(0).standard_normal((70, 2))
        ),
    }


@pytest.mark.parametrize("method", ["dense", "matrix-free"])
@pytest.mark.parametrize("name", list(metrics()))
def test_every_metric(name, method):
    metric = metrics()[name]
    g = np.random.default_rng(1).standard_normal(metric.shape[0])
    assert_close(metric.solve(g, 0.01, method=method, tol=1e-13), dense(metric, g, 0.01), tolerance=1e-9)


def test_details():
    fim = metrics()["Fisher"]
    g = np.random.default_rng(1).standard_normal((fim.shape[0], 2))
    direct, iterated = (fim.solve(g, 0.1, method=method, details=True) for method in ("dense", "matrix-free"))
    assert (direct.method, iterated.method) == ("dense", "matrix-free")
    assert direct.products == 4  # one of refinement and one to tell the residual, of two vectors
    assert iterated.products > 2
    assert direct.converged
    assert iterated.converged
    assert direct.residual < 1e-12
    assert iterated.residual < 2e-10
    for found in (direct, iterated):
        left = g - fim.dense() @ found.x - 0.1 * found.x
        residual = (np.linalg.norm(left, axis=0) / np.linalg.norm(g, axis=0)).max()
        assert found.residual == pytest.approx(residual, rel=0.2, abs=1e-14)
    assert (fim.solve(np.zeros_like(g), 0.1, method="matrix-free") == 0).all()


def test_what_does_not_converge_warns():
    fim = metrics()["Fisher"]
    g = np.random.default_rng(1).standard_normal(fim.shape[0])
    with pytest.warns(RuntimeWarning, match=r"solve\(\): reached a residual of .* in 3 products, not 1e-10"):
        found = fim.solve(g, 1e-6, method="matrix-free", max_products=3, details=True)
    assert not found.converged
    assert found.residual > 1e-3


def test_automatic_choice(monkeypatch):
    """Small duals are factorised; large ones where they fit and take fewer operations than products."""
    few = ff.Fisher(*wide(100))
    assert few.solve(np.ones(few.shape[0]), details=True).method == "dense"
    many = ff.Fisher(*wide(1500))
    assert many.solve(np.ones(many.shape[0]), 10.0, details=True, tol=1e-3).method == "matrix-free"
    assert many.solve(np.ones(many.shape[0]), 1e-5, details=True).method == "dense"
    full = ff.Fisher(*wide(1500))
    monkeypatch.setattr("fisherfield.solve.available_beside", lambda array: 2**20)
    assert full.solve(np.ones(full.shape[0]), 1.0, details=True, tol=1e-3).method == "matrix-free"


def wide(samples):
    case = make_case((30, 60, 60, 1), ("tanh", "tanh"), samples)
    return case.net, case.X


def test_float32():
    case = make_case((6, 15, 12, 3), ("tanh", "tanh"), 9, dtype="float32")
    fim = ff.Fisher(case.net, case.X)
    g = np.random.default_rng(1).standard_normal(fim.shape[0]).astype("float32")
    for method in ("dense", "matrix-free"):
        found = fim.solve(g, 0.1, method=method, tol=1e-5)
        assert found.dtype == np.float32
        assert_close(found, dense(fim, g, 0.1), tolerance=1e-3)
    with pytest.raises(ValueError, match=r"damping: expected enough to make the matrix positive definite.*float64"):
        ff.Fisher(case.net, np.repeat(case.X, 3, axis=0)).solve(g, 1e-12, method="dense")


def test_errors():
    fim = metrics()["Fisher"]
    g = np.ones(fim.shape[0])
    for change, error, message in (
        ({"g": g[:3]}, ValueError, "g: expected shape"),
        ({"g": g.astype("float32")}, TypeError, "g: expected float64"),
        ({"g": np.full_like(g, np.nan)}, ValueError, "g: expected finite"),
        ({"damping": 0.0}, ValueError, "damping: expected a number > 0"),
        ({"method": "lu"}, ValueError, "method: expected one of"),
        ({"tol": 0}, ValueError, "tol: expected a number > 0"),
        ({"max_products": 0}, ValueError, "max_products: expected an integer >= 1"),
        ({"details": 1}, TypeError, "details: expected True or False"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            fim.solve(**{"g": g, **change})


def test_progress_and_a_step_of_natural_gradient():
    """In function space the damped step moves the outputs by K (K + damping)^-1 of the residual, nearly all of it."""
    net = ff.MLP((20, 100, 100, 1), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0)
    X, y = np.random.default_rng(0).standard_normal((30, 20)), np.zeros((30, 1))
    fim, gradient = ff.Fisher(net, X), ff.loss_gradient(net, X, targets=y)
    seen = []
    step = fim.solve(gradient, 1e-4, method="matrix-free", progress=lambda *counts: seen.append(counts))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    moved = np.einsum("trp,p->tr", fim.jacobian(), step)
    K = fim.dual()
    np.testing.assert_allclose(moved[:, 0], K @ np.linalg.solve(K + 1e-4 * np.eye(30), net(X)[:, 0]), rtol=1e-7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        better = net.with_parameters(net.parameters() - 0.1 * step)
    assert np.square(better(X)).sum() < 0.9 * np.square(net(X)).sum()
