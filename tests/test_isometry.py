"""Isometry points, atoms and closed laws against mpmath, the integrals they solve, and finite random matrices."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate

import fisherfield as ff
from fisherfield import activations, theory

mp = mpmath.mp.clone()
mp.dps = 30


def clamp(u):
    return np.clip(u, -1, 1)


CLAMP = activations.custom(clamp, lambda u: (np.abs(u) < 1).astype(u.dtype), kinks=(-1, 1))


def haar(rng, n):
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


def projection(rng, n, rank):
    diagonal = np.zeros(n)
    diagonal[rng.permutation(n)[:rank]] = 1
    return diagonal


def dual_chain(rng, shifts, scales, diagonals):
    """Eigenvalues of H_L, descending; H_{l+1} = shift + scale W D H_l D W^T with W orthogonal."""
    n = len(diagonals[0])
    H = shifts[0] * np.eye(n)
    for shift, scale, diagonal in zip(shifts[1:], scales, diagonals, strict=True):
        A = math.sqrt(scale) * haar(rng, n) * diagonal
        H = shift * np.eye(n) + A @ H @ A.T
    return np.linalg.eigvalsh(H)[::-1]


# --- the isometry point -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eps", "gain", "q"), [(0.25, 1.00125, 0.1093), (0.0625, 1.00031, 0.0855), (0.015625, 1.00008, 0.0700)]
)
def test_hard_tanh_presets(eps, gain, q):
    point = ff.isometry_point("hard_tanh", 100, eps)
    assert point.gain == pytest.approx(gain, abs=5e-6)
    assert point.q == pytest.approx(q, abs=5e-5)


def mp_clamp_point(name, depth, eps):
    """(q, sigma_b^2, V) from p by root finding and V by quadrature."""
    kink, sides = {"hard_tanh": (1, 2), "shifted_relu": (mp.mpf(1) / 2, 1)}[name]
    p = 1 / (1 + mp.mpf(eps) / depth)

    def missing(log_root):
        return mp.log(sides * mp.erfc(kink / (mp.exp(log_root) * mp.sqrt(2))) / 2 / (1 - p))

    q = mp.exp(2 * mp.findroot(missing, (-1.5, 0.5), solver="anderson", tol=1e-40, maxsteps=200))
    x = kink / mp.sqrt(q)
    inside = mp.quad(lambda z: z * z * mp.npdf(z), [-x, 0, x if sides == 2 else mp.inf])  # E u^2 / q where phi' = 1
    V = q * inside + kink**2 * mp.erfc(x / mp.sqrt(2)) / 2 * sides
    return float(q), float(q - V / p), float(V)


@pytest.mark.parametrize(
    ("depth", "eps"), [(1, 0.3), (2, 0.5), (100, 0.25), (100, 0.0625), (100, 0.015625), (1000, 1e-4), (7, 6.5)]
)
@pytest.mark.parametrize("name", ["hard_tanh", "shifted_relu"])
def test_closed_forms_at_high_precision(name, depth, eps):
    point = ff.isometry_point(name, depth, eps)
    q, bias_var, V = mp_clamp_point(name, depth, eps)
    assert point.q == pytest.approx(q, rel=1e-13)
    assert point.bias_var == pytest.approx(bias_var, rel=1e-12)
    assert point.second_moment == pytest.approx(V, rel=1e-13)
    assert point.weight_var == pytest.approx(1 + eps / depth, rel=1e-15)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["hard_tanh", "shifted_relu", "tanh", "erf", "elu"]),
    depth=st.integers(1, 500),
    spread=st.floats(1e-5, 0.5),
)
def test_the_point_solves_the_equations(name, depth, spread):
    point = ff.isometry_point(name, depth, depth * spread)
    m = theory.moments(name, point.q)
    assert point.weight_var * m.square_first == pytest.approx(1, rel=1e-11)
    assert point.weight_var * point.second_moment + point.bias_var == pytest.approx(point.q, rel=1e-12)
    assert point.second_moment == pytest.approx(m.square, rel=1e-11)
    assert depth * (1 / point.p - 1) == pytest.approx(point.eps, rel=1e-9)
    assert point.bias_var >= 0


@pytest.mark.parametrize("eps", [0.02, 0.25, 4.0])
def test_tanh_at_high_precision(eps):
    depth, point = 20, ff.isometry_point("tanh", 20, eps)

    def fourth(root):
        second, fourth = (
            mp.quad(lambda z, k=k: mp.sech(root * z) ** k * mp.npdf(z), [-14, -3, 0, 3, 14]) for k in (4, 8)
        )
        return fourth / second**2 - 1 - mp.mpf(eps) / depth

    root = mp.findroot(fourth, (0.8 * math.sqrt(point.q), 1.2 * math.sqrt(point.q)), solver="anderson", tol=1e-25)
    assert point.q == pytest.approx(float(root**2), rel=1e-12)


def test_a_custom_clamp_is_hard_tanh():
    known, custom = (ff.isometry_point(phi, 100, 0.25) for phi in ("hard_tanh", CLAMP))
    for field in ("p", "q", "weight_var", "bias_var", "second_moment", "top", "top_mass", "variance"):
        assert getattr(custom, field) == pytest.approx(getattr(known, field), rel=1e-9)


def test_q_range_chooses_among_several_points():
    with pytest.raises(ValueError, match=r"q_range: .*one solution for gelu.* got q = 0\.409635, 15\.8494; narrow"):
        ff.isometry_point("gelu", 10, 10.3)
    for q_range in ((1e-3, 1.0), (1.0, 100.0)):
        point = ff.isometry_point("gelu", 10, 10.3, q_range=q_range)
        assert q_range[0] < point.q < q_range[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hard_tanh", 0, 0.1), "depth: expected an integer >= 1, got 0"),
        (("hard_tanh", 10, 0.0), "eps: expected a number > 0, got 0"),
        (("hard_tanh", 10, -1.0), "eps: expected a number > 0, got -1"),
        (("hard_tanh", 1000, 701.0), "eps: expected a number from 1e-280 to 700, .* got 701"),
        (("hard_tanh", 10, 1e-300), "eps: expected a number from 1e-280"),
        (("shifted_relu", 3, 3.0), "eps: expected less than 3 for shifted_relu with depth=3"),
        (("linear", 10, 0.1), "activation: .*got linear, which has eps = 0 at depth=10 whatever q"),
        (("abs", 10, 0.1), "activation: .*got abs, which has eps = 0 at"),
        (("relu", 10, 0.1), "activation: .*got relu, which has eps = 10 at depth=10 whatever q"),
        (("relu", 10, 10.0), "activation: .*got relu, which has eps = 10 at depth=10 whatever q"),
        (("leaky_relu", 10, 0.1), "activation: .*got leaky_relu, which has eps = 9.996"),
        (("sin", 10, 5.5), r"eps: expected .* to 5 for sin, depth=10 and q_range=\(1e-06, 100\), got 5.5"),
        (("sigmoid", 10, 0.1), r"eps: .*leaves sigma_b\^2.*>= 0 for sigmoid, .*subtract a constant"),
    ],
)
def test_no_point(arguments, message):
    with pytest.raises(ValueError, match=message):
        ff.isometry_point(*arguments)


@pytest.mark.parametrize("q_range", [(1.0,), (1.0, 0.1), (0.0, 1.0)])
def test_bad_q_range(q_range):
    with pytest.raises(ValueError, match="q_range"):
        ff.isometry_point("tanh", 10, 0.1, q_range=q_range)


def test_a_constant_subtracted_makes_a_point():
    def shifted(u):
        return 1 / (1 + np.exp(-u)) - 0.5

    assert ff.isometry_point(activations.custom(shifted), 10, 0.1).bias_var > 0


# --- the law at the point ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hard_tanh", "shifted_relu"])
@pytest.mark.parametrize("depth", [1, 2, 10, 300])
def test_equal_layers_are_a_case_of_the_general_atom(name, depth):
    point = ff.isometry_point(name, depth, 0.25)
    V = point.second_moment
    top, mass = theory.top_atom([V] * depth, point.weight_var, point.p)
    assert point.top == pytest.approx(top, rel=1e-12)
    assert point.top_mass == pytest.approx(mass, abs=1e-12)
    assert point.mean == pytest.approx(V * depth)
    assert point.variance == pytest.approx((1 / point.p - 1) * V**2 * sum(l**2 for l in range(depth)))
    assert point.top == pytest.approx(point.top_limit, rel=0.6 / depth)


def test_slopes_between_0_and_1_have_no_atoms():
    point = ff.isometry_point("tanh", 10, 0.1)
    assert not point.has_atoms
    for name in ("top", "top_mass", "top_limit"):
        with pytest.raises(ValueError, match=f"{name}: expected an activation whose slopes are 0 and ±1, got tanh"):
            getattr(point, name)


def test_a_law_without_its_atom():
    point = ff.isometry_point("hard_tanh", 10, 8.0)
    assert point.top_mass == 0.0


@pytest.mark.parametrize("name", ["tanh", "erf", "hard_tanh", "shifted_relu"])
def test_mean_and_variance_of_a_network(name):
    point, width = ff.isometry_point(name, 8, 0.8), 400
    net = point.architecture(width).sample(seed=3)
    h = np.random.default_rng(0).standard_normal(width)
    h *= math.sqrt(width * point.second_moment) / np.linalg.norm(h)
    H, jacobian = point.second_moment * np.eye(width), net.weights[0]
    u = net.weights[0] @ h + net.biases[0]
    for W, b in zip(net.weights[1:], net.biases[1:], strict=True):
        h, slope = point.activation.evaluate(u)
        A = W * slope
        H, jacobian = h @ h / width * np.eye(width) + A @ H @ A.T, A @ jacobian
        u = W @ h + b
    values, squares = np.linalg.eigvalsh(H), np.linalg.svd(jacobian, compute_uv=False) ** 2
    assert values.mean() == pytest.approx(point.mean, rel=0.05)
    assert values.var() == pytest.approx(point.variance, rel=0.15)
    assert squares.mean() == pytest.approx(point.weight_var, rel=0.05)  # the first layer has no slopes
    assert squares.var() == pytest.approx(point.weight_var**2 * point.eps * 7 / 8, rel=0.15)  # seven layers do


def test_variance_of_free_squared_slopes():
    """Any slopes, each layer's drawn apart: what is averaged over orthogonal matrices is exact up to 1 / n."""
    rng, n, depth, V = np.random.default_rng(1), 500, 6, 0.7
    slopes = [rng.uniform(0.2, 1.0, n) for _ in range(depth - 1)]
    scales = [1 / np.mean(d**2) for d in slopes]
    values = dual_chain(rng, [V] * depth, scales, slopes)
    spread = [np.mean(d**4) / np.mean(d**2) ** 2 - 1 for d in slopes]
    variance = V**2 * sum(s * l**2 for l, s in enumerate(spread, start=1))
    assert values.mean() == pytest.approx(V * depth, rel=1e-2)
    assert values.var() == pytest.approx(variance, rel=2e-2)


