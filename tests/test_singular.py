"""Singular models: the cone against direct optimisation and differences, two units against the measuring side."""

import math
import re
import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad, solve_ivp

mpl.use("Agg")
from matplotlib import pyplot as plt

import fisherfield as ff
from fisherfield.learning.singular import (
    METHODS,
    ConeModel,
    TwoUnits,
    generalization_table,
    slow_manifold,
)
from fisherfield.plot import singular as plot
from tolerances import assert_close

openings = st.floats(0.1, 4)
dimensions = st.integers(1, 5)
sizes = st.floats(-2, 2)
angles = st.floats(-3, 3)


def unit_vectors(n, d, seed=0):
    omega = np.random.default_rng(seed).standard_normal((n, d + 1))
    return omega / np.linalg.norm(omega, axis=1, keepdims=True)


def refused(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


# --- cone: geometry and metric ------------------------------------------------------------------------------


@given(openings, dimensions, st.integers(0, 99))
def test_means_lie_on_the_cone(c, d, seed):
    omega, xi = unit_vectors(7, d, seed), np.linspace(-1, 2, 7)
    mean = ConeModel(c, d).mean(xi, omega)
    assert mean.shape == (7, d + 2)
    assert_close(np.linalg.norm(mean, axis=1), np.abs(xi))
    assert_close(np.linalg.norm(mean[:, 1:], axis=1), c * np.abs(mean[:, 0]), scale=1 + c)
    assert_close(mean[:, 1:], c * mean[:, :1] * omega, scale=1 + c)


def by_differences(model, xi, omega, h=1e-5):
    """The metric from differences of the mean, along xi and d great circles through omega."""
    tangents = np.linalg.svd(omega[None])[2][1:]  # orthonormal, and orthogonal to omega
    steps = [(model.mean(xi + h, omega) - model.mean(xi - h, omega)) / (2 * h)]
    for tangent in tangents:
        ahead, behind = (math.cos(h) * omega + sign * math.sin(h) * tangent for sign in (1, -1))
        steps.append((model.mean(xi, ahead) - model.mean(xi, behind)) / (2 * h))
    return np.array(steps) @ np.array(steps).T


@given(openings, dimensions, sizes, st.integers(0, 99))
def test_metric(c, d, xi, seed):
    model = ConeModel(c, d)
    expected = by_differences(model, xi, unit_vectors(1, d, seed)[0])
    found = model.fisher(xi)
    assert_close(found, expected, tolerance=1e-9, scale=5)  # differences of step 1e-5
    eigenvalues = np.linalg.eigvalsh(found)
    assert model.smallest_eigenvalue(xi) == pytest.approx(eigenvalues[0], rel=1e-14)
    assert model.determinant(xi) == pytest.approx(np.prod(eigenvalues), rel=1e-12)


def test_metric_vanishes_at_the_apex():
    model = ConeModel(1.5, 3)
    assert model.determinant(0) == model.smallest_eigenvalue(0) == 0
    assert model.smallest_eigenvalue(0.02) / model.smallest_eigenvalue(0.01) == pytest.approx(4)
    assert model.determinant(0.02) / model.determinant(0.01) == pytest.approx(2**6)


@given(openings, dimensions, sizes, sizes, angles, angles)
def test_divergence_is_half_the_squared_distance(c, d, xi, goal, theta, zero):
    model = ConeModel(c, d)
    circle = [np.array([math.cos(angle), math.sin(angle), *[0.0] * (d - 1)]) for angle in (theta, zero)]
    expected = ((model.mean(xi, circle[0]) - model.mean(goal, circle[1])) ** 2).sum() / 2
    assert float(model.divergence(xi, theta, (goal, zero))) == pytest.approx(expected, rel=1e-10, abs=1e-15)


# --- cone: estimation ---------------------------------------------------------------------------------------


@given(openings, st.integers(0, 999))
def test_maximum_likelihood_against_a_search_over_angles(c, seed):
    """With d = 1: the best of 20,001 angles, each with its best xi, on both nappes."""
    model, y = ConeModel(c, 1), np.random.default_rng(seed).standard_normal((3, 3))
    found = model.maximum_likelihood(y)
    theta = np.linspace(0, 2 * np.pi, 20_001)
    directions = model.mean(np.ones(len(theta)), np.column_stack([np.cos(theta), np.sin(theta)]))
    projections = y @ directions.T  # the best xi of a direction, whose length is one
    best = np.abs(projections).argmax(axis=1)
    xi = projections[np.arange(3), best]
    assert_close(found.xi, xi, tolerance=1e-6)  # quadratic in the step of 3e-4
    fitted = xi[:, None] * directions[best]
    assert_close(model.mean(found.xi, found.omega), fitted, tolerance=1e-3)


@given(openings, dimensions, st.integers(0, 999))
def test_maximum_likelihood_beats_random_points_and_is_stationary(c, d, seed):
    model, rng = ConeModel(c, d), np.random.default_rng(seed)
    y = rng.standard_normal(d + 2)
    found = model.maximum_likelihood(y)
    fitted = model.mean(found.xi, found.omega)
    distance = ((y - fitted) ** 2).sum()
    near = found.omega + rng.standard_normal((200, d + 1)) * np.geomspace(1e-3, 2, 200)[:, None]
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    xi = found.xi + rng.standard_normal(200) * np.geomspace(1e-3, 2, 200)
    assert (((y - model.mean(xi, near)) ** 2).sum(axis=1) >= distance - 1e-12).all()
    assert abs((y - fitted) @ fitted) < 1e-12 * (1 + y @ y)  # Pythagoras


def test_maximum_likelihood_is_vectorised_and_keeps_the_precision():
    model, y = ConeModel(1.5, 3), np.random.default_rng(0).standard_normal((4, 6, 5))
    found = model.maximum_likelihood(y)
    assert found.xi.shape == (4, 6)
    assert found.omega.shape == (4, 6, 4)
    one = model.maximum_likelihood(y[2, 3])
    assert_close(one.omega, found.omega[2, 3], tolerance=1e-15)
    small = model.maximum_likelihood(y.astype(np.float32))
    assert small.xi.dtype == small.omega.dtype == np.float32
    assert_close(small.xi, found.xi.astype(np.float32))


def test_maximum_likelihood_where_it_is_not_unique():
    model = ConeModel(2.0, 1)
    on_the_axis = model.maximum_likelihood([-3.0, 0.0, 0.0])
    assert on_the_axis.xi == pytest.approx(-3 / math.sqrt(5))
    assert on_the_axis.omega.tolist() == [-1.0, 0.0]
    across = model.maximum_likelihood([0.0, 0.0, 3.0])
    assert across.xi == pytest.approx(6 / math.sqrt(5))
    assert across.omega.tolist() == [0.0, 1.0]
    assert model.maximum_likelihood(np.zeros(3)).xi == 0


@pytest.mark.parametrize(("c", "d"), [(0.3, 1), (1.5, 3), (3.0, 6)])
def test_generalization_error_against_an_integral(c, d):
    """Over |y_1|, half a Gaussian, and |y'|, a chi law of d + 1 degrees."""

    def density(r, x):
        chi = r**d * math.exp(-r * r / 2) / (2 ** ((d - 1) / 2) * math.gamma((d + 1) / 2))
        return (x + c * r) ** 2 * chi * math.exp(-x * x / 2) * math.sqrt(2 / math.pi)

    expected = dblquad(density, 0, 12, 0, 15)[0] / (2 * (1 + c * c))
    model = ConeModel(c, d)
    assert model.generalization_error() == pytest.approx(expected, rel=1e-8)
    assert model.training_error() == -model.generalization_error()


def test_reference_value():
    model = ConeModel(1.5, 3)
    assert round(model.generalization_error(), 4) == 2.2308
    assert model.regular_error() == 2


@pytest.mark.parametrize(("c", "d"), [(0.5, 1), (1.5, 3), (3.0, 10)])
def test_simulation_agrees(c, d):
    model = ConeModel(c, d)
    found = model.simulate(200_000, seed=1)
    assert found == model.simulate(200_000, seed=1)
    assert abs(found.generalization - model.generalization_error()) < 4 * found.generalization_deviation
    assert abs(found.training - model.training_error()) < 4 * found.training_deviation
    assert 0 < found.generalization_deviation < 0.01


def test_far_from_the_apex_the_model_is_regular():
    model = ConeModel(1.5, 3)
    for sign in (1, -1):
        found = model.simulate(200_000, xi=40.0 * sign, seed=2)
        assert abs(found.generalization - model.regular_error()) < 4 * found.generalization_deviation
        assert abs(found.training + model.regular_error()) < 4 * found.training_deviation


@given(st.lists(openings, min_size=1, max_size=3), st.lists(dimensions, min_size=1, max_size=3))
def test_table(cs, ds):
    table = generalization_table(cs, ds)
    assert table.cs == tuple(cs)
    assert table.ds == tuple(ds)
    assert table.singular.tolist() == [[ConeModel(c, d).generalization_error() for d in ds] for c in cs]
    assert table.regular.tolist() == [(d + 1) / 2 for d in ds]


# --- cone: flows --------------------------------------------------------------------------------------------


@given(openings, sizes, angles, sizes, angles)
def test_velocity_is_the_gradient_of_the_divergence(c, xi, theta, goal, zero):
    """By differences; the natural one through the inverse of the metric, itself from differences of the mean."""
    assume(abs(xi) > 0.05)
    model, h, target = ConeModel(c, 1), 1e-5, (goal, zero)
    gradient = [
        (model.divergence(xi + a, theta + b, target) - model.divergence(xi - a, theta - b, target)) / (2 * h)
        for a, b in ((h, 0.0), (0.0, h))
    ]
    assert_close(model.velocity(xi, theta, target), -np.array(gradient), tolerance=1e-9, scale=5)
    metric = by_differences(model, xi, np.array([math.cos(theta), math.sin(theta)]))
    natural = -np.linalg.solve(metric, gradient)
    assert_close(
        model.velocity(xi, theta, target, "natural"), natural, tolerance=1e-8, scale=5 / model.fisher(xi)[1, 1]
    )


def test_velocity_broadcasts():
    rates = ConeModel(1.5, 1).velocity(np.linspace(0.1, 1, 5), np.zeros((3, 1)), (1.0, 0.0), "natural")
    assert [rate.shape for rate in rates] == [(3, 5), (3, 5)]


@pytest.mark.parametrize("d", [1, 3])
def test_reference_flows(d):
    model, target = ConeModel(1.5, d), (1.0, 0.0)
    standard, natural = (model.flow((0.02, 1.8), target, method) for method in METHODS)
    assert round(standard.time, 1) == 11.9
    assert round(natural.time, 2) == 4.26
    assert standard.reached
    assert natural.reached
    assert standard.divergence[-1] == pytest.approx(1e-4, rel=1e-6)
    wrong, right = (model.flow((0.02, 3.1), target, method) for method in METHODS)
    assert wrong.status == "stationary"
    assert round(float(wrong.xi[-1]), 3) == -0.385
    assert wrong.xi[-1] == pytest.approx((1 - 1.5**2) / (1 + 1.5**2), abs=1e-9)  # the trap
    assert wrong.theta[-1] == pytest.approx(math.pi, abs=1e-6)
    assert right.reached
    assert round(right.time, 2) == 4.30


@pytest.mark.parametrize("method", METHODS)
def test_flow_against_another_integrator(method):
    model, target = ConeModel(0.8, 1), (1.3, 0.4)
    found = model.flow((0.3, 2.5), target, method, max_time=2.0)

    def rate(_, y):
        return np.array(model.velocity(*y, target, method)).ravel()

    expected = solve_ivp(rate, (0, 2), [0.3, 2.5], method="Radau", rtol=1e-10, atol=1e-12).y[:, -1]
    assert_close([found.xi[-1], found.theta[-1]], expected, tolerance=1e-8)
    assert found.status == "time"
    assert found.time == 2


@settings(max_examples=100)
@given(openings, st.floats(-1.5, 1.5), angles, st.floats(-1.5, 1.5), angles, st.sampled_from(METHODS))
def test_flows_descend_and_end_with_a_status(c, xi, theta, goal, zero, method):
    found = ConeModel(c, 1).flow((xi, theta), (goal, zero), method, max_time=60.0)
    assert np.isfinite(found.xi).all()
    assert np.isfinite(found.theta).all()
    assert (np.diff(found.divergence) < 1e-9).all()
    assert found.reached == (found.divergence[-1] <= 1.0001e-4)
    assert found.status in ("target", "apex", "stationary", "time")
    if method == "natural":
        assert (found.xi * math.copysign(1, xi) >= 0).all()  # it never crosses the apex


def test_natural_flow_ends_at_the_apex():
    model, target = ConeModel(1.5, 1), (1.0, 0.0)
    opposite = model.flow((0.02, math.pi), target, "natural")
    assert opposite.status == "apex"
    assert 0 < opposite.xi[-1] < 1.1e-9
    assert not opposite.reached
    straight = model.flow((-0.5, 0.0), target, "natural")  # through the apex, were it not there
    assert straight.status == "apex"
    assert straight.time == pytest.approx(math.log(1.5), abs=1e-6)
    assert model.flow((-0.5, 0.0), target).reached
    narrow = ConeModel(0.6, 1).flow((-1.0, 0.3), target, "natural")
    assert narrow.status == "apex"
    assert narrow.theta[-1] == pytest.approx(math.pi, abs=1e-6)
    at_once = model.flow((0.0, 1.0), target, "natural")
    assert at_once.status == "apex"
    assert at_once.time == 0
    assert len(at_once.times) == 1


def test_natural_flow_from_the_wrong_nappe_ends_in_the_trap_where_the_standard_one_escapes():
    standard, natural = (ConeModel(1.5, 1).flow((-0.02, 1.0), (1.0, 0.0), method) for method in METHODS)
    assert standard.reached
    assert natural.status == "stationary"
    assert natural.xi[-1] == pytest.approx(-0.384615, abs=1e-6)


def test_flow_that_starts_at_rest_or_far_away():
    opposite = CONE.flow((CONE.flow((-1.0, 3.0), (1.0, 0.0)).xi[-1], math.pi), (1.0, 0.0))
    assert opposite.status == "stationary"
    assert opposite.time == 0
    for method in METHODS:
        assert CONE.flow((1e20, 1.0), (1.0, 0.0), method).reached


def test_flow_that_starts_at_its_target():
    found = ConeModel(1.5, 1).flow((1.0, 0.0), (1.0, 0.0))
    assert found.reached
    assert found.time == 0


# --- cone: bad input ----------------------------------------------------------------------------------------

CONE = ConeModel(1.5, 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ConeModel(0.0, 1), ValueError, "c: expected a number > 0, got 0.0"),
        (lambda: ConeModel("1", 1), TypeError, "c: expected a number"),
        (lambda: ConeModel(1.0, 0), ValueError, "d: expected an integer >= 1, got 0"),
        (lambda: CONE.mean(1.0, [1.0, 0.0, 0.0]), ValueError, "omega: expected shape (2,) to go with xi, got (3,)"),
        (lambda: CONE.mean(1.0, [1.0, 1.0]), ValueError, "omega: expected vectors of length 1"),
        (lambda: CONE.mean(np.nan, [1.0, 0.0]), ValueError, "xi: expected finite numbers"),
        (lambda: CONE.mean(np.float32(1), [1.0, 0.0]), TypeError, "omega: expected float32 like xi"),
        (lambda: CONE.fisher("x"), TypeError, "xi: expected a number"),
        (lambda: CONE.maximum_likelihood(np.zeros(4)), ValueError, "x_mean: expected shape (..., 3), got (4,)"),
        (lambda: CONE.maximum_likelihood(1.0), ValueError, "x_mean: expected shape (..., 3), got ()"),
        (lambda: CONE.maximum_likelihood([[1.0], [1.0, 2.0]]), ValueError, "rows of different lengths"),
        (lambda: CONE.maximum_likelihood(np.arange(3)), TypeError, "x_mean: expected a float32 or float64 array"),
        (lambda: CONE.simulate(1), ValueError, "draws: expected an integer >= 2, got 1"),
        (lambda: CONE.simulate(10**15), MemoryError, "draw fewer"),
        (lambda: CONE.simulate(10, xi=np.inf), ValueError, "xi: expected a finite number"),
        (lambda: CONE.divergence([1.0, 2.0], [1.0, 2.0, 3.0], (1, 0)), ValueError, "theta: expected a shape"),
        (lambda: CONE.velocity(0.0, 1.0, (1, 0), "natural"), ValueError, "xi: expected none at the apex"),
        (lambda: CONE.velocity(1.0, 1.0, (1, 0), "newton"), ValueError, "method: expected one of"),
        (lambda: CONE.flow((1, 0, 0), (1, 0)), ValueError, "start: expected a pair (xi, theta), got 3 numbers"),
        (lambda: CONE.flow(1.0, (1, 0)), TypeError, "start: expected a pair (xi, theta)"),
        (lambda: CONE.flow((1, 0), (1, "a")), TypeError, "target[1]: expected a number"),
        (lambda: CONE.flow((1e200, 0), (1, 0)), ValueError, "start[0]: expected a number between -1e+100 and 1e+100"),
        (lambda: CONE.flow((1, 0), (1, 0), until_divergence=0), ValueError, "until_divergence: expected a number > 0"),
        (lambda: CONE.flow((1, 0), (1, 0), max_time=-1), ValueError, "max_time: expected a number > 0"),
        (lambda: generalization_table([], [1]), ValueError, "cs: expected at least one entry"),
        (lambda: generalization_table([1.0], 3), TypeError, "ds: expected a sequence"),
    ],
)
def test_cone_refuses(call, error, message):
    refused(call, error, message)


