"""Activation functions: accuracy against mpmath, position independence, custom callables, errors."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fisherfield import _native, activations

DTYPES = (np.float64, np.float32)
mp = mpmath.mp.clone()
mp.dps = 40

SELU_SCALE = mp.mpf("1.0507009873554804934193349852946")
SELU_ALPHA = mp.mpf("1.6732632423543772848170429916717")


def logistic(u):
    return 1 / (1 + mp.exp(-u))


def density(u):
    return mp.exp(-u * u / 2) / mp.sqrt(2 * mp.pi)


def distribution(u):
    return mp.erfc(-u / mp.sqrt(2)) / 2


def piecewise(below, above, u):
    return tuple(mp.mpf(x) for x in (above if u > 0 else below))


# name -> u -> (phi, phi', phi'')
JETS = {
    "linear": lambda u: (u, mp.mpf(1), mp.mpf(0)),
    "relu": lambda u: piecewise((0, 0, 0), (u, 1, 0), u),
    "leaky_relu": lambda u: piecewise((mp.mpf(0.01) * u, mp.mpf(0.01), 0), (u, 1, 0), u),
    "hard_tanh": lambda u: (max(min(u, mp.mpf(1)), mp.mpf(-1)), mp.mpf(abs(u) < 1), mp.mpf(0)),
    "shifted_relu": lambda u: (max(u, mp.mpf(-0.5)), mp.mpf(u > -0.5), mp.mpf(0)),
    "abs": lambda u: (abs(u), mp.sign(u), mp.mpf(0)),
    "erf": lambda u: (mp.erf(u), *(f * mp.exp(-u * u) / mp.sqrt(mp.pi) for f in (2, -4 * u))),
    "tanh": lambda u: (mp.tanh(u), mp.sech(u) ** 2, -2 * mp.tanh(u) * mp.sech(u) ** 2),
    "sigmoid": lambda u: (
        logistic(u),
        logistic(u) * logistic(-u),
        -logistic(u) * logistic(-u) * mp.tanh(u / 2),
    ),
    "gelu": lambda u: (u * distribution(u), distribution(u) + u * density(u), density(u) * (2 - u * u)),
    "silu": lambda u: (
        u * logistic(u),
        logistic(u) * (1 + u * logistic(-u)),
        logistic(u) * logistic(-u) * (2 - u * mp.tanh(u / 2)),
    ),
    "softplus": lambda u: (mp.log1p(mp.exp(u)), logistic(u), logistic(u) * logistic(-u)),
    "elu": lambda u: piecewise((mp.expm1(u), mp.exp(u), mp.exp(u)), (u, 1, 0), u),
    "selu": lambda u: tuple(
        SELU_SCALE * x for x in piecewise([SELU_ALPHA * x for x in (mp.expm1(u), mp.exp(u), mp.exp(u))], (u, 1, 0), u)
    ),
    "sin": lambda u: (mp.sin(u), mp.cos(u), -mp.sin(u)),
    "cos": lambda u: (mp.cos(u), -mp.sin(u), -mp.cos(u)),
}

# Bounds on the errors of (phi, phi', phi'') in units of the last place. Where the terms of a derivative of
# gelu or silu cancel, the unit is that of the larger term.
ULPS = (6, 8, 10)


def largest_term(name, u):
    """Magnitude that the rounding errors of (phi, phi', phi'') are relative to."""
    if name == "gelu":
        return abs(u * distribution(u)), distribution(u) + abs(u) * density(u), density(u) * (2 + u * u)
    if name == "silu":
        s, c = logistic(u), logistic(-u)
        return abs(u) * s, s * (1 + abs(u) * c), s * c * (2 + abs(u * mp.tanh(u / 2)))
    return tuple(abs(x) for x in JETS[name](u))


def errors_in_ulps(name, u, dtype):
    """Errors of (phi, phi', phi'') at u; results below the smallest normal number count against that."""
    u = dtype(u)
    got = activations.get(name).evaluate(np.array([u]), order=2)
    exact = mp.mpf(float(u))
    eps, floor = float(np.finfo(dtype).eps), mp.mpf(float(np.finfo(dtype).tiny)) * (1 + abs(exact))
    pairs = zip(got, JETS[name](exact), largest_term(name, exact), strict=True)
    return [abs(mp.mpf(float(g[0])) - want) / (eps * max(size, floor)) for g, want, size in pairs]


def assert_accurate(name, u, dtype):
    errors = errors_in_ulps(name, u, dtype)
    assert all(e <= bound for e, bound in zip(errors, ULPS, strict=True)), (name, u, dtype, errors)


def sample_points(dtype):
    rng = np.random.default_rng(5)
    tail = 760 if dtype is np.float64 else 110
    small = 10.0 ** rng.uniform(-30, 0, 20) * rng.choice([-1, 1], 20)
    special = [0.0, -0.0, 0.8, -0.8, 1.0, -1.0, 1e-300 if dtype is np.float64 else 1e-38]
    points = [rng.uniform(-3, 3, 40), rng.uniform(-30, 30, 40), rng.uniform(-tail, tail, 20), small, special]
    return np.concatenate(points).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", activations.available())
def test_values_and_derivatives_match_mpmath(name, dtype):
    for u in sample_points(dtype):
        assert_accurate(name, u, dtype)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(activations.available()), u=st.floats(-800, 800), single=st.booleans())
