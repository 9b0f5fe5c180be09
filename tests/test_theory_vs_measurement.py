"""Mean-field theory against sampled networks.

The mean of a statistic over 10 networks must lie near its prediction, and the gap between the two must
vanish like 1/M. Which gaps 10 to 80 networks a width resolve was found by measuring. Resolved: second
moment and maximum of tanh, linear and erf (11 to 35 % and 5 to 7 % at M = 250, errors below 1 %). Not
resolved: the mean eigenvalue (below 1 % at M = 250), which is tested for having no gap in the limit, and
all three statistics of ReLU, which take part in the first test only. erf is left out of the second test
because it repeats tanh within the errors.
"""

import numpy as np
import pytest
from scipy.optimize import curve_fit

import fisherfield as ff
from fisherfield.experiments import compare

T, L = 100, 3
VARIANCES = {"tanh": (3.0, 0.64), "relu": (2.0, 0.1), "linear": (1.0, 0.1), "erf": (3.0, 0.64)}


def architecture(activation, M, C=1):
    weight_var, bias_var = VARIANCES[activation]
    return ff.MLP((M,) * L + (C,), activation, weight_var=weight_var, bias_var=bias_var)


@pytest.mark.slow
@pytest.mark.parametrize("C", [1, 10])
@pytest.mark.parametrize("activation", VARIANCES)
def test_statistics_at_width_1000(activation, C):
    table = compare(architecture(activation, 1000, C), T, seeds=range(10)).comparison()
    top = table["top mean" if C > 1 else "maximum"]
    for row, tolerance in ((table["mean"], 0.05), (table["second moment"], 0.20), (top, 0.10)):
        assert abs(row.relative_error) < tolerance, row
        assert abs(row.refined_relative_error) < tolerance, row


@pytest.mark.parametrize("C", [1, 3])
def test_residual_network_at_width_1000(C):
    """The means of six networks have standard errors of 1 % (mean, maximum) and 3 % (second moment)."""
    arch = ff.ResidualMLP((1000,) * 6 + (C,), "tanh", weight_var=0.8, bias_var=0.1)
    table = compare(arch, T, seeds=range(6)).comparison()
    top = table["top mean" if C > 1 else "maximum"]
    for row, tolerance in ((table["mean"], 0.03), (table["second moment"], 0.10), (top, 0.05)):
        assert abs(row.relative_error) < tolerance, row
        assert abs(row.refined_relative_error) < tolerance, row


# --- the variants, on the settings of Karakida, Akaho, Amari (2021) ---------------------------------------------


def deviations(arch, T, **options):
    """Relative errors of the refined prediction by row."""
    rows = compare(arch, T, seeds=range(10), eigenvalues=False, **options).comparison().rows
    return {row.quantity: row.refined_relative_error for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
def test_softmax(activation):
    """The theory is evaluated at the networks' own outputs; the means of 10 networks have standard errors of 2 %."""
    found = deviations(architecture(activation, 1000, 10), T, likelihood="categorical")
    assert abs(found["mean"]) < 0.03
    assert abs(found["second moment"]) < 0.12
    assert abs(found["maximum"]) < 0.10
    assert abs(found["top mean"]) < 0.08


@pytest.mark.slow
def test_every_softmax_outlier():
    arch = architecture("tanh", 1000, 10)
    ratios = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        net, X = arch.sample(rng), rng.standard_normal((T, 1000))
        values = ff.Fisher(net, X, likelihood="categorical").eigenvalues()
        mf = ff.mean_field(arch, T, likelihood="categorical", outputs=net(X))
        lower, upper = mf.maximum_bounds
        assert lower < values[0] < upper
        ratios.append(mf.outliers(refined=True) / values[:9])
    error = np.abs(np.mean(ratios, axis=0) - 1)
    assert (error[:8] < 0.10).all()  # the ninth lies in the bulk


@pytest.mark.slow
def test_softmax_at_outputs_of_the_gaussian_process():
    """Without any network: 10 draws of the outputs are as good as 10 networks, which scatter by 3 to 12 %."""
    arch = architecture("tanh", 1000, 10)
    table = compare(arch, T, seeds=range(10), likelihood="categorical", eigenvalues=False).comparison()
    drawn = ff.mean_field(arch, T, likelihood="categorical").refined_statistics
    for quantity, field in (("mean", "mean"), ("second moment", "second_moment"), ("top mean", "top_mean")):
        row = table[quantity]
        error = row.spread * np.sqrt(2 / 10)  # standard error of the difference of two means of 10
        assert abs(getattr(drawn, field) - row.mean) < 3 * error + 0.04 * row.mean, quantity


@pytest.mark.slow
def test_kinds():
    for kind in ("monte_carlo", "empirical"):
        found = deviations(architecture("tanh", 1000, 3), T, likelihood="bernoulli", kind=kind)
        assert abs(found["mean"]) < 0.05
        assert abs(found["second moment"]) < 0.12
        assert abs(found["top mean"]) < 0.08


@pytest.mark.slow
def test_tangent_kernel():
    arch = ff.MLP((1000,) * L + (2,), "relu", weight_var=2.0, bias_var=0.0)
    found = deviations(arch, T, metric="ntk")
    assert abs(found["mean"]) < 0.04
    assert abs(found["second moment"]) < 0.10
    assert abs(found["top mean"]) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "C"), [("features", 1), ("features", 3), ("input", 1)])