# --- two units: averages ------------------------------------------------------------------------------------

SMOOTH = ["tanh", "erf", "sigmoid", "gelu", "silu", "softplus", "sin", "cos"]


@st.composite
def students(draw):
    """A model and two networks of it, student and teacher, with weights of order one."""
    model = TwoUnits(draw(st.sampled_from(SMOOTH)), draw(st.integers(1, 2)), 61)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return model, *(rng.uniform(-1, 1, model.num_parameters) for _ in range(2))


@given(students())
def test_averages_against_the_network_on_the_grid(problem):
    """The network's own outputs and Jacobian, at the points of a finer grid made here."""
    model, student, teacher = problem
    axis = np.arange(-8.5, 8.51, 0.2)
    X = np.stack(np.meshgrid(*[axis] * model.inputs), axis=-1).reshape(-1, model.inputs)
    weights = np.exp(-(X**2).sum(axis=1) / 2)
    weights /= weights.sum()
    net = model.network(student)
    J = ff.Fisher(net, X).jacobian()[:, 0]
    e = (net(X) - model.network(teacher)(X))[:, 0]
    assert net.parameters().tolist() == student.tolist()
    assert model.loss(student, teacher) == pytest.approx((weights * e * e).sum() / 2, rel=1e-7)
    assert_close(model.gradient(student, teacher), (weights * e) @ J, tolerance=1e-7)
    F = (weights[:, None] * J).T @ J
    assert_close(model.fisher(student), F, tolerance=1e-7)
    assert_close(model.eigenvalues(student), np.linalg.eigvalsh(model.fisher(student))[::-1], tolerance=1e-13)