# --- the largest atom -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "n"), [(2, 60), (3, 101), (10, 150), (50, 150), (200, 260)])
def test_top_atom_is_exact_at_finite_width(depth, n):
    rng = np.random.default_rng(depth)
    most = max(1, (n - 5) // (depth - 1))  # dimensions a layer may take
    ranks = [n - int(rng.integers(1, min(most, 20) + 1)) for _ in range(depth - 1)]
    shifts, scales = rng.uniform(0.2, 1.0, depth), rng.uniform(0.9, 1.1, depth - 1)
    values = dual_chain(rng, shifts, scales, [projection(rng, n, rank) for rank in ranks])
    position, mass = theory.top_atom(shifts, scales, [rank / n for rank in ranks])
    count = round(mass * n)
    assert mass * n == pytest.approx(count, abs=1e-9)
    assert count > 0
    np.testing.assert_allclose(values[:count], position, rtol=1e-12)
    assert values[count] < position * (1 - 1e-9)


def test_top_atom_of_degenerate_layers():
    assert theory.top_atom([2.0], [], []) == (2.0, 1.0)
    assert theory.top_atom([0.0, 0.0, 3.0], 1.0, 0.5) == (3.0, 1.0)  # nothing for a projection to take
    assert theory.top_atom([1.0, 1.0, 1.0], 1.0, 0.25) == (3.0, 0.0)
    assert theory.top_atom([1.0, 1.0], 2.0, 1.0) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1.0, 1.0), "shifts: expected at least one"),
        (([1.0, -1.0], 1.0, 1.0), r"shifts\[1\]: expected a number >= 0, got -1"),
        (([1.0, 1.0], 0.0, 1.0), "scales: expected a number > 0"),
        (([1.0, 1.0], [1.0, 1.0], 1.0), r"scales: .*layer \(1\), got 2 numbers"),
        (([1.0, 1.0], 1.0, [1.5]), r"p: expected a number in \[0, 1\], got 1.5"),
    ],
)
def test_bad_atoms(arguments, message):
    with pytest.raises(ValueError, match=message):
        theory.top_atom(*arguments)