def test_any_argument_is_accurate(name, u, single):
    assert_accurate(name, u, np.float32 if single else np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_trigonometric_functions_far_out(name, dtype):
    rng = np.random.default_rng(2)
    turns = np.pi / 2 * rng.integers(1, 60000, 40)
    for u in np.concatenate([rng.uniform(-9e4, 9e4, 40), turns, [2e5, 1.5e6, -1e15, 1e22]]).astype(dtype):
        assert_accurate(name, u, dtype)


@pytest.mark.parametrize("level", _native.usable_levels())
def test_every_instruction_set_level_is_accurate(level):
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import numpy as np, test_activations as t\n"
        "for dtype in t.DTYPES:\n"
        "    for name in t.JETS:\n"
        "        for u in t.sample_points(dtype)[::2]: t.assert_accurate(name, u, dtype)\n"
        "print(t._native.level)\n"
    )
    package = os.path.dirname(os.path.dirname(_native.__file__))
    run = subprocess.run(
        [sys.executable, "-c", code, package, os.path.dirname(__file__)],
        env={**os.environ, "FISHERFIELD_ISA": level},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [level]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", activations.available())
def test_result_does_not_depend_on_position_or_length(name, dtype):
    phi = activations.get(name)
    u = np.random.default_rng(0).normal(0, 3, 1003).astype(dtype)
    u[::50] *= 1e6  # sin and cos mix their two paths
    whole = phi.evaluate(u, 2)
    for start, stop in [(0, 1), (1, 8), (3, 300), (701, 1003), (0, 128), (5, 261)]:
        for part, full in zip(phi.evaluate(u[start:stop].copy(), 2), whole, strict=True):
            np.testing.assert_array_equal(part, full[start:stop])
    for order in (0, 1):
        for part, full in zip(phi.evaluate(u, order), whole, strict=False):
            np.testing.assert_array_equal(part, full)


LIMITS = {  # at -inf and at +inf: phi, phi', phi''
    "linear": ((-np.inf, 1, 0), (np.inf, 1, 0)),
    "relu": ((0, 0, 0), (np.inf, 1, 0)),
    "leaky_relu": ((-np.inf, 0.01, 0), (np.inf, 1, 0)),
    "erf": ((-1, 0, 0), (1, 0, 0)),
    "tanh": ((-1, 0, 0), (1, 0, 0)),
    "sigmoid": ((0, 0, 0), (1, 0, 0)),
    "hard_tanh": ((-1, 0, 0), (1, 0, 0)),
    "shifted_relu": ((-0.5, 0, 0), (np.inf, 1, 0)),
    "gelu": ((0, 0, 0), (np.inf, 1, 0)),
    "silu": ((0, 0, 0), (np.inf, 1, 0)),
    "softplus": ((0, 0, 0), (np.inf, 1, 0)),
    "elu": ((-1, 0, 0), (np.inf, 1, 0)),
    "selu": ((-float(SELU_SCALE * SELU_ALPHA), 0, 0), (np.inf, float(SELU_SCALE), 0)),
    "sin": ((np.nan,) * 3,) * 2,
    "cos": ((np.nan,) * 3,) * 2,
    "abs": ((np.inf, -1, 0), (np.inf, 1, 0)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", activations.available())
def test_limits_at_infinity_and_nan(name, dtype):
    outputs = activations.get(name).evaluate(np.array([-np.inf, np.inf, np.nan], dtype=dtype), 2)
    for k, output in enumerate(outputs):
        limits = np.array([LIMITS[name][0][k], LIMITS[name][1][k], np.nan])
        np.testing.assert_allclose(output, limits.astype(dtype), rtol=2 * np.finfo(dtype).eps)


def test_derivatives_at_kinks_follow_the_stated_convention():
    at_zero = {"relu": 0, "leaky_relu": 0.01, "elu": 1, "selu": float(SELU_SCALE * SELU_ALPHA), "abs": 0}
    for name, slope in at_zero.items():
        phi = activations.get(name)
        assert phi.kinks == (0.0,)
        assert phi.evaluate(0.0)[1] == pytest.approx(slope, rel=1e-15)
    assert activations.get("hard_tanh").kinks == (-1.0, 1.0)
    np.testing.assert_array_equal(activations.get("hard_tanh").evaluate([-1.0, 1.0])[1], [0, 0])
    assert activations.get("shifted_relu").kinks == (-0.5,)
    assert activations.get("shifted_relu").evaluate(-0.5)[1] == 0


@pytest.mark.parametrize("name", activations.available())
def test_oddness_is_what_the_values_show(name):
    phi = activations.get(name)
    u = np.linspace(0.1, 5, 50)
    assert phi.is_odd == np.array_equal(phi(-u), -phi(u))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shape_and_dtype_are_kept(shape, dtype):
    u = np.ones(shape, dtype=dtype)
    for phi in (activations.get("tanh"), activations.custom(np.tanh)):
        for output in phi.evaluate(u, 2):
            assert output.shape == shape
            assert output.dtype == dtype
    strided = np.arange(12, dtype=dtype).reshape(3, 4).T[::2]
    np.testing.assert_array_equal(
        activations.get("tanh")(strided), activations.get("tanh")(np.ascontiguousarray(strided))
    )


def test_parameters_identity_pickle_and_repr():
    assert activations.get("elu") == activations.elu(1.0)
    assert activations.leaky_relu(0.2) != activations.leaky_relu(0.3)
    np.testing.assert_allclose(activations.elu(0.5)(np.array([-2.0, 2.0])), [0.5 * np.expm1(-2.0), 2.0], rtol=1e-15)
    np.testing.assert_array_equal(activations.leaky_relu(-0.5)(np.array([-2.0, 2.0])), [1.0, 2.0])
    for phi in (activations.get("gelu"), activations.leaky_relu(0.2), activations.custom(np.sin, np.cos)):
        copy = pickle.loads(pickle.dumps(phi))
        assert copy == phi
        assert hash(copy) == hash(phi)
        assert copy(0.5) == phi(0.5)
        assert activations.get(phi) is phi
    assert repr(activations.leaky_relu(0.2)) == "Activation('leaky_relu', slope=0.2)"
    assert repr(activations.get("tanh")) == "Activation('tanh')"
    assert activations.get("tanh").native is not None
    assert activations.get(np.sin).native is None


@pytest.mark.parametrize("name", activations.available())
def test_numerical_derivatives_of_a_callable(name):
    phi = activations.get(name)
    numerical = activations.custom(lambda u: phi(u), kinks=phi.kinks)
    half = activations.custom(lambda u: phi(u), lambda u: phi.evaluate(u)[1], kinks=phi.kinks)
    u = np.linspace(-5, 5, 997)
    u = u[[all(abs(x - kink) > 1e-9 for kink in phi.kinks) for x in u]]
    away = np.array([all(abs(x - kink) > 0.04 for kink in phi.kinks) for x in u])
    _, first, second = phi.evaluate(u, 2)
    for got, want, tolerance in [
        (numerical.evaluate(u, 2)[1], first, np.where(away, 1e-11, 1e-9)),
        (numerical.evaluate(u, 2)[2], second, np.where(away, 2e-10, 2e-8)),
        (half.evaluate(u, 2)[2], second, np.where(away, 1e-11, 1e-9)),
    ]:
        assert (np.abs(got - want) < tolerance * (1 + np.abs(u))).all()


def test_numerical_derivatives_in_float32_are_rounded_from_float64():
    u = np.linspace(-3, 3, 101, dtype=np.float32)
    got = activations.custom(np.tanh).evaluate(u, 2)
    for output, want in zip(got, activations.get("tanh").evaluate(u.astype(np.float64), 2), strict=True):
        np.testing.assert_allclose(output, want, rtol=3e-7, atol=1e-9)


def test_given_derivatives_are_checked():
    activations.custom(np.tanh, lambda u: 1 / np.cosh(u) ** 2, lambda u: -2 * np.tanh(u) / np.cosh(u) ** 2)
    activations.custom(np.abs, np.sign, np.zeros_like, kinks=[0])
    with pytest.raises(ValueError, match=r"first: expected .* at u = .*got"):
        activations.custom(np.tanh, lambda u: 1.001 / np.cosh(u) ** 2)
    with pytest.raises(ValueError, match=r"second: expected .* at u = .*got"):
        activations.custom(np.sin, np.cos, np.sin)
    with pytest.raises(ValueError, match="kinks of the function"):
        activations.custom(np.abs, np.sign)


def test_a_built_in_made_by_its_class_is_complete():
    for name in activations.available():
        assert activations.Activation(name) == activations.get(name)
    assert activations.Activation("elu", parameter=0.5) == activations.elu(0.5)
    assert activations.Activation("elu")(-1.0) == pytest.approx(np.expm1(-1.0))
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        activations.Activation("tahn")
    with pytest.raises(ValueError, match="parameter: expected None, because tanh has no"):
        activations.Activation("tanh", parameter=2.0)
    with pytest.raises(ValueError, match="slope: expected a finite number"):
        activations.Activation("leaky_relu", parameter=np.inf)


def test_callables_of_the_wrong_kind_are_refused():
    with pytest.raises(ValueError, match="shape and dtype of u"):
        activations.custom(lambda u: u.sum())
    with pytest.raises(ValueError, match="float32"):
        activations.custom(lambda u: u.astype(np.float64))(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"finite values on \[-4, 4\]"):
        activations.custom(lambda u: np.where(u > 2, np.inf, u))
    with pytest.raises(ValueError, match="apart for a numerical derivative"):
        activations.custom(np.sin, kinks=[0, 0.01])
    with pytest.raises(TypeError, match="kinks: expected a sequence of numbers, got 3"):
        activations.custom(np.tanh, kinks=3)
    with pytest.raises(TypeError, match="first: expected a callable"):
        activations.custom(np.sin, 3)
    with pytest.raises(TypeError, match="function: expected a callable"):
        activations.custom(None)


def test_bad_names_arguments_and_orders_are_refused():
    with pytest.raises(ValueError, match=r"expected one of linear, relu.*'tahn'; did you mean 'tanh'\?"):
        activations.get("tahn")
    with pytest.raises(TypeError, match="expected a name"):
        activations.get(3)
    with pytest.raises(TypeError, match="slope: expected a number"):
        activations.leaky_relu("big")
    with pytest.raises(ValueError, match="alpha: expected a finite number"):
        activations.elu(np.nan)
    with pytest.raises(TypeError, match="float32 or float64"):
        activations.get("relu")(np.arange(3))
    with pytest.raises(TypeError, match="float32 or float64"):
        activations.get("relu")(np.zeros(3, dtype=complex))
    for order in (-1, 3):
        with pytest.raises(ValueError, match="order: expected"):
            activations.get("relu").evaluate(np.zeros(3), order)