@given(students())
def test_gradient_against_differences(problem):
    model, student, teacher = problem
    h, steps = 1e-5, np.eye(model.num_parameters)
    expected = [(model.loss(student + h * e, teacher) - model.loss(student - h * e, teacher)) / (2 * h) for e in steps]
    assert_close(model.gradient(student, teacher), expected, tolerance=1e-9, scale=10)


@pytest.mark.parametrize("inputs", [1, 2])
def test_fisher_agrees_with_drawn_inputs(inputs):
    """Every entry within five standard errors of 40,000 random inputs."""
    model = TwoUnits("tanh", inputs)
    here = model.from_overlap([0.8, 0.3][:inputs], 0.3, 1.3, [0.7, -0.4][:inputs])
    X = np.random.default_rng(3).standard_normal((40_000, inputs))
    measured = ff.Fisher(model.network(here), X)
    J = measured.jacobian()[:, 0]
    errors = (J[:, :, None] * J[:, None]).std(axis=0) / math.sqrt(len(X))
    assert (np.abs(measured.dense() - model.fisher(here)) < 5 * errors).all()


@pytest.mark.parametrize("inputs", [1, 2])
def test_the_grid_has_converged(inputs):
    model = TwoUnits("tanh", inputs)
    finer = TwoUnits("tanh", inputs, nodes=241)
    for size, tolerance in ((1.0, 1e-13), (2.0, 1e-9)):
        here = model.from_overlap([0.5, 0.0][:inputs], 0.3, 1.3, [size, 0.0][:inputs])
        assert_close(model.fisher(here), finer.fisher(here), tolerance=tolerance)
        assert model.quadrature_error(here) < tolerance
    assert TwoUnits("tanh", inputs, nodes=31).quadrature_error(here) > 1e-5


