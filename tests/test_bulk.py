"""The law of the bulk: closed forms and limits, where it is not derived, and sampled networks."""

import math

import numpy as np
import pytest
from scipy.stats import norm

import fisherfield as ff
from fisherfield import activations
from fisherfield.theory import bulk

VARIANCES = {"tanh": (3.0, 0.64), "relu": (2.0, 0.1), "linear": (1.0, 0.1)}


def architecture(activation, M, C=1, *, L=3, biases=True):
    weight_var, bias_var = VARIANCES[activation]
    return ff.MLP((M,) * L + (C,), activation, weight_var=weight_var, bias_var=bias_var if biases else None)


def linear(widths, **options):
    """Without biases: the law consists of Marchenko-Pastur laws only."""
    return ff.MLP(widths, "linear", weight_var=1.0, bias_var=None, **options)


# --- moments given the common part ----------------------------------------------------------------------------

Z = np.array([-6.0, -1.3, -1e-9, 0.0, 0.4, 2.0, 9.0])


@pytest.mark.parametrize("s", [1e-3, 0.5, 1.0, 7.0])
def test_conditional_moments_of_relu(s):
    found = bulk.conditional_moments(activations.get("relu"), Z, s)
    P, p = norm.cdf(Z / s), norm.pdf(Z / s)
    mean = Z * P + s * p
    closed = (mean, P, p / s, (Z**2 + s**2) * P + Z * s * p - mean**2, mean * (1 - P), P * (1 - P))
    for name, expected, unit in zip(vars(found), closed, (s, 1, 1 / s, s * s, s, 1), strict=True):
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-8, atol=1e-10 * unit, err_msg=name)


@pytest.mark.parametrize("s", [1e-3, 1.0, 7.0])
def test_conditional_moments_of_linear(s):
    found = bulk.conditional_moments(activations.get("linear"), Z, s)
    ones = np.ones_like(Z)
    for name, expected in zip(vars(found), (Z, ones, 0 * Z, s**2 * ones, 0 * Z, 0 * Z), strict=True):
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("name", activations.available())
@pytest.mark.parametrize("q_st", [0.1, 1.0, 3.9])
def test_averages_of_conditional_moments_are_the_order_parameters(name, q_st):
    """The common part has variance q_st, the rest 4 - q_st."""
    phi, s = activations.get(name), math.sqrt(4 - q_st)
    z, weight = bulk._common_rule(q_st, s)
    found, single = bulk.conditional_moments(phi, z, s), ff.theory.moments(phi, 4.0)
    pair = ff.theory.pair_moments(phi, 4.0, q_st, 4.0)
    assert weight @ found.mean**2 == pytest.approx(pair.value, rel=1e-8, abs=1e-8 * single.square)
    assert weight @ found.slope**2 == pytest.approx(pair.first, rel=1e-8, abs=1e-8 * single.square_first)
    assert weight @ (found.mean**2 + found.variance) == pytest.approx(single.square, rel=1e-8)
    assert weight @ (found.slope**2 + found.slope_variance) == pytest.approx(single.square_first, rel=1e-8)


# --- limits and identities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("activation", VARIANCES)
def test_the_law_holds_the_trace_of_the_predicted_dual(activation, biases):
    mf = ff.mean_field(architecture(activation, 300, 3, biases=biases), ff.InputStatistics(80, 1.2, 0.1))
    law, refined = mf.centered().bulk, mf.centered().refined_statistics
    assert law.num_eigenvalues == 79 * 3
    P = mf.arch.num_parameters
    assert refined.mean * P == pytest.approx(law.num_eigenvalues * law.mean, rel=1e-11)
    assert refined.second_moment * P == pytest.approx(law.num_eigenvalues * law.second_moment, rel=1e-11)
    assert (refined.maximum, refined.top_mean) == (law.maximum, law.top_mean)
    assert law.mean < law.edge < law.maximum
    assert law.top_mean < law.maximum
    if not biases:
        assert law.mean == pytest.approx(mf.centered().statistics.maximum, rel=1e-10)