# --- two hidden layers ------------------------------------------------------------------------------------------------

fractions = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0.01, 0.99))


@settings(max_examples=100, deadline=None)
@given(
    p1=fractions,
    p2=fractions,
    shifts=st.tuples(*[st.one_of(st.just(0.0), st.floats(0.1, 2.0))] * 3),
    scale=st.floats(0.5, 2.0),
)
def test_total_mass_and_moments(p1, p2, shifts, scale):
    law = theory.TwoHiddenLayers(p1, p2, shifts, scale)
    positions, masses = law.atoms
    assert (np.diff(positions) > 0).all()
    assert (masses > 0).all()
    high = theory.top_atom(shifts, scale, [p1, p2])[0]
    assert law.cdf(high * (1 + 1e-12) + 1e-12) == pytest.approx(1, abs=1e-14)
    assert law.cdf(shifts[2] - 1e-9) == 0
    q0, q1, q2 = shifts
    moments = [masses @ positions**k for k in range(3)]
    if law.support is not None:
        a, b = law.support
        t, w = np.polynomial.legendre.leggauss(400)
        t, w = math.pi / 2 * (t + 1), math.pi / 2 * w
        x = (a + b) / 2 - (b - a) / 2 * np.cos(t)
        rho = law.density(x) * (b - a) / 2 * np.sin(t) * w
        assume(min(abs(p1 - p2), abs(1 - p1 - p2)) == 0 or min(abs(p1 - p2), abs(1 - p1 - p2)) > 0.02)
        moments = [m + rho @ x**k for k, m in enumerate(moments)]
    # free moments: x = P2 Q P2 has mean p1 p2 and mean square p1 p2 (p1 + p2 - p1 p2)
    s, below = scale, q1 * p2 + scale * q0 * p1 * p2
    square = q1**2 * p2 + 2 * q1 * s * q0 * p1 * p2 + (s * q0) ** 2 * p1 * p2 * (p1 + p2 - p1 * p2)
    expected = [1, q2 + s * below, q2**2 + 2 * q2 * s * below + s**2 * square]
    np.testing.assert_allclose(moments, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("p1", "p2"), [(0.8, 0.65), (0.3, 0.9), (0.2, 0.4), (0.999, 0.99)])