def test_the_grid_against_gauss_hermite():
    """For a function without poles near the axis both converge."""
    x, q = np.polynomial.hermite_e.hermegauss(80)
    model, w, v = TwoUnits("sin"), np.array([0.9, -0.4]), np.array([1.2, 0.5])
    slopes = v[:, None] * x * np.cos(np.outer(w, x))
    J = np.concatenate([slopes, np.sin(np.outer(w, x))])
    assert_close(model.fisher(model.parameters(w, v)), (J * q / q.sum()) @ J.T, tolerance=1e-13)


# --- two units: singularities -------------------------------------------------------------------------------


@given(students())
def test_overlap_coordinates(problem):
    model, student, _ = problem
    w, v = student[:-2].reshape(2, -1), student[-2:]
    assume(abs(v.sum()) > 0.05)
    found = model.overlap(student)
    assert_close(found.u, w[0] - w[1])
    assert found.v == v.sum()
    assert found.z == pytest.approx((v[0] - v[1]) / v.sum(), rel=1e-12)
    assert_close(found.w, (v[0] * w[0] + v[1] * w[1]) / v.sum(), scale=2 / abs(v.sum()))
    assert_close(model.from_overlap(found.u, found.z, found.v, found.w), student, scale=10 / abs(v.sum()))
    shaped = w[:, 0] if model.inputs == 1 else w
    assert model.parameters(shaped, v).tolist() == student.tolist()