def test_first_layer_alone_is_a_marchenko_pastur_law():
    law = ff.mean_field(linear((500, 10**9, 10**9, 1)), 300).centered().bulk
    ratio = 299 / 500
    assert law.edge == pytest.approx(law.mean * (1 + math.sqrt(ratio)) ** 2, rel=1e-5)
    assert law.second_moment == pytest.approx(law.mean**2 * (1 + ratio), rel=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus", "sin"])
def test_inputs_of_a_wide_layer(activation):
    """a I + c S_0: the hidden layer is so wide that only the inputs fluctuate."""
    arch = ff.MLP((500, 10**9, 1), activation, weight_var=2.0, bias_var=None)
    mf = ff.mean_field(arch, 300)
    law, first = mf.centered().bulk, mf.order_parameters.qtilde_st[0]
    ratio, weight = 299 / 500, first * (500 + 10**9) / 300
    assert law.edge == pytest.approx(law.mean + weight * ((1 + math.sqrt(ratio)) ** 2 - 1), rel=1e-5)
    assert law.second_moment == pytest.approx(law.mean**2 + weight**2 * ratio, rel=1e-6)


@pytest.mark.parametrize("activation", VARIANCES)
def test_few_samples_leave_the_leading_order(activation):
    excess = []
    for M in (10**6, 10**8):
        centered = ff.mean_field(architecture(activation, M, 3), 50).centered()
        law = centered.bulk
        excess.append([law.edge / law.mean - 1, law.maximum / centered.statistics.maximum - 1])
    assert np.abs(excess[1]).max() < 0.01
    np.testing.assert_allclose(np.array(excess[0]) / excess[1], 10, rtol=0.1)  # like sqrt(T / M)


@pytest.mark.parametrize("widths", [(300, 300, 300, 1), (200, 500, 1), (100, 300, 200, 400, 1)])
def test_variance_of_linear_networks(widths):
    """Every layer's Gram matrix spreads as a sample covariance; weights add up over the layers above."""
    law = ff.mean_field(linear(widths), 100).centered().bulk
    M = np.array(widths[:-1])
    above = np.cumsum(M[::-1])[::-1]
    assert law.mean == pytest.approx(M.sum() / 100, rel=1e-12)
    assert law.second_moment - law.mean**2 == pytest.approx((above**2 / M).sum() * 99 / 100**2, rel=1e-5)


@pytest.mark.parametrize("subtracted", [True, False])
def test_scale_of_the_inputs(subtracted):
    """Without biases relu networks are homogeneous, and so is a linear one."""
    name = "relu" if subtracted else "linear"
    arch, overlap = architecture(name, 200, 3, biases=False), 0.1 * subtracted
    laws = []
    for scale in (1.0, 4.0):
        mf = ff.mean_field(arch, ff.InputStatistics(60, scale, scale * overlap))
        laws.append((mf.centered() if subtracted else mf).bulk)
    for name in ("mean", "edge", "maximum", "top_mean"):
        assert getattr(laws[1], name) == pytest.approx(4 * getattr(laws[0], name), rel=1e-6), name
    assert laws[1].second_moment == pytest.approx(16 * laws[0].second_moment, rel=1e-7)


def test_custom_activations():
    built_in = ff.mean_field(architecture("tanh", 200, 2), 60).centered().bulk
    custom = ff.MLP((200,) * 3 + (2,), activations.custom(np.tanh), weight_var=3.0, bias_var=0.64)
    found = ff.mean_field(custom, 60).centered().bulk
    np.testing.assert_allclose(list(vars(found).values()), list(vars(built_in).values()), rtol=1e-6)


def test_largest_eigenvalue_of_a_gaussian_matrix():
    assert bulk._largest_of_gaussian(2) == pytest.approx(math.sqrt(math.pi / 2), abs=1e-5)
    table = [bulk._largest_of_gaussian(C) for C in (9, 10, 11, 12)]
    assert table[2] == pytest.approx(5.64557, rel=0.004)
    assert (np.diff(table) > 0).all()
    rng = np.random.default_rng(0)
    for C in (3, 6):
        a = rng.standard_normal((40000, C, C))
        levels = np.linalg.eigvalsh((a + a.transpose(0, 2, 1)) / math.sqrt(2)).mean(axis=0)
        np.testing.assert_allclose(bulk._levels(C, 100)[0], levels, rtol=0.02, atol=0.07)


# --- where it applies ------------------------------------------------------------------------------------------


def odd(T, **options):
    arch = ff.MLP((60, 80, 70, 2), "tanh", weight_var=2.0, bias_var=0.0)
    return ff.mean_field(arch, T, **options)


def test_centred_networks_have_it_without_subtraction():
    mf = odd(50)
    assert mf.is_centered
    assert mf.bulk is mf.parameters().bulk
    assert mf.bulk.num_eigenvalues == 100
    assert mf.refined_statistics.maximum == mf.bulk.maximum
    assert mf.statistics.maximum == pytest.approx(mf.alpha * mf.M * mf.kappa1 / 50)
    assert mf.centered().bulk.edge < mf.bulk.edge


def without_law():
    """Predictions without outliers for which no law is derived, and two with outliers."""
    arch = architecture("tanh", 40, 3)
    mf, X = ff.mean_field(arch, 20), np.random.default_rng(0).standard_normal((20, 40))
    residual = ff.ResidualMLP((40,) * 4 + (3,), "tanh", weight_var=0.8, bias_var=0.1)
    orthogonal = ff.MLP((40,) * 3 + (3,), "tanh", weight_var=2.0, init="orthogonal")
    return {
        "data": ff.mean_field(arch, X).centered(),
        "residual": ff.mean_field(residual, 20).centered(),
        "orthogonal": ff.mean_field(orthogonal, 20),
        "softmax": ff.mean_field(arch, 20, likelihood="softmax").centered(),
        "noise": ff.mean_field(arch, 20, likelihood=ff.likelihoods.Gaussian(noise_var=0.5)).centered(),
        "one sample": ff.mean_field(arch, 1).centered(),
        "negative overlap": ff.mean_field(linear((40, 40, 40, 3)), ff.InputStatistics(20, 1.0, -0.01)).centered(),
        "full overlap": ff.mean_field(arch, ff.InputStatistics(20, 1.0, 1.0)).centered(),
        "layer": mf.layer(2).centered(),
        "kernel": mf.ntk().centered(),
        "features": mf.feature_metric().centered(),
        "outliers": mf,
        "parameters": mf.parameters(),
    }


@pytest.mark.parametrize("case", without_law())
def test_elsewhere_the_block_speaks(case):
    prediction = without_law()[case]
    assert prediction.bulk is None
    if case not in ("softmax", "noise"):
        largest = np.linalg.eigvalsh(prediction.dual(refined=True))[-1]
        assert prediction.refined_statistics.maximum == pytest.approx(largest, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_finite_for_any_network(seed):
    """Narrow layers, many samples, any activation: a number comes out, above the mean."""
    rng = np.random.default_rng(seed)
    hidden = int(rng.integers(1, 4))
    names = [str(name) for name in rng.choice(activations.available(), hidden)]
    widths = [int(2 ** rng.uniform(2, 10)) for _ in range(hidden + 1)] + [int(rng.choice([1, 2, 12]))]
    arch = ff.MLP(widths, names, weight_var=list(2 ** rng.uniform(-2, 3, hidden + 1)), bias_var=0.2)
    law = ff.mean_field(arch, ff.InputStatistics(int(2 ** rng.uniform(1, 10)), 1.0, 0.3)).centered().bulk
    assert np.isfinite(list(vars(law).values())).all()
    assert law.mean < law.edge
    assert law.top_mean <= law.maximum
    assert law.second_moment > law.mean**2


# --- sampled networks ------------------------------------------------------------------------------------------


def measured(arch, T, seeds, *, subtracted=True):
    """Means over networks: maximum, mean of the C largest, and second moment over squared mean."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        net = arch.sample(rng)
        fim = ff.Fisher(net, rng.standard_normal((T, arch.widths[0])))
        values = (fim.centered() if subtracted else fim).eigenvalues()[: arch.num_outputs * (T - subtracted)]
        found.append((values[0], values[: arch.num_outputs].mean(), np.square(values).mean() / values.mean() ** 2))
    return np.mean(found, axis=0)


def predicted(arch, T, *, subtracted=True):
    mf = ff.mean_field(arch, T)
    law = (mf.centered() if subtracted else mf).bulk
    return np.array([law.maximum, law.top_mean, law.second_moment / law.mean**2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "C", "M", "T", "tolerance"),
    [
        ("tanh", 1, 300, 50, 0.05),
        ("tanh", 1, 1000, 200, 0.05),
        ("tanh", 5, 600, 50, 0.05),
        ("tanh", 5, 1000, 50, 0.05),
        ("tanh", 5, 600, 200, 0.05),
        ("relu", 1, 600, 200, 0.05),
        ("relu", 5, 1000, 50, 0.08),
        ("relu", 5, 600, 200, 0.08),
        ("linear", 1, 300, 200, 0.05),
        ("linear", 5, 300, 50, 0.05),
        ("linear", 5, 600, 200, 0.05),
    ],
)
def test_mean_subtracted_networks(activation, C, M, T, tolerance):
    """Ten networks; their means err by 1 to 2 %, of the maximum."""
    arch = architecture(activation, M, C)
    error = predicted(arch, T) / measured(arch, T, 10 if C * T < 500 else 6) - 1
    assert np.abs(error[:2]).max() < tolerance
    assert abs(error[2]) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "weight_var"), [("tanh", 3.0), ("linear", 1.0)])
@pytest.mark.parametrize(("C", "T"), [(1, 200), (5, 50)])
def test_centred_networks(activation, weight_var, C, T):
    arch = ff.MLP((600,) * 3 + (C,), activation, weight_var=weight_var, bias_var=0.0)
    error = predicted(arch, T, subtracted=False) / measured(arch, T, 10, subtracted=False) - 1
    assert np.abs(error[:2]).max() < 0.05
    assert abs(error[2]) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    [
        ff.MLP((500, 800, 2), "erf", weight_var=2.0, bias_var=0.3),
        ff.MLP((400, 900, 600, 2), ["tanh", "relu"], weight_var=(2.0, 1.0, 3.0), bias_var=(0.5, 0.2, 0.1)),
        ff.MLP((600, 500, 700, 600, 1), ["relu", "softplus", "tanh"], weight_var=(1.0, 2.0, 1.5, 1.0), bias_var=None),
    ],
    ids=["one hidden layer", "unequal layers", "three hidden layers"],
)
def test_unequal_layers(arch):
    error = predicted(arch, 150) / measured(arch, 150, 10) - 1
    assert np.abs(error[:2]).max() < 0.05
    assert abs(error[2]) < 0.02


@pytest.mark.slow
def test_wide_spectra_keep_the_law():
    """T five times the width: the leading order is off by a factor of 4."""
    arch = linear((200, 200, 200, 1))
    law = predicted(arch, 1000)
    np.testing.assert_allclose(law, measured(arch, 1000, 4), rtol=0.05)
    assert law[0] > 4 * ff.mean_field(arch, 1000).centered().statistics.maximum