def test_distribution_is_the_integral_of_the_density(p1, p2):
    law = theory.TwoHiddenLayers(p1, p2, (1.0, 0.7, 0.5), 1.3)
    low, high = law.support
    middle, half = (low + high) / 2, (high - low) / 2
    positions, masses = law.atoms
    for angle in np.linspace(0.05, math.pi - 0.05, 7):
        end = middle - half * math.cos(angle)
        part = integrate.quad(
            lambda t: float(law.density(middle - half * math.cos(t))) * half * math.sin(t),
            0,
            angle,
            epsabs=1e-14,
            epsrel=1e-13,
            limit=200,
        )[0]
        assert float(law.cdf(end)) == pytest.approx(part + masses[positions <= end].sum(), abs=1e-12)


@pytest.mark.parametrize(("p1", "p2"), [(0.8, 0.65), (0.3, 0.9), (0.5, 0.5), (0.25, 0.4)])
def test_two_hidden_layers_of_a_finite_network(p1, p2):
    rng, n, shifts, scale = np.random.default_rng(5), 800, (1.0, 0.7, 0.5), 1.3
    values = dual_chain(rng, shifts, [scale] * 2, [projection(rng, n, round(p * n)) for p in (p1, p2)])
    law = theory.TwoHiddenLayers(p1, p2, shifts, scale)
    for position, mass in zip(*law.atoms, strict=True):
        assert np.sum(np.abs(values - position) < 1e-11) == round(mass * n)
    low, high = law.support
    x = np.linspace(low, high, 400)
    empirical = np.searchsorted(values[::-1], x + 1e-9) / n
    assert np.abs(law.cdf(x) - empirical).max() < 4 / n