def test_numbers_will_do_for_one_input():
    model = TwoUnits("tanh")
    assert model.from_overlap(1, 0, 2, 3).tolist() == [3.5, 2.5, 1.0, 1.0]
    assert model.from_overlap([1], 0, 2, [3.0]).tolist() == [3.5, 2.5, 1.0, 1.0]
    assert model.slow_coefficient(1) == model.slow_coefficient([1.0], -2)


@pytest.mark.parametrize("name", ["tanh", "erf"])
@pytest.mark.parametrize("inputs", [1, 2])
def test_exponents_at_the_overlap(name, inputs):
    """One eigenvalue goes like u^6, d like u^2, the others do not vanish."""
    model = TwoUnits(name, inputs)
    here = model.from_overlap([0.4, 0.3][:inputs], 0.3, 1.3, [0.7, 0.2][:inputs])
    found = model.approach(here, "overlap", distances=np.geomspace(0.01, 0.05, 6))
    expected = [0] * (inputs + 1) + [2] * inputs + [6]
    assert np.abs(found.exponents - expected).max() < 0.03
    at_last = model.overlap(here)
    close = model.from_overlap(0.01 * at_last.u / np.linalg.norm(at_last.u), 0.3, 1.3, [0.7, 0.2][:inputs])
    assert_close(found.eigenvalues[0], model.eigenvalues(close), tolerance=1e-12)
    assert (found.eigenvalues[:, -1] > 0).all()


@pytest.mark.parametrize("inputs", [1, 2])
def test_exponents_at_the_elimination(inputs):
    model = TwoUnits("tanh", inputs)
    here = model.from_overlap([0.4, 0.3][:inputs], 0.3, 1.3, [0.7, 0.2][:inputs])
    found = model.approach(here, "elimination", distances=np.geomspace(1e-3, 1e-2, 6))
    assert np.abs(found.exponents - ([0] * (inputs + 2) + [2] * inputs)).max() < 0.02


@pytest.mark.parametrize("inputs", [1, 2])
def test_single_unit_is_critical_however_it_is_split(inputs):
    model = TwoUnits("tanh", inputs)
    teacher = model.parameters([[1.0, 0.5], [-0.3, 1.0]] if inputs == 2 else [1.4, 0.3], [1.0, 0.8])
    one = model.single_unit(teacher)
    for z in (-0.7, 0.0, 2.0):
        split = model.from_overlap(np.zeros(inputs), z, one.v, one.w)
        assert np.abs(model.gradient(split, teacher)).max() < 1e-8
        assert model.loss(split, teacher) == pytest.approx(one.loss, rel=1e-10)
    rng = np.random.default_rng(0)
    for start in rng.normal(size=(200, inputs + 1)):
        other = model.from_overlap(np.zeros(inputs), 0.0, start[0], start[1:])
        assert model.loss(other, teacher) > one.loss


# --- two units: flows ---------------------------------------------------------------------------------------


def problem_221(nodes=91, gap=0.05, z=0.3):
    model = TwoUnits("tanh", inputs=2, nodes=nodes)
    teacher = model.parameters([[1.0, 0.5], [-0.3, 1.0]], [1.0, 0.8])
    return model, teacher, model.from_overlap([0.8 * gap, 0.6 * gap], z, 0.8, [0.5, 0.4])


