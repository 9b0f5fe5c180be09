"""Quadrature rules and Gaussian moments against closed forms, high-precision references and brute force."""

import math
import warnings

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, erfcx

import fisherfield as ff
from fisherfield import activations, theory
from fisherfield._native import kernels

TOL = 1e-12  # the default tolerance of the integrals
BUILT_IN = activations.available()
SMOOTH = tuple(name for name in BUILT_IN if not activations.get(name).kinks)


# --- rules
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 20, 101, 300, 1000])
def test_gauss_hermite_integrates_polynomials(n):
    z, w = theory.gauss_hermite(n)
    assert z.shape == w.shape == (n,)
    assert (np.diff(z) > 0).all()
    np.testing.assert_array_equal(z, -z[::-1])
    for k in range(min(n, 12)):
        exact = math.prod(range(1, 2 * k, 2))  # E z^(2k)
        assert w @ z ** (2 * k) == pytest.approx(exact, rel=1e-13 * (n**0.5 + 10))


@pytest.mark.parametrize("n", [7, 64, 1000])
def test_gauss_hermite_nodes_and_weights_at_high_precision(n):
    z, w = theory.gauss_hermite(n)
    with mpmath.workdps(40):
        for i in {n // 2, n // 2 + 1, 3 * n // 4, n - 1}:
            x = mpmath.mpf(float(z[i]))
            previous, current, norm = mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(0)
            for k in range(n):
                norm += current**2
                step = x * current - mpmath.sqrt(k) * previous
                previous, current = current, step / mpmath.sqrt(k + 1)
            newton = current / (mpmath.sqrt(n) * previous)
            assert abs(newton) <= 4e-16 * max(1, abs(x))
            if 1 / norm > 1e-300:
                assert float(w[i]) == pytest.approx(float(1 / norm), rel=1e-13 * n)


@pytest.mark.parametrize("n", [1, 2, 15, 64, 512])
def test_gauss_legendre(n):
    x, w = kernels.gauss_legendre(n)
    expected_x, expected_w = np.polynomial.legendre.leggauss(n)
    np.testing.assert_allclose(x, expected_x, atol=1e-15)
    np.testing.assert_allclose(w, expected_w, atol=1e-14)
    assert w.sum() == pytest.approx(2.0, rel=1e-14)


def test_gauss_hermite_bad_order():
    with pytest.raises(ValueError, match="n: expected an integer >= 1, got 0"):
        theory.gauss_hermite(0)
    with pytest.raises(ValueError, match="at most 10000"):
        theory.gauss_hermite(10001)


# --- moments of one Gaussian
# --------------------------------------------------------------------------------------


def mp_moments(phi, first, q):
    """(E phi^2, E phi'^2, E phi phi' u, E phi'^2 u^2) of a smooth phi with even integrands, to 25 digits."""
    with mpmath.workdps(25):
        root = mpmath.sqrt(q)
        ends = sorted({0.0, 14.0, *(float(a / root) for a in (0.5, 1, 2, 4, 8) if a / root < 14), 1.0, 3.0, 6.0})

        def expectation(g):
            return 2 * mpmath.quad(lambda z: g(root * z) * mpmath.npdf(z), ends)

        return [
            float(expectation(g))
            for g in (
                lambda u: phi(u) ** 2,
                lambda u: first(u) ** 2,
                lambda u: phi(u) * first(u) * u,
                lambda u: first(u) ** 2 * u**2,
            )
        ]


@pytest.mark.parametrize("q", [0.01, 0.3, 1.0, 3.64, 10.0, 100.0])
def test_tanh_moments_against_high_precision(q):
    expected = mp_moments(mpmath.tanh, lambda u: mpmath.sech(u) ** 2, mpmath.mpf(q))
    m = theory.moments("tanh", q)
    np.testing.assert_allclose([m.square, m.square_first, m.mixed, m.weighted], expected, rtol=1e-12)
    assert m.mean == 0.0
    assert m.error <= TOL
    assert m.points > 0


def closed_moments(name, q):
    """(E phi^2, E phi'^2, E phi phi' u, E phi'^2 u^2) in closed form."""
    r = math.sqrt(q)
    if name == "linear":
        return q, 1, q, q
    if name == "relu":
        return q / 2, 1 / 2, q / 2, q / 2
    if name == "abs":
        return q, 1, q, q
    if name == "erf":
        root = math.sqrt(1 + 4 * q)
        return (
            2 / math.pi * math.asin(2 * q / (1 + 2 * q)),
            4 / math.pi / root,
            4 / math.pi * q / ((1 + 2 * q) * root),
            4 / math.pi * q / root**3,
        )
    if name == "sin":
        decay = math.exp(-2 * q)
        return -math.expm1(-2 * q) / 2, (1 + decay) / 2, q * decay, (q + (q - 4 * q**2) * decay) / 2
    if name == "cos":
        decay = math.exp(-2 * q)
        return (1 + decay) / 2, -math.expm1(-2 * q) / 2, -q * decay, (q - (q - 4 * q**2) * decay) / 2
    if name == "shifted_relu":
        inside, edge = (1 + erf(0.5 / (r * math.sqrt(2)))) / 2, math.exp(-1 / (8 * q)) / math.sqrt(2 * math.pi)
        second = q * inside - 0.5 * r * edge  # E u^2 over u > -1/2
        return second + (1 - inside) / 4, inside, second, second
    assert name == "hard_tanh"
    inside = erf(1 / (r * math.sqrt(2)))
    second = q * inside - 2 * r * math.exp(-1 / (2 * q)) / math.sqrt(2 * math.pi)  # E u^2 over |u| < 1
    return second + 1 - inside, inside, second, second


@pytest.mark.parametrize("q", [0.01, 0.5, 1.0, 3.64, 30.0])
@pytest.mark.parametrize("name", ["linear", "relu", "abs", "erf", "sin", "cos", "hard_tanh", "shifted_relu"])
def test_moments_against_closed_forms(name, q):
    m = theory.moments(name, q)
    square, first, mixed, weighted = closed_moments(name, q)
    scale = math.sqrt(square * weighted)
    assert m.square == pytest.approx(square, rel=TOL)
    assert m.square_first == pytest.approx(first, rel=TOL)
    assert m.mixed == pytest.approx(mixed, rel=TOL, abs=TOL * scale)
    assert m.weighted == pytest.approx(weighted, rel=TOL)


@pytest.mark.parametrize("q", [1e-9, 0.3, 5.0, 40.0, 900.0, 1500.0, 1e4])
@pytest.mark.parametrize("function", [np.sin, np.cos])
def test_oscillations_between_nodes(function, q):
    """In closed form; and by quadrature, whose first rules must not agree by overlooking the same."""
    m = theory.moments(function.__name__, q)
    mine = activations.custom(function, np.cos if function is np.sin else lambda u: -np.sin(u))
    by_rule = theory.moments(mine, q)
    for name in ("mean", "mean_first", "square", "square_first", "weighted"):
        scale = max(1.0, q) if name == "weighted" else 1.0
        assert getattr(m, name) == pytest.approx(getattr(by_rule, name), rel=1e-11, abs=1e-11 * scale)
    assert m.mixed == pytest.approx(by_rule.mixed, rel=1e-10, abs=1e-11 * math.sqrt(q))
    assert m.square + m.square_first == pytest.approx(1, rel=1e-15)
    assert by_rule.error <= TOL
    if q > 100:
        assert m.square == 0.5


@pytest.mark.parametrize("q", [0.01, 1.0, 50.0])
def test_elu_and_selu_moments(q):
    def exponential(k):  # E exp(k u) over u < 0
        return erfcx(k * math.sqrt(q / 2)) / 2

    square = exponential(2) - 2 * exponential(1) + 0.5
    elu, selu = theory.moments("elu", q), theory.moments("selu", q)
    assert elu.square == pytest.approx(q / 2 + square, rel=2e-12)
    assert elu.square_first == pytest.approx(0.5 + exponential(2), rel=TOL)
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    assert selu.square == pytest.approx(scale**2 * (q / 2 + alpha**2 * square), rel=2e-12)
    assert selu.square_first == pytest.approx(scale**2 * (0.5 + alpha**2 * exponential(2)), rel=TOL)


@pytest.mark.parametrize("name", SMOOTH)
def test_stein_identity(name):
    # d/dq E phi^2 = E[phi phi' u] / q, by a fourth-order difference whose error is about (h/q)^4 / 30
    q, h = 1.7, 2e-3
    f = [theory.moments(name, q + k * h).square for k in (-2, -1, 1, 2)]
    slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
    assert theory.moments(name, q).mixed == pytest.approx(q * slope, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("name", BUILT_IN)
def test_zero_variance_is_the_value_at_zero(name):
    phi = activations.get(name)
    value, first = (float(a[0]) for a in phi.evaluate(np.zeros(1), order=1))
    m = theory.moments(phi, 0.0)
    assert m.square == pytest.approx(value**2, rel=1e-14)
    assert m.square_first == pytest.approx(first**2, rel=1e-14)
    pair = theory.pair_moments(phi, 0.0, 0.0, 2.0)
    other = theory.moments(phi, 2.0)
    assert pair.value == pytest.approx(value * other.mean, rel=1e-12, abs=1e-15)
    assert pair.first == pytest.approx(first * other.mean_first, rel=1e-12, abs=1e-15)


def test_custom_callables_integrate_like_the_built_in_ones():
    tanh = activations.custom(np.tanh, lambda u: 1 / np.cosh(u) ** 2)
    clip = activations.custom(lambda u: np.clip(u, -1, 1), lambda u: (np.abs(u) < 1).astype(u.dtype), kinks=(-1, 1))
    for custom, name in ((tanh, "tanh"), (clip, "hard_tanh")):
        ours, known = theory.moments(custom, 2.5), theory.moments(name, 2.5)
        for field in ("mean", "mean_first", "square", "square_first", "mixed", "weighted"):
            assert getattr(ours, field) == pytest.approx(getattr(known, field), rel=TOL, abs=1e-15)
        for b in (-1.0, 0.3, 1.58):
            pair, expected = theory.pair_moments(custom, 1.0, b, 2.5), theory.pair_moments(name, 1.0, b, 2.5)
            assert pair.value == pytest.approx(expected.value, abs=2e-12)
            assert pair.first == pytest.approx(expected.first, abs=2e-12)


def test_unnamed_kinks_warn_with_the_accuracy_that_was_reached():
    def step(u):
        return np.where(u > 0.3, 1.0, -0.2)

    def zero(u):
        return np.zeros_like(u)

    with pytest.warns(theory.QuadratureWarning, match=r"relative accuracy of \d\.\de-\d+ with \d+ points"):
        rough = theory.moments(activations.custom(step, zero), 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact = theory.moments(activations.custom(step, zero, kinks=(0.3,)), 1.0)
    above = 0.5 - 0.5 * erf(0.3 / math.sqrt(2))
    assert exact.square == pytest.approx(above + 0.04 * (1 - above), rel=TOL)
    assert TOL < abs(rough.square / exact.square - 1) <= 10 * rough.error


def test_the_warning_points_at_the_line_that_asked():
    def jump(u):
        return np.where(u > 0.3, 1.0, -0.2)

    phi = activations.custom(jump, np.zeros_like)
    prediction = ff.mean_field(ff.MLP((5, 5, 1), phi), 3)
    for ask in (
        lambda: theory.moments(phi, 1.0),
        lambda: theory.pair_moments(phi, 1.0, 0.5, 1.0),
        lambda: prediction.kappa1,  # through cached properties
        lambda: prediction.fisher_rao_norm,
    ):
        with pytest.warns(theory.QuadratureWarning) as caught:
            ask()
        assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("tol", [0.0, -1.0, 1e-16, 0.5])
def test_bad_tolerance(tol):
    with pytest.raises(ValueError, match="tol: expected a number between"):
        theory.moments("tanh", 1.0, tol=tol)


def test_bad_variances():
    with pytest.raises(ValueError, match="q: expected a number >= 0, got -1"):
        theory.moments("tanh", -1.0)
    with pytest.raises(ValueError, match=r"b: expected \|b\| <= sqrt\(a c\)"):
        theory.pair_moments("tanh", 1.0, 1.1, 1.0)
    with pytest.raises(TypeError, match="c: expected a number"):
        theory.pair_moments("tanh", 1.0, 0.1, "1")


# --- moments of a Gaussian pair
# -----------------------------------------------------------------------------------


def brute_force_pair(phi, a, b, c):
    """Trapezoidal double sum on a fixed fine grid."""
    z = np.arange(-9.5, 9.5, 1 / 32)
    w = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) / 32
    rho = b / math.sqrt(a * c)
    f, d = phi.evaluate(math.sqrt(a) * z, order=1)
    g, e = phi.evaluate(math.sqrt(c) * (rho * z[:, None] + math.sqrt(1 - rho**2) * z), order=1)
    return (w * f) @ (g @ w), (w * d) @ (e @ w)


@pytest.mark.parametrize("cov", [(1.0, 0.3, 1.0), (3.64, 0.64, 3.64), (0.2, -0.3, 2.0), (2.5, 1.9, 1.5)])
@pytest.mark.parametrize("name", SMOOTH)
def test_pairs_of_smooth_functions_against_brute_force(name, cov):
    phi = activations.get(name)
    pair = theory.pair_moments(phi, *cov)
    value, first = brute_force_pair(phi, *cov)
    assert pair.value == pytest.approx(value, rel=1e-11, abs=1e-12)
    assert pair.first == pytest.approx(first, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("name", ["relu", "abs", "hard_tanh", "shifted_relu", "elu", "selu", "leaky_relu"])
def test_pairs_of_kinked_functions_against_nested_integrals(name):
    # E phi(u)phi(v): both integrals by a composite rule of many short panels
    phi = activations.get(name)
    a, b, c = 1.3, 0.7, 0.8
    spread = math.sqrt(c - b * b / a)

    def expectation(g, scale, shift, panels=24):
        nodes, weights = np.polynomial.legendre.leggauss(30)
        ends = np.unique([*np.linspace(shift - 9 * scale, shift + 9 * scale, panels), *phi.kinks])
        mid, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
        x = (mid[:, None] + half[:, None] * nodes).ravel()
        w = (half[:, None] * weights).ravel() * np.exp(-0.5 * ((x - shift) / scale) ** 2)
        return g(x) @ w / (scale * math.sqrt(2 * math.pi))

    for order, got in enumerate((theory.pair_moments(phi, a, b, c).value, theory.pair_moments(phi, a, b, c).first)):

        def part(x, order=order):
            return phi.evaluate(x, order=1)[order]

        def outer(u, part=part):
            return part(u) * np.array([expectation(part, spread, b / a * x) for x in u])

        assert got == pytest.approx(expectation(outer, math.sqrt(a), 0.0), rel=1e-11)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("gap", [0.3, 1e-1, 1e-2, 1e-4, 1e-8, 0.0])
@pytest.mark.parametrize("name", BUILT_IN)
def test_pairs_up_to_full_correlation(name, gap, sign):
    # series and closed forms against the double integral, equal and unequal variances
    phi = activations.get(name)
    for a, c in ((1.0, 1.0), (0.6, 2.4)):
        b = sign * (1 - gap) * math.sqrt(a * c)
        got = theory.pair_moments(phi, a, b, c)
        value, first, error, _ = kernels.pair_moments(phi, a, b, c, TOL, direct=True)
        assert error <= TOL
        assert got.value == pytest.approx(value, rel=1e-12, abs=1e-12)
        # where phi' jumps, E phi'phi' goes like sqrt(1 - rho), which turns the rounding of rho into its root
        rounding = 4e-9 if phi.kinks and gap < 1e-6 else 1e-12
        assert got.first == pytest.approx(first, rel=rounding, abs=rounding)


@pytest.mark.parametrize("name", BUILT_IN)
def test_full_correlation_is_the_second_moment(name):
    for q in (0.05, 1.0, 7.0):
        pair, m = theory.pair_moments(name, q, q, q), theory.moments(name, q)
        assert pair.value == pytest.approx(m.square, rel=2e-12)
        assert pair.first == pytest.approx(m.square_first, rel=2e-12)


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_correlation_is_the_product_of_means(name):
    pair, a, c = (
        theory.pair_moments(name, 0.7, 0.0, 2.0),
        theory.moments(name, 0.7),
        theory.moments(name, 2.0),
    )
    assert pair.value == pytest.approx(a.mean * c.mean, rel=1e-12, abs=1e-14)
    assert pair.first == pytest.approx(a.mean_first * c.mean_first, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("tol", [1e-4, 1e-8])
def test_a_larger_tolerance_is_kept(tol):
    for b in (0.5, 1.5, 1.99):
        loose, tight = (
            theory.pair_moments("tanh", 2.0, b, 2.0, tol=tol),
            theory.pair_moments("tanh", 2.0, b, 2.0),
        )
        assert loose.first == pytest.approx(tight.first, abs=tol)
        assert loose.value == pytest.approx(tight.value, abs=tol)


def test_large_variance_falls_back_to_the_double_integral():
    # tanh at variance 400 has poles at 0.08 i: its series needs more terms than are kept
    a, rho = 400.0, 0.999
    pair = theory.pair_moments("tanh", a, rho * a, a)
    value, first = brute_force_fine(a, rho)
    assert pair.value == pytest.approx(value, rel=1e-10)
    assert pair.first == pytest.approx(first, rel=1e-10)


def brute_force_fine(a, rho):
    z, y = np.arange(-9.0, 9.0, 1 / 400), np.arange(-9.0, 9.0, 1 / 24)
    w, v = (np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0]) for x in (z, y))
    u = math.sqrt(a) * z
    s = math.sqrt(a) * (rho * z[:, None] + math.sqrt(1 - rho**2) * y)
    sech = [1 / np.cosh(np.clip(x, -300, 300)) ** 2 for x in (u, s)]
    return (w * np.tanh(u)) @ (np.tanh(s) @ v), (w * sech[0]) @ (sech[1] @ v)


variances = st.floats(0.01, 20.0)
correlations = st.floats(-1.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(BUILT_IN), a=variances, c=variances, rho=correlations)
def test_pair_invariants(name, a, c, rho):
    b = rho * math.sqrt(a * c) * (1 - 1e-15)
    pair, swapped = theory.pair_moments(name, a, b, c), theory.pair_moments(name, c, b, a)
    m, n = theory.moments(name, a), theory.moments(name, c)
    value_scale, first_scale = math.sqrt(m.square * n.square), math.sqrt(m.square_first * n.square_first)
    slack = 1e-11
    assert abs(pair.value) <= value_scale * (1 + slack)
    assert abs(pair.first) <= first_scale * (1 + slack)
    assert pair.value == pytest.approx(swapped.value, abs=slack * value_scale)
    assert pair.first == pytest.approx(swapped.first, abs=slack * first_scale)
    if activations.get(name).is_odd:
        mirrored = theory.pair_moments(name, a, -b, c)
        assert mirrored.value == pytest.approx(-pair.value, abs=slack * value_scale)
        assert mirrored.first == pytest.approx(pair.first, abs=slack * first_scale)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["relu", "leaky_relu", "abs", "linear"]),
    a=variances,
    c=variances,
    rho=correlations,
    scale=st.floats(0.01, 100.0),
)
def test_homogeneous_functions_scale(name, a, c, rho, scale):
    b = rho * math.sqrt(a * c) * (1 - 1e-15)
    pair, scaled = (
        theory.pair_moments(name, a, b, c),
        theory.pair_moments(name, scale * a, scale * b, scale * c),
    )
    assert scaled.value == pytest.approx(scale * pair.value, rel=1e-7, abs=1e-12 * scale * math.sqrt(a * c))
    assert scaled.first == pytest.approx(pair.first, rel=1e-7, abs=1e-7)  # rounding of rho near +-1, under a root


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(BUILT_IN), a=variances, c=variances, rho=st.floats(-0.95, 0.95))
def test_price_theorem(name, a, c, rho):
    # d E phi(u)phi(v) / db = E phi'(u)phi'(v); fourth-order difference, error about h^4 in rho
    root, h = math.sqrt(a * c), 1e-3
    f = [theory.pair_moments(name, a, (rho + k * h) * root, c).value for k in (-2, -1, 1, 2)]
    slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h * root)
    scale = math.sqrt(theory.moments(name, a).square_first * theory.moments(name, c).square_first)
    assert theory.pair_moments(name, a, rho * root, c).first == pytest.approx(slope, abs=5e-9 * scale)


def test_public_names():
    assert ff.QuadratureWarning is theory.QuadratureWarning