@pytest.mark.parametrize("p", [(0.0, 0.6), (1.0, 0.6), (0.6, 0.0), (0.6, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_degenerate_projections(p):
    n, rng = 10, np.random.default_rng(2)
    law = theory.TwoHiddenLayers(*p, (1.0, 0.7, 0.5), 1.3)
    values = dual_chain(rng, (1.0, 0.7, 0.5), [1.3] * 2, [projection(rng, n, round(f * n)) for f in p])
    assert law.support is None
    assert (law.density(np.linspace(0, 3, 20)) == 0).all()
    positions, masses = law.atoms
    np.testing.assert_allclose(np.repeat(positions, np.rint(masses * n).astype(int)), values[::-1], rtol=1e-13)
    assert law.cdf(10.0) == 1.0


def test_density_keeps_shapes_and_grows_at_an_edge_that_touches_an_atom():
    law = theory.TwoHiddenLayers(0.5, 0.5, (1.0, 0.0, 0.0), 1.0)  # the arcsine law on [0, 1]
    assert law.density(np.zeros((2, 3))).shape == (2, 3)
    assert np.isinf(law.density(0.0))
    assert law.density(-1.0) == law.density(2.0) == 0
    assert float(law.density(0.5)) == pytest.approx(0.5 * 2 / math.pi, rel=1e-14)
    x = np.linspace(0, 1, 101)
    np.testing.assert_allclose(law.cdf(x), 0.5 + np.arcsin(np.sqrt(x)) / math.pi, atol=1e-15)


def test_bad_two_hidden_layers():
    with pytest.raises(ValueError, match=r"p1: expected a number in \[0, 1\], got 1.5"):
        theory.TwoHiddenLayers(1.5, 0.5, (1, 1, 1), 1.0)
    with pytest.raises(ValueError, match="shifts: expected three numbers, got 2"):
        theory.TwoHiddenLayers(0.5, 0.5, (1, 1), 1.0)
    with pytest.raises(ValueError, match="scale: expected a number > 0"):
        theory.TwoHiddenLayers(0.5, 0.5, (1, 1, 1), 0.0)
    with pytest.raises(TypeError, match="x: expected a float32 or float64"):
        theory.TwoHiddenLayers(0.5, 0.5, (1, 1, 1), 1.0).cdf(np.array([True]))


# --- one hidden layer -------------------------------------------------------------------------------------------------


def sine_fisher(W1, W2):
    """The Fisher information matrix of y = W2 sin(W1 x), averaged over all Gaussian x in closed form; W2 first."""
    n = len(W1)
    pairs = {sign: W1[:, None] + sign * W1 for sign in (1, -1)}  # [k, l]: w_k +- w_l
    decay = {sign: np.exp(-0.5 * (w**2).sum(-1)) for sign, w in pairs.items()}
    values = (decay[-1] - decay[1]) / 2  # E sin sin
    # E cos(u_k) cos(u_l) x x^T and, with w_j first, E sin(u_j) cos(u_k) x
    slopes = sum(decay[s][..., None, None] * (np.eye(n) - w[..., :, None] * w[..., None, :]) for s, w in pairs.items())
    mixed = sum(decay[s][..., None] * w for s, w in pairs.items())
    F = np.zeros((2, n, n, 2, n, n))
    F[0, :, :, 0] = np.einsum("op,jl->ojpl", np.eye(n), values)
    F[1, :, :, 1] = np.einsum("kl,klij->kilj", W2.T @ W2, slopes / 2)
    F[0, :, :, 1] = np.einsum("ok,jki->ojki", W2, mixed / 2)
    F[1, :, :, 0] = F[0, :, :, 1].transpose(2, 3, 0, 1)
    return F.reshape(2 * n * n, 2 * n * n)


def gaussian_weights(seed, n):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, n, n)) / math.sqrt(n)


def test_sine_fisher_is_the_average_over_inputs():
    n = 4
    W1, W2 = gaussian_weights(0, n)
    x = np.random.default_rng(1).standard_normal((100_000, n))
    net = ff.Network([W1, W2], None, activation="sin")
    measured = ff.Fisher(net, x).dense()
    order = np.r_[n * n : 2 * n * n, : n * n]
    assert np.abs(measured[np.ix_(order, order)] - sine_fisher(W1, W2)).max() < 0.03


def test_one_hidden_layer_against_finite_networks():
    """The law of all eigenvalues nears as widths grow; two bands meet at the median, where it is the last to."""
    law, distances = theory.SingleHiddenLayer("sin"), []
    limit = law.eigenvalues(300)[::-1]
    for n in (8, 30):
        matrices = [sine_fisher(*gaussian_weights(seed, n)) for seed in range(3)]
        measured = np.sort(np.concatenate([np.linalg.eigvalsh(F) for F in matrices]))
        below = np.searchsorted(limit, measured) / len(limit)
        distances.append(np.abs(below - (np.arange(len(measured)) + 0.5) / len(measured)).max())
    assert distances[1] < 0.13 < 0.25 < distances[0]
    assert measured.mean() == pytest.approx(law.mean, rel=0.03)
    for level in (0.75, 0.9, 0.98):
        assert np.quantile(measured, level) == pytest.approx(np.quantile(limit, level), rel=0.06), level


def test_linear_network_has_half_its_spectrum_at_zero():
    law, n = theory.SingleHiddenLayer("linear"), 30
    values = law.eigenvalues(n)
    assert (values[n * n :] == 0).all()
    assert law.zero_mass == 0.5
    assert law.gap == 0
    assert law.upper_edge == pytest.approx(8)
    squares = theory.single_layer._marchenko_pastur_quantiles((np.arange(n) + 0.5) / n)
    np.testing.assert_allclose(values[: n * n], np.sort(np.add.outer(squares, squares).ravel())[::-1], rtol=1e-14)


@settings(max_examples=50, deadline=None)
@given(u=st.floats(1e-6, 1 - 1e-6))
def test_marchenko_pastur_quantiles(u):
    x = mp.mpf(float(theory.single_layer._marchenko_pastur_quantiles(np.array([u]))[0]))
    angle = mp.asin(mp.sqrt(x) / 2)
    below = 2 / mp.pi * (angle + mp.sin(angle) * mp.cos(angle))
    assert float(below) == pytest.approx(u, abs=1e-15 + 1e-12 * u)


@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "hard_tanh"])
def test_moments_and_edges_of_one_hidden_layer(name):
    law, m = theory.SingleHiddenLayer(name), theory.moments(name, 1.0)
    assert (law.eta, law.eta_first, law.zeta) == (m.square, m.square_first, m.mean_first**2)
    values = law.eigenvalues(400)
    assert values.shape == (320_000,)
    assert (np.diff(values) <= 0).all()
    assert values.mean() == pytest.approx(law.mean, rel=1e-3)
    assert values.var() == pytest.approx(law.variance, rel=1e-2)
    assert law.zero_mass == 0
    assert 0 < law.gap == pytest.approx(law.eta - law.zeta, rel=1e-10)
    assert law.gap <= values[-1] < 1.01 * law.gap
    assert 0.95 * law.upper_edge < values[0] <= law.upper_edge


def test_a_centred_relu():
    shift = 1 / math.sqrt(2 * math.pi)
    relu = activations.custom(lambda u: np.maximum(u, 0) - shift, lambda u: (u > 0).astype(u.dtype), kinks=(0,))
    law = theory.SingleHiddenLayer(relu)
    assert law.eta == pytest.approx(0.5 - shift**2, rel=1e-12)
    assert law.gap == pytest.approx(0.25 - shift**2, rel=1e-11)


def test_one_hidden_layer_refuses():
    with pytest.raises(
        ValueError, match=r"activation: expected E phi\(u\) = 0 .*, got 0.398942.* for relu; subtract it"
    ):
        theory.SingleHiddenLayer("relu")
    with pytest.raises(ValueError, match="activation: expected a function that is not 0"):
        theory.SingleHiddenLayer(activations.custom(np.zeros_like, np.zeros_like, np.zeros_like, name="zero"))
    with pytest.raises(MemoryError, match=r"eigenvalues\(n=10000000\) needs .*give a smaller n"):
        theory.SingleHiddenLayer("tanh").eigenvalues(10_000_000)
    with pytest.raises(ValueError, match="n: expected an integer >= 1, got 0"):
        theory.SingleHiddenLayer("tanh").eigenvalues(0)