@pytest.mark.parametrize("method", METHODS)
def test_flow_against_another_integrator_and_public_names(method):
    model = TwoUnits("erf")
    teacher, start = model.parameters([1.0, 0.2], [0.9, 0.6]), model.from_overlap(0.3, 0.3, 0.8, 0.6)
    found = model.flow(start, teacher, method, damping=1e-2, max_time=5.0, until_loss=1e-12)

    def rate(_, y):
        gradient = model.gradient(y, teacher)
        if method == "standard":
            return -gradient
        eigenvalues, vectors = np.linalg.eigh(model.fisher(y))
        return -vectors @ (vectors.T @ gradient / (eigenvalues + 1e-2))

    expected = solve_ivp(rate, (0, 5), start, method="DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    assert found.time == 5
    assert not found.reached
    assert_close(found.parameters[-1], expected, tolerance=1e-7)
    assert found.loss[-1] == pytest.approx(model.loss(found.parameters[-1], teacher))
    assert found.smallest_eigenvalue[-1] == pytest.approx(model.eigenvalues(found.parameters[-1])[-1])


def test_plateau_of_the_standard_and_of_the_natural_gradient():
    """The time from twice to half the level: standard 33.5, natural ln(4) / 2, as pure decay like exp(-2 t)."""
    model, teacher, _ = problem_221()
    start = model.from_overlap([0.05, 0.02], 0.3, 0.8, [0.5, 0.4])
    standard, natural = (model.flow(start, teacher, method) for method in METHODS)
    assert standard.reached
    assert natural.reached
    assert standard.plateau_length == pytest.approx(33.492, abs=1e-3)
    assert natural.plateau_length == pytest.approx(math.log(2), abs=1e-3)
    for flow in (standard, natural):
        assert (np.diff(flow.loss) < 0).all()
        assert flow.loss[-1] == pytest.approx(1e-6)
        level = flow.plateau.loss
        when = np.interp([-math.log(2 * level), -math.log(level / 2)], -np.log(flow.loss), flow.times)
        assert_close(when, [flow.entered, flow.left], tolerance=0.02)  # linear between steps of the integrator
        assert flow.smallest_eigenvalue[0] < 1e-10 < flow.smallest_eigenvalue[-1]
    weak = model.flow(start, teacher, "natural", damping=1.0)
    assert natural.plateau_length < weak.plateau_length


def test_plateau_grows_with_the_logarithm_of_the_distance():
    """From z = 0: the gap grows exponentially, so each factor of ten costs the same; the natural gradient none."""
    lengths = []
    for gap in (1e-2, 1e-3, 1e-4):
        model, teacher, start = problem_221(61, gap, 0.0)
        lengths.append([model.flow(start, teacher, method).plateau_length for method in METHODS])
    costs = np.diff(np.array(lengths), axis=0)
    assert_close(costs[:, 0], [18.5, 18.5], tolerance=0.02)
    assert np.abs(costs[:, 1]).max() < 1e-3


def test_a_student_that_overlaps_exactly_stays_there():
    model = TwoUnits("tanh")
    teacher = model.parameters([1.4, 0.3], [0.9, 0.6])
    found = model.flow(model.from_overlap(0.0, 0.0, 0.8, 0.6), teacher, max_time=1e4)
    assert not found.reached
    assert found.entered > 0
    assert np.isnan(found.left)
    assert np.isnan(found.plateau_length)
    assert np.array_equal(found.parameters[:, 0], found.parameters[:, 1])
    assert found.loss[-1] == pytest.approx(found.plateau.loss, rel=1e-6)


def test_flow_that_starts_below_its_end_or_its_plateau():
    model = TwoUnits("tanh")
    teacher = model.parameters([1.4, 0.3], [0.9, 0.6])
    done = model.flow(teacher, teacher)
    assert done.reached
    assert done.time == done.entered == done.left == 0
    near = model.flow(teacher + 1e-3, teacher, until_loss=1e-9)
    assert near.reached
    assert near.plateau_length == 0
    alone = model.parameters([0.8, 0.8], [0.9, 0.6])  # a teacher that is a single unit: no plateau to leave
    found = model.flow(model.from_overlap(0.3, 0.3, 0.8, 0.6), alone)
    assert found.reached
    assert found.plateau.loss < 1e-25
    assert np.isnan(found.plateau_length)


def test_coarse_grid_warns():
    model = TwoUnits("tanh", nodes=31)
    with pytest.warns(RuntimeWarning, match="take more nodes"):
        model.flow(model.from_overlap(0.3, 0.3, 0.8, 0.6), model.parameters([2.0, 0.3], [0.9, 0.6]), max_time=1.0)


# --- two units: the slow manifold ---------------------------------------------------------------------------


def along_the_overlap(model, w, direction, gap, z):
    """A flow near the overlap, its ends (z and u^2 / 2), and the law's constant; the teacher overlaps too."""
    teacher = model.from_overlap(gap * direction, 0.2, 1.3, w)
    start = model.from_overlap(0.4 * gap * direction, z, 1.3, w)
    flow = model.flow(start, teacher, until_loss=1e-18, max_time=1e4 / gap**2)
    points = [model.overlap(y) for y in flow.parameters]
    half = np.array([point.u @ point.u / 2 for point in points])
    moved = np.abs(half - half[0]) / abs(half[-1] - half[0])
    i, j = np.argmax(moved > 0.25), np.argmax(moved > 0.75)
    c1 = model.slow_coefficient(w, direction)
    return (points[i].z, points[j].z), half[[i, j]], points[i].v, c1


@pytest.mark.parametrize("z", [0.1, 0.35, 0.6, 1.8])
@pytest.mark.parametrize(("name", "w"), [("erf", 1 / math.sqrt(2)), ("tanh", 0.8)])
def test_slow_manifold(name, w, z):
    """Within 2 % of the flow at u = 0.01, and the error falls like u; the law of the literature is off by far more."""
    errors = []
    for gap in (0.05, 0.0125):
        (begin, end), half, v, c1 = along_the_overlap(TwoUnits(name), [w], np.ones(1), gap, z)
        predicted = slow_manifold(begin, half, v=v, c1=c1)[-1]
        errors.append(abs((predicted - begin) / (end - begin) - 1))
    assert errors[1] < 0.02
    assert errors[1] < 0.4 * errors[0]
    level = [2 / 3 * v * v * math.log((x * x + 3) ** 2 / abs(x)) for x in (begin, end)]
    assert abs((level[1] - level[0]) / (half[1] - half[0]) - 1) > 0.3


def test_slow_manifold_with_two_inputs():
    """The units move apart across w: an eigenvector of what drives them, so that u keeps its direction."""
    model, direction = TwoUnits("tanh", 2, nodes=61), np.array([0.0, 1.0])
    (begin, end), half, v, c1 = along_the_overlap(model, [0.8, 0.0], direction, 0.025, 0.35)
    predicted = slow_manifold(begin, half, v=v, c1=c1)[-1]
    assert predicted - begin == pytest.approx(end - begin, rel=0.005)


@given(st.floats(-0.9, 0.9), st.floats(0.5, 2), st.floats(-3, 3))
def test_slow_manifold_obeys_its_law(z, v, c1):
    h = 1e-4
    below, here, above = slow_manifold(z, [0.0, h, 2 * h], v=v, c1=c1)
    assert below == z
    slope = -2 * here / (v * v * (1 - here**2)) + c1 * here * (1 - here**2) / 4
    assert (above - below) / (2 * h) == pytest.approx(slope, rel=1e-3, abs=1e-7)
    back = slow_manifold(above, [2 * h, 0.0], v=v, c1=c1)[-1]
    assert back == pytest.approx(z, abs=1e-9)


def test_slow_coefficient_is_a_projection():
    """The remainder is orthogonal to the functions that it was fitted by."""
    model, w = TwoUnits("erf"), 0.7
    x, q = np.polynomial.hermite_e.hermegauss(100)
    phi, first, second = ff.activations.get("erf").evaluate(w * x, 2)
    basis = np.array([phi, x * first])
    expected = np.linalg.solve((basis * q) @ basis.T, (basis * q) @ (x * x * second))
    assert model.slow_coefficient(w) == pytest.approx(expected[0], rel=1e-10)
    assert TwoUnits("erf", 2).slow_coefficient([w, 0.0], [3.0, 0.0]) == pytest.approx(expected[0], rel=1e-10)


# --- two units: bad input -----------------------------------------------------------------------------------

ONE, TWO = TwoUnits("tanh"), TwoUnits("tanh", 2)
HERE = ONE.from_overlap(0.3, 0.2, 1.0, 0.5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TwoUnits("relu"), ValueError, "activation: expected a smooth and curved one, like 'tanh' or 'erf'"),
        (lambda: TwoUnits("linear"), ValueError, "activation: expected a smooth and curved one, like 'tanh' or 'erf'"),
        (lambda: TwoUnits("tan"), ValueError, "activation: expected one of"),
        (lambda: TwoUnits("tanh", 3), ValueError, "inputs: expected 1 or 2, got 3"),
        (lambda: TwoUnits("tanh", 1, 2), ValueError, "nodes: expected an integer >= 3, got 2"),
        (lambda: ONE.parameters([1.0], [1.0, 1.0]), ValueError, "w: expected shape (2), got (1,)"),
        (lambda: TWO.parameters([1.0, 2.0], [1.0, 1.0]), ValueError, "w: expected 2 dimensions"),
        (lambda: ONE.from_overlap([1.0, 2.0], 0.1, 1, 1.0), ValueError, "u: expected shape (1), got (2,)"),
        (lambda: ONE.from_overlap(1.0, "a", 1, 1.0), TypeError, "z: expected a number"),
        (lambda: ONE.overlap(ONE.parameters([1.0, 2.0], [1.0, -1.0])), ValueError, "v_1 + v_2 other than zero"),
        (lambda: ONE.loss(HERE[:3], HERE), ValueError, "parameters: expected shape (4), got (3,)"),
        (lambda: ONE.loss(HERE, HERE[:3]), ValueError, "teacher: expected shape (4), got (3,)"),
        (lambda: ONE.fisher(HERE.astype(np.float32)), TypeError, "parameters: expected float64"),
        (lambda: ONE.gradient(HERE * np.nan, HERE), ValueError, "parameters: expected finite numbers"),
        (lambda: ONE.approach(HERE, "saddle"), ValueError, "singularity: expected one of"),
        (lambda: ONE.approach(HERE, distances=[0.1]), ValueError, "distances: expected at least two positive"),
        (lambda: ONE.approach(HERE, distances=[0.1, 0.0]), ValueError, "distances: expected at least two positive"),
        (lambda: ONE.approach(ONE.from_overlap(0.0, 0.2, 1.0, 0.5)), ValueError, "units that do not overlap"),
        (lambda: ONE.flow(HERE, HERE, "newton"), ValueError, "method: expected one of"),
        (lambda: ONE.flow(HERE, HERE, "natural", damping=0), ValueError, "damping: expected a number > 0"),
        (lambda: ONE.flow(HERE, HERE, factor=1), ValueError, "factor: expected a number > 1, got 1"),
        (lambda: ONE.flow(HERE, HERE, until_loss=0), ValueError, "until_loss: expected a number > 0"),
        (lambda: ONE.flow(HERE, HERE, max_time=0), ValueError, "max_time: expected a number > 0"),
        (lambda: ONE.flow(HERE[:2], HERE), ValueError, "start: expected shape (4), got (2,)"),
        (lambda: TWO.slow_coefficient([1.0, 0.0]), ValueError, "direction: expected that of w_1 - w_2"),
        (lambda: TWO.slow_coefficient([1.0, 0.0], [0.0, 0.0]), ValueError, "direction: expected a vector other than"),
        (lambda: slow_manifold(1.0, [0.0], v=1, c1=0), ValueError, "z: expected a number other than 1 and -1"),
        (lambda: slow_manifold(0.1, [0.0], v=0, c1=0), ValueError, "v: expected a number other than zero"),
        (lambda: slow_manifold(0.1, [0.0, 1.0, 0.5], v=1, c1=0), ValueError, "ascending or descending"),
        (lambda: slow_manifold(0.9, [0.0, -1.0], v=1, c1=0), ValueError, "half_squares: expected a range on which"),
    ],
)
def test_two_units_refuse(call, error, message):
    refused(call, error, message)


