"""Conditional spectra beside their theory, and the learning rate of online training beside the largest eigenvalue."""

import math

import numpy as np
import pytest

import fisherfield as ff
from fisherfield import theory
from fisherfield.experiments import compare_conditional, learning_rate_boundary, rates_by_depth, top_mass

POINT = ff.isometry_point("hard_tanh", 6, 0.25)


def an_input(dimension, qhat0=1.0, seed=0):
    x = np.random.default_rng(seed).standard_normal(dimension)
    return x * math.sqrt(dimension * qhat0) / np.linalg.norm(x)


# --- spectra ----------------------------------------------------------------------------------------------


def test_comparison_is_what_a_user_would_compute():
    arch = ff.MLP((30, 40, 50, 20), "tanh", weight_var=2.0, bias_var=0.1)
    found = compare_conditional(arch, 0.5, seeds=(4, 9), batch=3)
    for i, seed in enumerate(found.seeds):
        net, X = found.draw(seed)
        np.testing.assert_array_equal(net.weights[0], arch.sample(seed).weights[0])
        np.testing.assert_allclose(np.square(X).mean(axis=1), 0.5, rtol=1e-14)
        one = ff.conditional_fisher(net, X[0])
        np.testing.assert_array_equal(found.eigenvalues[i], one.eigenvalues())
        np.testing.assert_array_equal(found.batch_eigenvalues[i], ff.Fisher(net, X).eigenvalues())
        assert found.top[i] == one.maximum
        assert found.mean[i] == pytest.approx(one.mean, rel=1e-12)
        assert found.variance[i] == pytest.approx(one.variance, rel=1e-10)
    table = found.comparison()
    spectrum = ff.conditional_spectrum(arch, 0.5)
    assert [row.quantity for row in table.rows] == ["top", "mean", "variance", "online rate"]
    assert table["top"].refined == spectrum.maximum
    assert table["online rate"].refined == spectrum.critical_learning_rate()
    assert table["online rate"].measured == tuple(2 / found.top)


@pytest.mark.parametrize("name", ["hard_tanh", "shifted_relu"])
def test_leading_order_is_the_closed_form_of_the_isometry_point(name):
    point = ff.isometry_point(name, 6, 0.25)
    table = compare_conditional(point.architecture(50), point.second_moment, seeds=(0,)).comparison()
    assert table["top"].theory == pytest.approx(50 * point.top, rel=1e-11)
    assert table["top mass"].theory == table["top mass"].refined == pytest.approx(point.top_mass, rel=1e-11)
    assert table["mean"].theory == pytest.approx(50 * point.mean, rel=1e-11)
    assert table["variance"].theory == pytest.approx(50**2 * point.variance, rel=1e-9)
    assert table["online rate"].theory == pytest.approx(2 / (50 * point.top), rel=1e-11)
    assert table["top"].refined > table["top"].theory


def test_leading_order_of_layers_that_differ():
    arch = ff.MLP((20, 50, 40, 10), "tanh", weight_var=(1.0, 2.0, 3.0), bias_var=0.1)
    found = compare_conditional(arch, seeds=(0,))
    widths, spectrum = arch.widths, found.spectrum
    expected = theory.layered_law(
        [m * q for m, q in zip(widths[:-1], spectrum.qhat, strict=True)],
        [2.0, 3.0],
        spectrum.slopes,
        ratios=[40 / 50, 10 / 40],
        init="gaussian",
    )
    assert found.leading_order.mean == pytest.approx(expected.mean, rel=1e-14)
    assert found.leading_order.variance == pytest.approx(expected.variance, rel=1e-12)
    no_bias = compare_conditional(ff.MLP((20, 50, 10), "tanh", bias_var=None), seeds=(0,))
    assert no_bias.leading_order is no_bias.spectrum.law


