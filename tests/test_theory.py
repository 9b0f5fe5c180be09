"""Mean-field predictions against published numbers, closed forms and independent recursions."""

import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield import activations, theory

ACTIVATIONS = activations.available()


def network(activation="tanh", weight_var=3.0, bias_var=0.64, L=3, width=50, C=1):
    return ff.MLP((width,) * L + (C,), activation, weight_var=weight_var, bias_var=bias_var)


def order_by_pairs(arch, a, b, c):
    """The recursion of one pair written out: lists q_st (l = 1..L), qhat_st (0..L-1), qtilde_st (1..L)."""
    q, qhat, first = [], [b], []
    diagonal = [(a, c)]
    same = a == b == c  # then no rounding of a correlation of 1
    for l in range(arch.depth):
        sw2, sb2 = arch.weight_vars[l], arch.bias_vars[l]
        p, r = (sw2 * x + sb2 for x in diagonal[-1])
        q.append(sw2 * qhat[-1] + sb2)
        if l + 1 < arch.depth:
            phi = arch.activations[l]
            m, pair = theory.moments(phi, p), theory.pair_moments(phi, p, q[-1], r)
            qhat.append(m.square if same else pair.value)
            first.append(m.square_first if same else pair.first)
            diagonal.append((theory.moments(phi, p).square, theory.moments(phi, r).square))
    qtilde = [1.0]
    for l in range(arch.depth - 1, 0, -1):
        qtilde.insert(0, arch.weight_vars[l] * qtilde[0] * first[l - 1])
    return q, qhat, qtilde


# --- published and reference numbers
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "weight_var", "bias_var", "L", "kappa1", "kappa2"),
    [
        ("tanh", 3, 0.64, 3, 0.9555219042, 0.1186153721),
        ("tanh", 3, 0.64, 4, 0.8082779825, 0.1367502676),
        ("relu", 2, 0.1, 3, 1.575, 0.40149422),
        ("relu", 2, 0.1, 4, 1.43333333, 0.42890649),
        ("linear", 1, 0.1, 3, 1.65, 0.15),
        ("linear", 1, 0.1, 4, 1.53333333, 0.2),
        ("erf", 3, 0.64, 3, 1.23932113, 0.12571224),
        ("erf", 3, 0.64, 4, 1.15215112, 0.14329264),
    ],
)
def test_kappas(activation, weight_var, bias_var, L, kappa1, kappa2):
    mf = ff.mean_field(network(activation, weight_var, bias_var, L), 100)
    assert mf.alpha == L - 1
    assert mf.kappa1 == pytest.approx(kappa1, abs=6e-9)
    assert mf.kappa2 == pytest.approx(kappa2, abs=6e-9)