# --- pictures -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def flows():
    teacher = ONE.parameters([1.4, 0.3], [0.9, 0.6])
    start = ONE.from_overlap(0.05, 0.3, 0.8, 0.6)
    return [ONE.flow(start, teacher, method) for method in METHODS]


@pytest.mark.parametrize("method", METHODS)
def test_phase_portrait(method):
    ax = plot.cone_phase_portrait(CONE, method=method, title="a title")
    labels = {line.get_label(): line for line in ax.lines}
    assert set(np.ravel(labels[r"apex $\xi = 0$"].get_xdata())) == {0}
    assert labels["target"].get_xydata().tolist() == [[1.0, 0.0]]
    assert labels["start"].get_xydata().tolist() == [[0.02, 1.8], [0.02, 3.1]]
    assert ("end elsewhere" in labels) == (method == "standard")
    path = next(line for line in ax.lines if line.get_linewidth() == 1.8)
    assert path.get_xydata()[-1, 0] > 0.9
    assert ax.get_title(loc="left") == "a title"
    assert len(ax.collections) == 1  # the stream lines


def test_plateau_picture(flows):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert plot.plateau(flows, ax=axes) is axes
    lines = {line.get_label(): line for line in axes.lines}
    standard = lines["standard gradient"]
    assert_close(standard.get_ydata(), flows[0].loss[1:])
    assert "natural gradient, $\\rho = 0.0001$" in lines
    assert lines["best single unit"].get_ydata()[0] == flows[0].plateau.loss
    thick = next(line for line in axes.lines if line.get_linewidth() == 3.5)
    assert flows[0].entered <= thick.get_xdata()[0] < thick.get_xdata()[-1] <= flows[0].left
    assert axes.get_xscale() == axes.get_yscale() == "log"
    beside = plot.plateau(flows, quantity="smallest_eigenvalue")
    assert_close(beside.lines[0].get_ydata(), flows[0].smallest_eigenvalue[1:])
    assert len(beside.lines) == 4