def test_theory_and_measurement_agree():
    table = compare_conditional(POINT.architecture(300), POINT.second_moment, range(4)).comparison()
    for row, tolerance in zip(table.rows, (0.05, 0.05, 0.03, 0.2, 0.05), strict=True):
        assert abs(row.refined_relative_error) < tolerance, row


def test_the_top_is_that_of_the_slopes_of_the_network():
    found = compare_conditional(POINT.architecture(200), POINT.second_moment, range(2))
    for i, seed in enumerate(found.seeds):
        net, X = found.draw(seed)
        one = ff.conditional_fisher(net, X[0])
        top, mass = theory.top_atom(
            one.squared_norms.tolist(), POINT.weight_var, [float(slope.mean()) for slope in one.slopes]
        )
        assert found.top[i] == pytest.approx(top, rel=1e-12)
        assert found.top_mass[i] == pytest.approx(mass, rel=1e-12)


def test_small_batches_keep_the_shape():
    """Hayase and Karakida (2021): the spectrum of a few inputs stays near its maximum, over which it is seen."""
    found = compare_conditional(POINT.architecture(100), POINT.second_moment, range(2), batch=2)
    assert found.batch_eigenvalues.shape == (2, 200)
    np.testing.assert_allclose(2 * found.batch_eigenvalues.mean(axis=1), found.mean, rtol=0.1)
    assert (found.batch_eigenvalues > 0.6 * found.batch_eigenvalues[:, :1]).mean() > 0.7


def test_masses_in_single_precision():
    found = compare_conditional(POINT.architecture(100), POINT.second_moment, range(2), dtype="float32")
    double = compare_conditional(POINT.architecture(100), POINT.second_moment, range(2))
    assert found.eigenvalues.dtype == np.float32
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found.top_mass, double.top_mass)
    assert top_mass(np.array([[2.0, 2.0 - 1e-7, 1.9, 0.0]])).tolist() == [0.5]


def test_progress_counts_networks():
    calls = []
    compare_conditional(ff.MLP((5, 6, 3)), seeds=range(3), progress=lambda *state: calls.append(state))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"architecture": 3}, TypeError, "architecture: expected an MLP"),
        ({"architecture": ff.ResidualMLP((5, 6, 6, 3))}, ValueError, "architecture"),
        ({"qhat0": 0.0}, ValueError, "qhat0: expected a number > 0"),
        ({"seeds": ()}, ValueError, "seeds: expected at least one"),
        ({"seeds": (1, 1)}, ValueError, "expected different seeds, got 1, 1"),
        ({"seeds": (-1,)}, ValueError, "seeds"),
        ({"seeds": 3}, TypeError, "seeds: expected a sequence"),
        ({"batch": 0}, ValueError, "batch: expected an integer >= 1"),
        ({"batch": 1.5}, TypeError, "batch"),
        ({"dtype": "int8"}, TypeError, "dtype"),
        ({"progress": 3}, TypeError, "progress"),
    ],
)
def test_compare_refuses(change, error, message):
    arguments = {"architecture": ff.MLP((5, 6, 3)), "seeds": (0,), **change}
    with pytest.raises(error, match=message):
        compare_conditional(**arguments)


# --- learning rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "qhat0"),
    [
        (ff.isometry_point("hard_tanh", 5, 0.25).architecture(150), POINT.second_moment),
        (ff.MLP((150,) * 5, "tanh", weight_var=1.5, bias_var=0.05), 1.0),
        (ff.MLP((50, 60, 40, 1), "relu", weight_var=2.0, bias_var=None), 1.0),
        (ff.ResidualMLP((40, 50, 50, 50, 10), "erf", weight_var=1.0, bias_var=0.1), 1.0),
    ],
    ids=["orthogonal", "gaussian", "one output", "residual"],
)
def test_training_finds_the_boundary(arch, qhat0):
    net, x = arch.sample(seed=0), an_input(arch.widths[0], qhat0)
    before = [W.copy() for W in net.weights]
    boundary = learning_rate_boundary(net, x)
    assert boundary == pytest.approx(ff.conditional_fisher(net, x).critical_learning_rate(), rel=5e-3)
    for W, kept in zip(net.weights, before, strict=True):
        np.testing.assert_array_equal(W, kept)