def test_feature_metric(metric, C):
    """Gradients decay from layer to layer by factors that fluctuate like 1/sqrt(M), hence 5 % at M = 500."""
    arch = ff.MLP((500,) * L + (C,), "tanh", weight_var=3.0, bias_var=0.64)
    found = deviations(arch, 1000, metric=metric)
    assert abs(found["mean"]) < 0.06
    assert abs(found["second moment"]) < 0.18
    assert abs(found["top mean" if C > 1 else "maximum"]) < 0.08


@pytest.mark.slow
@pytest.mark.parametrize("l", [2, 3])
def test_layer_blocks(l):
    """From the second layer on: the first has uncorrelated inputs, hence no outlier."""
    arch = architecture("tanh", 1000, 5)
    predicted, measured = ff.mean_field(arch, T).layer(l).refined_statistics, []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        net = arch.sample(rng)
        measured.append(ff.Fisher(net, rng.standard_normal((T, 1000))).layer(l).statistics())
    assert np.mean([s.mean for s in measured]) == pytest.approx(predicted.mean, rel=0.04)
    assert np.mean([s.top_mean for s in measured]) == pytest.approx(predicted.top_mean, rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_mean_gradients_span_the_outliers(activation):
    """2021, Theorem 3.2: cosines between the C top eigenvectors and the space of the C mean gradients."""
    arch, C = architecture(activation, 1000, 5), 5
    rng = np.random.default_rng(0)
    fim = ff.Fisher(arch.sample(rng), rng.standard_normal((T, 1000)))
    dual, ones = fim.dual(), np.kron(np.eye(C), np.ones((T, 1)))
    values, vectors = np.linalg.eigh(dual)
    top = vectors[:, -C:] / np.sqrt(values[-C:])  # coefficients of unit eigenvectors of F in the gradients / sqrt(T)
    means = ones / T  # those of the mean gradients, times sqrt(T)
    overlap = means.T @ dual @ means
    inverse_root = np.linalg.inv(np.linalg.cholesky(overlap))
    cosines = np.linalg.svd(inverse_root @ means.T @ dual @ top, compute_uv=False)
    assert cosines.min() > 0.98
    gradients = fim.mean_gradients()
    np.testing.assert_allclose(gradients @ gradients.T, overlap * T, rtol=1e-10, atol=1e-10 * overlap.max() * T)


# --- the gap against the width ------------------------------------------------------------------------------

WIDTHS = np.array([250.0, 500, 1000, 2000, 4000])
NETWORKS = (80, 60, 40, 20, 10)
FIELDS = ("mean", "second_moment", "maximum")


def sample(activation, M, seed):
    """Relative deviations of one network's statistics from theory, and its fluctuations of known mean zero.

    The realised variances of output weights and biases and the realised overlaps of the inputs explain
    most of the deviation. Regressing on them removes that noise and, their means being zero, leaves the gap.
    """
    arch = architecture(activation, M)
    rng = np.random.default_rng(seed)
    net = arch.sample(rng)
    X = rng.standard_normal((T, M))
    measured = ff.Fisher(net, X).statistics()
    theory = ff.mean_field(arch, T).statistics
    deviations = [getattr(measured, field) / getattr(theory, field) - 1 for field in FIELDS]
    overlaps = X @ X.T / M
    squared_norm = np.trace(overlaps) / T
    fluctuations = [
        np.mean(net.weights[-1] ** 2) * M / arch.weight_vars[-1] - 1,
        *(np.mean(b**2) / arch.bias_vars[0] - 1 for b in net.biases[:-1]),
        squared_norm - 1,
        (overlaps.sum() / T - squared_norm) / (T - 1),
    ]
    return deviations, fluctuations


def gaps(activation):
    """Mean deviations, (len(WIDTHS), 3), and for each statistic their covariance over widths."""
    of_width = np.repeat(np.arange(len(WIDTHS)), NETWORKS)
    seeds = [seed for count in NETWORKS for seed in range(count)]
    samples = [sample(activation, int(WIDTHS[i]), 1000 * i + seed) for i, seed in zip(of_width, seeds, strict=True)]
    deviations, fluctuations = map(np.array, zip(*samples, strict=True))
    weight = np.sqrt(WIDTHS[of_width])[:, None]  # variances are proportional to 1/M
    design = np.hstack([np.eye(len(WIDTHS))[of_width], fluctuations]) * weight
    coefficients, squares, *_ = np.linalg.lstsq(design, deviations * weight)
    inverse = np.linalg.inv(design.T @ design)[: len(WIDTHS), : len(WIDTHS)]
    variances = squares / (len(design) - design.shape[1])
    return coefficients[: len(WIDTHS)], [inverse * variance for variance in variances]


def fit(model, gap, covariance, start):
    parameters, uncertainty = curve_fit(model, WIDTHS, gap, start, sigma=covariance, absolute_sigma=True)
    return parameters, np.sqrt(np.diag(uncertainty))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "linear"])
def test_gaps_shrink_like_one_over_width(activation):
    gap, covariances = gaps(activation)
    for k, field in enumerate(FIELDS):
        (limit, slope), (limit_error, slope_error) = fit(
            lambda M, limit, c: limit + c * 250 / M, gap[:, k], covariances[k], (0.0, 0.1)
        )
        assert abs(limit) < 3 * limit_error, f"{field}: a gap of {limit} +- {limit_error} remains in the limit"
        assert limit_error < 0.01, field
        if field == "mean":
            continue
        assert slope > 5 * slope_error, f"{field}: the gap is not resolved"
        (_, power), (_, power_error) = fit(
            lambda M, c, power: c * (250 / M) ** power, gap[:, k], covariances[k], (0.1, 1.0)
        )
        assert abs(power - 1) < 3 * power_error, f"{field}: gap ~ M^-({power} +- {power_error})"
        assert power_error < 0.25, field