def test_save(tmp_path, flows):
    for path in (
        plot.save_cone_phase_portrait(tmp_path / "cone.png", CONE, starts=[(0.5, 1.0)]),
        plot.save_plateau(tmp_path / "plateau.svg", flows),
    ):
        assert path.stat().st_size > 1000
    assert plt.get_fignums() == []
    with pytest.raises(ValueError, match="ending in one of"):
        plot.save_plateau(tmp_path / "plateau.txt", flows)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        plot.save_cone_phase_portrait(tmp_path / "missing" / "cone.png", CONE)


def test_pictures_refuse(flows):
    refused(lambda: plot.cone_phase_portrait(flows[0]), TypeError, "model: expected a ConeModel, got UnitFlow")
    refused(lambda: plot.cone_phase_portrait(CONE, method="x"), ValueError, "method: expected one of")
    refused(lambda: plot.cone_phase_portrait(CONE, starts=3), TypeError, "starts: expected a sequence")
    refused(lambda: plot.cone_phase_portrait(CONE, (0, 0), starts=[(0, 1)]), ValueError, "off the apex")
    refused(lambda: plot.plateau([]), ValueError, "flows: expected at least one")
    refused(lambda: plot.plateau([CONE]), TypeError, "flows: expected UnitFlow only, got ConeModel")
    refused(lambda: plot.plateau(flows, quantity="time"), ValueError, "quantity: expected one of")


def test_pictures_without_matplotlib(monkeypatch, flows):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused(lambda: plot.plateau(flows), ImportError, "pip install 'fisherfield[plot]'")