def test_boundary_is_as_accurate_as_asked_for():
    net = ff.MLP((40, 50, 3), "tanh", weight_var=1.5, bias_var=0.05).sample(seed=1)
    x = an_input(40)
    exact = ff.conditional_fisher(net, x).critical_learning_rate()
    errors = [abs(learning_rate_boundary(net, x, tolerance=t, steps=400) / exact - 1) for t in (0.5, 1e-5)]
    assert errors[0] < 0.3
    assert errors[1] < 2e-5


def test_boundary_in_single_precision_and_with_other_activations():
    arch = ff.MLP((30, 40, 20), lambda u: np.sin(u), weight_var=1.0, bias_var=0.1)
    net = arch.sample(seed=0, dtype="float32")
    x = an_input(30).astype(np.float32)
    expected = ff.conditional_fisher(net, x).critical_learning_rate()
    assert learning_rate_boundary(net, x) == pytest.approx(expected, rel=5e-3)


def test_without_gradient_no_rate_is_too_large():
    net = ff.Network([np.zeros((3, 4)), np.zeros((2, 3))], None)
    assert learning_rate_boundary(net, np.ones(4)) == math.inf


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"net": 3}, TypeError, "net: expected"),
        ({"x": np.ones((2, 4))}, ValueError, "x: expected 1 dimension"),
        ({"x": np.ones(5)}, ValueError, "x: expected shape"),
        ({"x": np.ones(4, np.float32)}, TypeError, "x"),
        ({"steps": 1}, ValueError, "steps: expected an integer >= 2"),
        ({"perturbation": 0.0}, ValueError, "perturbation: expected a number > 0"),
        ({"perturbation": 1e-9}, ValueError, "perturbation: expected 1e-07 to 0.01, got 1e-09"),
        ({"tolerance": 1.0}, ValueError, "tolerance: expected a number < 1"),
        ({"tolerance": -1.0}, ValueError, "tolerance: expected a number > 0"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_boundary_refuses(change, error, message):
    arguments = {"net": ff.MLP((4, 3)).sample(seed=0), "x": np.ones(4), **change}
    with pytest.raises(error, match=message):
        learning_rate_boundary(**arguments)


def test_rates_fall_as_one_over_the_depth():
    found = rates_by_depth(depths=(4, 16, 32), eps=0.25, width=200, seeds=range(2))
    assert found.depths == (4, 16, 32)
    assert found.measured.shape == (3, 2)
    for depth, predicted, limit in zip(found.depths, found.predicted, found.limit, strict=True):
        point = ff.isometry_point("hard_tanh", depth, 0.25)
        assert limit == pytest.approx(2 * 0.25 / (200 * point.second_moment * math.expm1(0.25)), rel=1e-12)
        without_biases = 2 * depth / (200 * point.top)
        assert predicted < without_biases
        assert predicted == pytest.approx(without_biases, rel=0.06)  # 1 / (M V)
        assert without_biases == pytest.approx(limit, rel=0.15 / depth)
    np.testing.assert_allclose(found.measured.mean(axis=1), found.predicted, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"depths": ()}, ValueError, "depths: expected at least one"),
        ({"depths": (0,)}, ValueError, "depths: expected an integer >= 1"),
        ({"activation": "tanh"}, ValueError, "slopes are 0 and ±1"),
        ({"width": 0}, ValueError, "width"),
        ({"eps": -1.0}, ValueError, "eps"),
    ],
)
def test_rates_by_depth_refuses(change, error, message):
    with pytest.raises(error, match=message):
        rates_by_depth(**{"depths": (3,), "seeds": (0,), "width": 20, **change})