def test_order_parameters_of_tanh():
    order = ff.mean_field(network(), 7).order_parameters
    expected = {
        "q": (3.64, 2.5018025772, 2.3168338433),
        "q_st": (0.64, 0.9173616433, 1.1828520342),
        "qhat": (1, 0.6206008591, 0.5589446144),
        "qhat_st": (0, 0.0924538811, 0.1809506781),
        "qtilde": (0.7622680508, 0.9504194758, 1),
        "qtilde_st": (0.2657142433, 0.6087366520, 1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(order, name), values, atol=6e-11)


def test_relu_in_closed_form():
    # sw2 = 2, no bias: q = 2 at every layer, qtilde = 1; the correlation follows the arc-cosine map
    arch = network("relu", 2.0, None, L=4, width=30)
    mf = ff.mean_field(arch, ff.InputStatistics(T=9, qhat0=1.0, qhat_st0=0.3))
    rho, derivative = [0.3], []
    for _ in range(3):
        angle = math.acos(rho[-1])
        rho.append((math.sin(angle) + (math.pi - angle) * rho[-1]) / math.pi)
        derivative.append((math.pi - angle) / math.pi)
    backward = [math.prod(derivative[l:]) for l in range(4)]
    order = mf.order_parameters
    np.testing.assert_allclose(order.q, 2.0, rtol=1e-15)
    np.testing.assert_allclose(order.qtilde, 1.0, rtol=1e-15)
    np.testing.assert_allclose(order.qhat_st, rho, rtol=1e-14)
    np.testing.assert_allclose(order.qtilde_st, backward, rtol=1e-14)
    assert mf.kappa1 == pytest.approx(4 / 3)
    assert mf.kappa2 == pytest.approx(np.dot(rho, backward) / 3, rel=1e-14)


def test_layers_of_their_own():
    arch = ff.MLP(
        (20, 40, 60, 30, 3), ["tanh", "relu", "gelu"], weight_var=[2.0, 1.5, 1.2, 0.7], bias_var=[0.1, 0.0, 0.3, 0.2]
    )
    mf = ff.mean_field(arch, ff.InputStatistics(T=5, qhat0=1.4, qhat_st0=-0.3))
    order = mf.order_parameters
    q, qhat, qtilde = order_by_pairs(arch, 1.4, 1.4, 1.4)
    np.testing.assert_allclose(order.q, q, rtol=1e-11)
    np.testing.assert_allclose(order.qhat, qhat, rtol=1e-11)
    np.testing.assert_allclose(order.qtilde, qtilde, rtol=1e-11)
    q, qhat, qtilde = order_by_pairs(arch, 1.4, -0.3, 1.4)
    np.testing.assert_allclose(order.q_st, q, rtol=1e-11)
    np.testing.assert_allclose(order.qhat_st, qhat, rtol=1e-11)
    np.testing.assert_allclose(order.qtilde_st, qtilde, rtol=1e-11)
    alpha = (20 * 40 + 40 * 60 + 60 * 30) / 40**2
    assert mf.alpha == pytest.approx(alpha, rel=1e-15)
    ratios = np.array([20, 40, 60, 30]) / 40 / alpha
    assert mf.kappa1 == pytest.approx(ratios @ (order.qtilde * order.qhat), rel=1e-13)
    assert mf.kappa2 == pytest.approx(ratios @ (order.qtilde_st * order.qhat_st), rel=1e-13)


# --- statistics
# ---------------------------------------------------------------------------------------------------


def test_statistics_are_the_published_formulas():
    arch, T = network(C=5, width=80), 30
    mf = ff.mean_field(arch, T)
    k1, k2, alpha, M, C = mf.kappa1, mf.kappa2, mf.alpha, 80, 5
    s = mf.statistics
    assert s.mean == pytest.approx(k1 * C / M, rel=1e-14)
    assert s.second_moment == pytest.approx(C * alpha * ((T - 1) / T * k2**2 + k1**2 / T), rel=1e-14)
    assert s.maximum == pytest.approx(alpha * ((T - 1) / T * k2 + k1 / T) * M, rel=1e-14)
    assert (s.num_parameters, s.num_samples, s.num_outputs) == (arch.num_parameters, T, C)
    assert mf.critical_learning_rate(0.9) == pytest.approx(3.8 / s.maximum, rel=1e-15)
    assert mf.count_above(1e-9) == C * T
    assert mf.count_above(s.maximum) == pytest.approx(alpha * k1 * C * M / s.maximum, rel=1e-14)
    bounds = mf.bounds_wide_output()
    assert bounds.mean == s.mean
    assert bounds.second_moment == pytest.approx((s.second_moment, C * s.second_moment))
    assert bounds.maximum == pytest.approx((s.maximum, math.sqrt(alpha * C * s.second_moment) * M))
    assert bounds.maximum[0] <= bounds.maximum[1]


@pytest.mark.parametrize("bias_var", [None, 0.0, 0.64])
def test_refined_statistics_count_exactly(bias_var):
    arch = ff.MLP((20, 40, 30, 4), "tanh", weight_var=2.0, bias_var=bias_var)
    T, C = 11, 4
    mf = ff.mean_field(arch, ff.InputStatistics(T, 1.0, 0.2))
    order, plus = mf.order_parameters, 0.0 if bias_var is None else 1.0
    fan_in = np.array([20, 40, 30])
    trace = C * order.qtilde @ (fan_in * order.qhat + plus)
    entry = order.qtilde_st @ (fan_in * order.qhat_st + plus)
    refined, P = mf.refined_statistics, 20 * 40 + 40 * 30 + 30 * 4 + (0 if bias_var is None else 74)
    assert refined.num_parameters == P
    assert refined.mean == pytest.approx(trace / P, rel=1e-14)
    assert refined.maximum == pytest.approx((trace / C + (T - 1) * entry) / T, rel=1e-14)
    squares = C * (trace / C) ** 2 / T + C * (T - 1) / T * entry**2
    assert refined.second_moment == pytest.approx(squares / P, rel=1e-14)
    dual = mf.dual(refined=True)
    np.testing.assert_allclose(dual, (np.full((T, T), entry) + np.eye(T) * (trace / C - entry)) / T, rtol=1e-14)
    if bias_var is None:
        np.testing.assert_array_equal(dual, mf.dual())


@pytest.mark.parametrize("overlap", [-0.05, 0.0, 0.4, 1.0])
def test_statistics_are_those_of_the_dual(overlap):
    mf = ff.mean_field(network(C=3), ff.InputStatistics(T=12, qhat0=1.0, qhat_st0=overlap))
    for refined, stats, count in (
        (False, mf.statistics, mf.alpha * mf.M**2),
        (True, mf.refined_statistics, mf.arch.num_parameters),
    ):
        eigenvalues = np.linalg.eigvalsh(mf.dual(refined=refined))
        assert stats.mean == pytest.approx(3 * eigenvalues.sum() / count, rel=1e-12)
        assert stats.second_moment == pytest.approx(3 * (eigenvalues**2).sum() / count, rel=1e-12)
        assert stats.maximum == stats.top_mean == pytest.approx(eigenvalues[-1], rel=1e-12)


def test_negative_kappa2():
    mf = ff.mean_field(network(bias_var=0.0), ff.InputStatistics(T=3, qhat0=1.0, qhat_st0=-0.4))
    assert mf.kappa2 < 0
    assert mf.statistics.maximum == pytest.approx(np.linalg.eigvalsh(mf.dual())[-1], rel=1e-12)


def test_the_split_by_M_changes_no_prediction():
    arch = network(L=4, width=60)
    default, other = ff.mean_field(arch, 20), ff.mean_field(arch, 20, M=17.5)
    assert default.M == 60
    assert other.alpha == pytest.approx(default.alpha * (60 / 17.5) ** 2)
    for name in ("mean", "second_moment", "maximum"):
        assert getattr(other.statistics, name) == pytest.approx(getattr(default.statistics, name), rel=1e-13)


@pytest.mark.parametrize(
    ("activation", "bias_var", "centered"),
    [
        ("tanh", 0.0, True),
        ("linear", None, True),
        ("hard_tanh", 0.0, True),
        ("tanh", 0.1, False),
        ("relu", 0.0, False),
        ("shifted_relu", 0.0, False),
        ("gelu", 0.0, False),
    ],
)
def test_centered_networks(activation, bias_var, centered):
    mf = ff.mean_field(network(activation, 1.5, bias_var), 10)
    assert mf.is_centered is centered
    assert not ff.mean_field(mf.arch, ff.InputStatistics(10, 1.0, 0.2)).is_centered


def test_a_loose_tolerance_centres_no_network():
    mf = ff.mean_field(network("tanh", 1.5, 1e-3), 10, tol=0.1)
    assert 1e-10 < mf.kappa2 / mf.kappa1 < 0.1
    assert not mf.is_centered


def test_one_sample():
    mf = ff.mean_field(network(), 1)
    assert mf.statistics.maximum == pytest.approx(mf.alpha * mf.kappa1 * mf.M)
    data = ff.mean_field(network(), np.ones((1, 50)))
    assert data.statistics.maximum == pytest.approx(mf.statistics.maximum, rel=1e-13)
    assert math.isnan(data.kappa2)
    assert np.isnan(data.order_parameters.q_st).all()


variances = st.floats(0.05, 4.0)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(ACTIVATIONS),
    weight_var=variances,
    bias_var=st.one_of(st.none(), st.floats(0.0, 2.0)),
    overlap=st.floats(-1.0, 1.0),  # of two samples; more cannot all be opposite
    depth=st.integers(2, 5),
)
def test_invariants(name, weight_var, bias_var, overlap, depth):
    arch = network(name, weight_var, bias_var, L=depth, width=10)
    mf = ff.mean_field(arch, ff.InputStatistics(T=2, qhat0=1.0, qhat_st0=overlap))
    order, slack = mf.order_parameters, 1 + 1e-11
    assert abs(mf.kappa2) <= mf.kappa1 * slack
    for single, pair in (("q", "q_st"), ("qhat", "qhat_st"), ("qtilde", "qtilde_st")):
        assert (np.abs(getattr(order, pair)) <= getattr(order, single) * slack + 1e-300).all()
    # closer inputs have closer activations where phi is monotone
    if name in ("tanh", "erf", "relu", "sigmoid", "softplus", "elu"):
        closer = ff.mean_field(arch, ff.InputStatistics(2, 1.0, (1 + overlap) / 2)).order_parameters
        assert (closer.qhat_st >= order.qhat_st - 1e-11 * order.qhat).all()
    stats = mf.statistics
    assert stats.maximum <= mf.alpha * mf.kappa1 * mf.M * slack
    assert stats.mean**2 <= stats.second_moment * slack


# --- data
# ---------------------------------------------------------------------------------------------------------


def clustered(T, dimension, seed=0):
    """Inputs of unequal norms in three clusters."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((3, dimension))
    x = 0.8 * centres[rng.integers(0, 3, T)] + 0.6 * rng.standard_normal((T, dimension))
    return x * rng.uniform(0.5, 1.5, (T, 1))


@pytest.mark.parametrize(
    "activation", ["tanh", "erf", "relu", "hard_tanh", "shifted_relu", "gelu", "cos", "selu", "linear"]
)
def test_data_against_the_recursion_of_each_pair(activation):
    T, x = 40, clustered(40, 12)
    arch = ff.MLP((12, 30, 20, 40, 2), activation, weight_var=[2.0, 1.5, 1.2, 1.0], bias_var=[0.1, 0.2, 0.0, 0.3])
    mf = ff.mean_field(arch, x)
    overlaps = x @ x.T / 12
    for refined in (False, True):
        dual = mf.dual(refined=refined)
        np.testing.assert_array_equal(dual, dual.T)
        for s, t in ((0, 0), (1, 0), (17, 3), (39, 38), (33, 32), (39, 0), (20, 20)):
            _, qhat, qtilde = order_by_pairs(arch, overlaps[s, s], overlaps[s, t], overlaps[t, t])
            fan_in = np.array([12, 30, 20, 40])
            expected = np.dot(qtilde, fan_in * qhat + refined) / T
            assert dual[s, t] == pytest.approx(expected, rel=1e-10)
            assert dual[t, s] == dual[s, t]


def test_mean_order_parameters_of_data():
    x = clustered(9, 12)
    arch = ff.MLP((12, 30, 20, 1), "tanh", weight_var=2.0, bias_var=0.1)
    mf, overlaps = ff.mean_field(arch, x), x @ x.T / 12
    pairs = [(s, t) for s in range(9) for t in range(s)]
    every = [order_by_pairs(arch, overlaps[s, s], overlaps[s, t], overlaps[t, t]) for s, t in pairs]
    order = mf.order_parameters
    for k, name in enumerate(("q_st", "qhat_st", "qtilde_st")):
        np.testing.assert_allclose(getattr(order, name), np.mean([o[k] for o in every], axis=0), rtol=1e-10)
    single = [order_by_pairs(arch, overlaps[s, s], overlaps[s, s], overlaps[s, s]) for s in range(9)]
    for k, name in enumerate(("q", "qhat", "qtilde")):
        np.testing.assert_allclose(getattr(order, name), np.mean([o[k] for o in single], axis=0), rtol=1e-10)
    K = mf.dual() * 9 / (mf.alpha * mf.M)
    assert mf.kappa1 == pytest.approx(np.trace(K) / 9, rel=1e-13)
    assert mf.kappa2 == pytest.approx(K[~np.eye(9, dtype=bool)].mean(), rel=1e-13)
    assert mf.statistics.second_moment == pytest.approx(mf.alpha * (K**2).sum() / 81, rel=1e-13)
    assert mf.statistics.maximum == pytest.approx(mf.alpha * mf.M * np.linalg.eigvalsh(K)[-1] / 9, rel=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_orthogonal_data_are_the_papers_inputs(activation):
    x = np.eye(50) * math.sqrt(50)
    arch = network(activation)
    data, paper = ff.mean_field(arch, x), ff.mean_field(arch, 50)
    for name in ("mean", "second_moment", "maximum"):
        assert getattr(data.statistics, name) == pytest.approx(getattr(paper.statistics, name), rel=1e-11)
    np.testing.assert_allclose(data.dual(), paper.dual(), rtol=1e-11)
    np.testing.assert_allclose(data.order_parameters.qtilde_st, paper.order_parameters.qtilde_st, rtol=1e-11)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_repeated_and_scaled_samples(activation):
    x = clustered(5, 12)
    mf = ff.mean_field(ff.MLP((12, 30, 20, 1), activation, weight_var=2.0, bias_var=None), np.vstack([x, x, -0.5 * x]))
    dual = mf.dual()
    np.testing.assert_allclose(np.diag(dual[:5, 5:10]), np.diag(dual)[:5], rtol=2e-12)
    np.testing.assert_allclose(dual[:5, :5], dual[5:10, 5:10], rtol=1e-13)
    smallest = np.linalg.eigvalsh(dual)[0]
    assert smallest >= -1e-11 * np.trace(dual)


def test_same_bits_for_any_number_of_threads():
    x = clustered(150, 33)
    arch = ff.MLP((33, 30, 30, 20, 1), ["tanh", "erf", "gelu"], weight_var=2.0, bias_var=0.1)
    expected = ff.mean_field(arch, x).dual()
    for workers in (1, 2, 4):
        with ThreadPoolExecutor(workers) as pool:
            mf = ff.mean_field(arch, x, executor=pool)
            np.testing.assert_array_equal(mf.dual(), expected)
    # nor does an entry depend on the other samples, as long as they need no finer rule
    np.testing.assert_allclose(ff.mean_field(arch, x[100:]).dual() * 50, expected[100:, 100:] * 150, rtol=2e-12)


def test_dual_of_other_inputs():
    x, y = clustered(7, 12), clustered(6, 12, seed=1)
    arch = ff.MLP((12, 30, 1), "tanh", weight_var=2.0, bias_var=0.1)
    np.testing.assert_array_equal(
        ff.mean_field(arch, x).dual(y, refined=True), ff.mean_field(arch, y).dual(refined=True)
    )


def test_float32_data_are_computed_in_float64():
    x = clustered(7, 12).astype(np.float32)
    arch = ff.MLP((12, 30, 1), "tanh", weight_var=2.0, bias_var=0.1)
    dual = ff.mean_field(arch, x).dual()
    assert dual.dtype == np.float64
    np.testing.assert_array_equal(dual, ff.mean_field(arch, x.astype(np.float64)).dual())


def test_a_zero_input():
    x = clustered(4, 12)
    x[2] = 0
    for bias_var in (None, 0.0, 0.3):
        dual = ff.mean_field(ff.MLP((12, 30, 20, 1), "relu", weight_var=2.0, bias_var=bias_var), x).dual(refined=True)
        assert np.isfinite(dual).all()
        assert (dual[2, 2] == 0) == (bias_var is None)


def test_a_custom_activation_on_data():
    x = clustered(40, 12)
    tanh = activations.custom(np.tanh, lambda u: 1 / np.cosh(u) ** 2)
    custom = ff.mean_field(ff.MLP((12, 30, 20, 1), tanh, weight_var=2.0, bias_var=0.1), x)
    known = ff.mean_field(ff.MLP((12, 30, 20, 1), "tanh", weight_var=2.0, bias_var=0.1), x)
    np.testing.assert_allclose(custom.dual(), known.dual(), rtol=1e-11)


def test_largest_eigenvalue_of_many_samples():
    x = clustered(520, 12)
    mf = ff.mean_field(ff.MLP((12, 30, 20, 1), "relu", weight_var=2.0, bias_var=0.1), x)
    assert mf.statistics.maximum == pytest.approx(np.linalg.eigvalsh(mf.dual())[-1], rel=1e-12)


@pytest.mark.parametrize("half", [10, 256])
def test_largest_eigenvalue_of_centred_data(half):
    y = np.random.default_rng(0).integers(-3, 4, (half, 4)).astype(np.float64)
    arch = ff.MLP((4, 8, 1), "linear", weight_var=1.0, bias_var=None)
    mf = ff.mean_field(arch, np.vstack([y, -y]))  # the vector of ones is in the null space, exactly
    assert mf.statistics.maximum == pytest.approx(np.linalg.eigvalsh(mf.dual())[-1], rel=1e-12)


@pytest.mark.parametrize("T", [9, 501])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_zero_data(activation, T):
    arch = ff.MLP((4, 8, 1), activation, weight_var=1.0, bias_var=None)
    mf = ff.mean_field(arch, np.zeros((T, 4)))
    assert mf.statistics.maximum == 0
    assert mf.critical_learning_rate(0.9) == math.inf


def test_data_are_copied():
    x = clustered(7, 12)
    arch = ff.MLP((12, 30, 1), "tanh", weight_var=2.0, bias_var=0.1)
    expected, mf = ff.mean_field(arch, x).dual(), ff.mean_field(arch, x)
    x[:] = 1
    np.testing.assert_array_equal(mf.dual(), expected)


def test_input_statistics_of_data():
    x = clustered(9, 12)
    overlaps = x @ x.T / 12
    stats = ff.InputStatistics.from_data(x)
    assert stats.T == 9
    assert stats.qhat0 == pytest.approx(np.trace(overlaps) / 9, rel=1e-14)
    assert stats.qhat_st0 == pytest.approx(overlaps[~np.eye(9, dtype=bool)].mean(), rel=1e-13)


@given(T=st.integers(2, 12), dimension=st.integers(1, 5), seed=st.integers(0, 99))
def test_input_statistics_at_the_ends_of_their_range(T, dimension, seed):
    x = np.random.default_rng(seed).standard_normal((T, dimension))
    alike = ff.InputStatistics.from_data(np.repeat(x[:1], T, axis=0))
    assert alike.qhat_st0 == pytest.approx(alike.qhat0, rel=1e-12)
    centred = ff.InputStatistics.from_data(x - x.mean(axis=0))
    assert centred.qhat_st0 == pytest.approx(-centred.qhat0 / (T - 1), rel=1e-12)
    assert np.linalg.eigvalsh(ff.mean_field(network("linear", 1.0, None), centred).dual())[0] >= -1e-12 * centred.qhat0


# --- residual networks
# --------------------------------------------------------------------------------------------


def tanh_moments(a, b, c):
    """E phi phi and E phi' phi' of a pair by the trapezoidal rule, which converges geometrically."""
    z = np.linspace(-9, 9, 721)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    rho = b / math.sqrt(a * c)
    u = np.sqrt(a) * z[:, None]
    v = np.sqrt(c) * (rho * z[:, None] + math.sqrt(max(1 - rho**2, 0.0)) * z)
    slopes = (1 - np.tanh(u) ** 2) * (1 - np.tanh(v) ** 2)
    return weight @ (np.tanh(u) * np.tanh(v)) @ weight, weight @ slopes @ weight


def relu_moments(a, b, c):
    """The same from the angle between the two inputs."""
    angle = math.acos(max(min(b / math.sqrt(a * c), 1.0), -1.0))
    value = math.sqrt(a * c) * (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / (2 * math.pi)
    return value, (math.pi - angle) / (2 * math.pi)


def residual_pair(arch, moments, a, b, c):
    """Lists q_st (l = 1..L), qhat_st (0..L-1), qtilde_st (1..L) of one pair; the last layer is the read-out."""
    depth, q, qhat, first = arch.depth, [], [(a, b, c)], []
    for l, (sw2, sb2) in enumerate(zip(arch.weight_vars, arch.bias_vars, strict=True)):
        block = 0 < l < depth - 1
        q.append(tuple(sw2 * x + sb2 + block * y for x, y in zip(qhat[-1], q[-1] if block else (0,) * 3, strict=True)))
        if l < depth - 2:
            p, r, s = q[-1]
            value, slope = moments(p, r, s)
            qhat.append((moments(p, p, p)[0], value, moments(s, s, s)[0]))
            first.append(slope)
        elif l == depth - 2:
            qhat.append(q[-1])
    qtilde = [arch.weight_vars[-1], 1.0]
    for l in range(depth - 2, 0, -1):
        qtilde.insert(0, qtilde[0] * (1 + arch.weight_vars[l] * first[l - 1]))
    return [x[1] for x in q], [x[1] for x in qhat], qtilde


def residual_network(activation, C=2):
    variances = {"weight_var": [1.2, 0.8, 0.6, 1.1, 0.9], "bias_var": [0.1, 0.2, 0.0, 0.3, 0.4]}
    return ff.ResidualMLP((12, 30, 30, 30, 30, C), activation, **variances)


def test_reference_numbers_of_a_residual_network():
    mf = ff.mean_field(ff.ResidualMLP((500,) * 6 + (1,), "tanh", weight_var=0.8, bias_var=0.1), 60)
    assert mf.alpha == 5
    assert mf.alpha * mf.kappa1 == pytest.approx(7.385, abs=5e-4)  # tr F / M
    assert mf.statistics.maximum / 500 == pytest.approx(1.195, abs=5e-4)


@pytest.mark.parametrize(("activation", "moments"), [("tanh", tanh_moments), ("relu", relu_moments)])
def test_order_parameters_of_a_residual_network(activation, moments):
    arch = residual_network(activation)
    T, fan_in = 7, np.array([12, 30, 30, 30, 30])
    mf = ff.mean_field(arch, ff.InputStatistics(T, 1.3, -0.1))
    single, pair = (residual_pair(arch, moments, 1.3, b, 1.3) for b in (1.3, -0.1))
    for suffix, values in (("", single), ("_st", pair)):
        for name, expected in zip(("q", "qhat", "qtilde"), values, strict=True):
            np.testing.assert_allclose(getattr(mf.order_parameters, name + suffix), expected, rtol=1e-10)
    trace, entry = (np.dot(qtilde, fan_in * qhat) for _, qhat, qtilde in (single, pair))
    assert mf.alpha == (12 * 30 + 3 * 30 * 30) / 30**2
    assert mf.alpha * mf.kappa1 * 30 == pytest.approx(trace, rel=1e-10)
    assert mf.alpha * mf.kappa2 * 30 == pytest.approx(entry, rel=1e-10)
    biases = [sum(qtilde) for _, _, qtilde in (single, pair)]
    refined = mf.refined_statistics
    assert refined.mean == pytest.approx(2 * (trace + biases[0]) / arch.num_parameters, rel=1e-10)
    assert refined.maximum == pytest.approx((trace + biases[0] + (T - 1) * (entry + biases[1])) / T, rel=1e-10)


@pytest.mark.parametrize(("activation", "moments"), [("tanh", tanh_moments), ("relu", relu_moments)])
def test_data_in_a_residual_network(activation, moments):
    arch, x = residual_network(activation), clustered(6, 12)
    overlaps, fan_in = x @ x.T / 12, np.array([12, 30, 30, 30, 30])
    for refined in (False, True):
        dual = ff.mean_field(arch, x).dual(refined=refined)
        for s, t in ((0, 0), (1, 0), (3, 2), (5, 1)):
            _, qhat, qtilde = residual_pair(arch, moments, overlaps[s, s], overlaps[s, t], overlaps[t, t])
            assert dual[s, t] == pytest.approx(np.dot(qtilde, fan_in * qhat + refined) / 6, rel=1e-10)
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(ff.mean_field(arch, x, executor=pool).dual(refined=True), dual)


def test_a_linear_residual_network_in_closed_form():
    sw2, qhat0, overlap, blocks, T = 0.7, 1.3, 0.2, 3, 5
    arch = ff.ResidualMLP((20,) * (blocks + 2) + (3,), "linear", weight_var=sw2, bias_var=None)
    mf = ff.mean_field(arch, ff.InputStatistics(T, qhat0, overlap))
    grown = sw2 * (1 + sw2) ** np.arange(blocks + 1)  # stem, then block after block
    np.testing.assert_allclose(mf.order_parameters.q[:-1], grown * qhat0, rtol=1e-14)
    np.testing.assert_allclose(mf.order_parameters.q_st[:-1], grown * overlap, rtol=1e-14)
    np.testing.assert_allclose(mf.order_parameters.qtilde[:-1], grown[::-1], rtol=1e-14)
    every = 2 * grown[-1] + blocks * sw2 * grown[-2]  # stem and read-out, and the blocks, which skip themselves
    assert mf.alpha * mf.kappa1 == pytest.approx(every * qhat0, rel=1e-13)
    assert mf.alpha * mf.kappa2 == pytest.approx(every * overlap, rel=1e-13)
    # E f_e f_e' is g(s) = qhat0 sw2^2 s^2 (1 + s sw2)^blocks at s = (1 + e)(1 + e'); the norm is g' + g'' at s = 1
    r = sw2 / (1 + sw2)
    g = qhat0 * sw2**2 * (1 + sw2) ** blocks
    first, second = 2 + blocks * r, 2 + 4 * blocks * r + blocks * (blocks - 1) * r**2
    assert mf.fisher_rao_norm == pytest.approx(3 * g * (first + second), rel=1e-13)


# --- Fisher-Rao norm
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu", "abs"])
@pytest.mark.parametrize("L", [2, 3, 5])
def test_fisher_rao_norm_of_homogeneous_networks(activation, L):
    mf = ff.mean_field(network(activation, 1.7, None, L=L, C=3), ff.InputStatistics(4, 1.3, 0.1))
    q_last = mf.order_parameters.q[-1]
    assert mf.fisher_rao_norm == pytest.approx(3 * L**2 * q_last, rel=1e-12)
    assert mf.fisher_rao_bound == pytest.approx(3 * L * q_last, rel=1e-12)  # Theorem 5 leaves out the cross terms


@pytest.mark.parametrize("kind", [ff.MLP, ff.ResidualMLP])
@pytest.mark.parametrize("activation", ["tanh", "erf", "gelu", "softplus"])
def test_fisher_rao_norm_is_the_mixed_derivative_of_the_output_covariance(activation, kind):
    # E (df/de)^2 = d^2/(de de') E f_e f_e' at 0, f_e the network whose weights are scaled by 1 + e
    arch = kind((20, 30, 30, 30, 1), activation, weight_var=[1.5, 2.0, 1.2, 0.8], bias_var=[0.3, 0.1, 0.0, 0.5])

    def covariance(e, f):
        u = v = uv = 1.3
        q = p = r = 0.0
        for l, (sw2, sb2) in enumerate(zip(arch.weight_vars, arch.bias_vars, strict=True)):
            kept = 1 if kind is ff.ResidualMLP and l in (1, 2) else 0
            q, r = (1 + e) ** 2 * sw2 * u + sb2 + kept * q, (1 + f) ** 2 * sw2 * v + sb2 + kept * r
            p = (1 + e) * (1 + f) * sw2 * uv + sb2 + kept * p
            if l < 3:
                phi = arch.activations[l]
                u, v = theory.moments(phi, q).square, theory.moments(phi, r).square
                uv = theory.pair_moments(phi, q, p, r).value
        return p

    def second_difference(h):
        return (covariance(h, h) - covariance(h, -h) - covariance(-h, h) + covariance(-h, -h)) / (4 * h * h)

    h = 0.02
    expected = (4 * second_difference(h) - second_difference(2 * h)) / 3  # error of order h^4
    mf = ff.mean_field(arch, ff.InputStatistics(3, 1.3, 0.0))
    assert mf.fisher_rao_norm == pytest.approx(expected, rel=2e-5)


def test_fisher_rao_norm_of_data_is_the_mean_over_samples():
    x = clustered(6, 50)
    norms = [ff.mean_field(network(), ff.InputStatistics(1, float(row @ row) / 50)).fisher_rao_norm for row in x]
    assert ff.mean_field(network(), x).fisher_rao_norm == pytest.approx(np.mean(norms), rel=1e-12)


# --- what is refused
# ----------------------------------------------------------------------------------------------


def test_no_hidden_layer():
    with pytest.raises(ValueError, match=r"arch: expected at least one hidden layer.*got widths \(5, 1\)"):
        ff.mean_field(ff.MLP((5, 1)), 10)
    with pytest.raises(TypeError, match="arch: expected an MLP, got str"):
        ff.mean_field("tanh", 10)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (0, ValueError, "inputs: expected an integer >= 1, got 0"),
        (True, TypeError, "inputs: expected an integer, got True"),
        (2.5, TypeError, "inputs: expected an integer, got 2.5"),
        (np.ones(50), ValueError, "inputs: expected 2 dimensions"),
        (np.ones((4, 49)), ValueError, r"inputs: expected shape \(any, 50\), got \(4, 49\)"),
        (np.ones((0, 50)), ValueError, "inputs: expected at least one entry"),
        (np.full((4, 50), np.nan), ValueError, "inputs: expected finite numbers"),
        (np.ones((4, 50), dtype=int), TypeError, "inputs: expected a float32 or float64 array"),
    ],
)
def test_bad_inputs(inputs, error, message):
    with pytest.raises(error, match=message):
        ff.mean_field(network(), inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"T": 0}, "T: expected an integer >= 1"),
        ({"T": 3, "qhat0": 0.0}, "qhat0: expected a number > 0"),
        ({"T": 3, "qhat0": math.nan}, "qhat0: expected a finite number"),
        ({"T": 3, "qhat_st0": 1.1}, r"qhat_st0: expected -0.5 <= qhat_st0 <= 1 for T = 3 .*, got 1.1"),
        ({"T": 3, "qhat_st0": -0.51}, r"qhat_st0: expected -0.5 <= qhat_st0 <= 1 for T = 3 .*, got -0.51"),
        ({"T": 1, "qhat_st0": -1.1}, r"qhat_st0: expected -1 <= qhat_st0 <= 1 for T = 1 .*, got -1.1"),
    ],
)
def test_bad_input_statistics(options, message):
    with pytest.raises(ValueError, match=message):
        ff.InputStatistics(**options)


def test_bad_options():
    mf = ff.mean_field(network(), 10)
    with pytest.raises(ValueError, match="M: expected a number > 0"):
        ff.mean_field(network(), 10, M=0)
    with pytest.raises(ValueError, match="momentum: expected 0 <= momentum < 1, got 1"):
        mf.critical_learning_rate(1.0)
    with pytest.raises(ValueError, match="momentum: expected a number >= 0"):
        mf.critical_learning_rate(-0.1)
    with pytest.raises(ValueError, match="k: expected a number > 0"):
        mf.count_above(0)
    with ProcessPoolExecutor(1) as pool, pytest.raises(TypeError, match="executor: expected"):
        ff.mean_field(network(), 10, executor=pool)


def test_overflowing_order_parameters():
    with pytest.raises(ValueError, match="order parameter q is not a finite number at index"):
        ff.mean_field(ff.MLP((5,) * 12 + (1,), "relu", weight_var=1e40), 10).kappa1  # noqa: B018


def test_a_dual_that_cannot_fit():
    mf = ff.mean_field(network(), 10**8)
    assert mf.statistics.num_samples == 10**8
    with pytest.raises(MemoryError, match="InputStatistics"):
        mf.dual()


def test_results_are_frozen():
    mf = ff.mean_field(network(), 10)
    with pytest.raises(AttributeError):
        mf.M = 3.0
    with pytest.raises(ValueError, match="read-only"):
        mf.dual()[0, 0] = 1.0
