"""What a metric tells through products: against its own exact answers, against theory, for every kind of metric."""

import numpy as np
import pytest

import fisherfield as ff
from fisherfield.estimators import Estimate
from fisherfield.lanczos import SpectralDensity

METHODS = ["hutchinson", "hutch++"]


def data(samples, width, dtype="float64"):
    return np.random.default_rng(0).standard_normal((samples, width)).astype(dtype)


def small(dtype="float64", samples=40):
    net = ff.MLP((20, 50, 50, 3), "tanh", weight_var=3.0, bias_var=0.64).sample(seed=0, dtype=dtype)
    return ff.Fisher(net, data(samples, 20, dtype))


def few_parameters():
    """Fewer parameters than gradients: the operator is G itself."""
    return ff.Fisher(ff.MLP((3, 4, 2), "tanh").sample(seed=0), data(60, 3))


METRICS = {
    "fisher": small,
    "single": lambda: small("float32"),
    "few_parameters": few_parameters,
    "layer": lambda: small().layer(2),
    "centered": lambda: small().centered(),
    "categorical": lambda: ff.Fisher(small().net, small().X, likelihood="categorical"),
    "features": lambda: ff.feature_metric(small().net, small().X),
    "tangent": lambda: ff.TangentKernel(small().net, small().X),
}


@pytest.fixture(params=METRICS)
def metric(request):
    return METRICS[request.param]()


def agrees(estimate, exact, allowed=4.5):
    return abs(estimate.value - exact) <= allowed * estimate.standard_error + 1e-5 * abs(exact)


# --- traces and moments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_estimates_agree_with_exact_answers(metric, method):
    trace, moment = metric.trace(method, seed=0), metric.second_moment(method, seed=0)
    assert isinstance(trace, Estimate)
    assert trace.method == method
    assert agrees(trace, metric.trace())
    assert agrees(moment, metric.second_moment())
    assert metric.trace("exact") == metric.trace() == pytest.approx(float(metric.eigenvalues().sum()), rel=1e-5)
    assert metric.second_moment() == metric.statistics().second_moment


def test_options_of_estimates():
    fim, reports = small(), []
    estimate = fim.trace("hutch++", probes=4, seed=1, progress=lambda done, total: reports.append((done, total)))
    assert estimate == fim.trace("hutch++", probes=4, seed=1)
    assert (estimate.probes, estimate.products, reports[-1]) == (4, 12, (12, 12))
    assert fim.second_moment("hutchinson", probes=7, seed=1).products == 7


@pytest.mark.parametrize("name", ["trace", "second_moment"])
def test_options_are_refused(name):
    ask = getattr(small(), name)
    for option in ("probes", "seed", "progress"):
        with pytest.raises(ValueError, match=f"{option}: expected only together with an estimate"):
            ask(**{option: 3})
    with pytest.raises(ValueError, match=r"method: expected one of 'exact', 'hutchinson', 'hutch\+\+', got 'xtrace'"):
        ask("xtrace")
    with pytest.raises(ValueError, match="probes: expected an integer >= 2"):
        ask("hutchinson", probes=1)


# --- counts and condition -------------------------------------------------------------------------------


def test_count_above(metric):
    values = metric.eigenvalues()
    for threshold in (values[-1] / 2 if values[-1] > 0 else 1e-3, np.median(values), values[0] * 1.01):
        if threshold > 0:
            assert metric.count_above(threshold) == (values >= threshold).sum()
    assert isinstance(metric.count_above(1.0), int)


def test_condition_number(metric):
    values = metric.eigenvalues().astype(float)
    rtol = len(values) * np.finfo(metric.dtype).eps
    nonzero = values[values > rtol * values[0]]
    assert metric.condition_number() == pytest.approx(nonzero[0] / nonzero[-1])
    assert metric.condition_number(0.999) == 1
    assert metric.condition_number(rtol=0.5) == pytest.approx(values[0] / values[values > values[0] / 2][-1])


def test_counts_and_conditions_refuse():
    fim = small()
    for threshold in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="threshold"):
            fim.count_above(threshold)
    for rtol in (-1.0, 1.0):
        with pytest.raises(ValueError, match="rtol"):
            fim.condition_number(rtol)
    dead = ff.Fisher(ff.Network([np.zeros((2, 2))], activation="tanh"), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="expected a positive eigenvalue, got a maximum of 0"):
        dead.condition_number()


@pytest.mark.parametrize("ask", [lambda fim: fim.count_above(1.0), lambda fim: fim.condition_number()])
def test_what_cannot_fit_says_what_to_ask(monkeypatch, ask):
    fim = small()
    fim.dual()
    monkeypatch.setattr("fisherfield._memory.available_bytes", lambda: 1000)
    with pytest.raises(MemoryError) as caught:
        ask(fim)
    assert "spectral_density()" in caught.value.__notes__[0]


# --- densities ------------------------------------------------------------------------------------------


def test_spectral_density(metric):
    statistics, values = metric.statistics(), metric.eigenvalues()
    density = metric.spectral_density(seed=0)
    assert isinstance(density, SpectralDensity)
    assert density.dimension == statistics.num_parameters
    assert density.maximum == pytest.approx(statistics.maximum, rel=1e-5)
    assert agrees(density.mean, statistics.mean)
    assert agrees(density.second_moment, statistics.second_moment)
    for share in (0.01, 0.3, 0.9):
        threshold = float(values[0]) * share
        assert agrees(density.count_above(threshold), metric.count_above(threshold))
    zeros = statistics.num_parameters - (values > density.floor).sum()
    assert agrees(density.num_zero, zeros)


def test_deflation_is_that_of_the_expected_outliers():
    fim = small()
    assert len(fim.spectral_density(seed=0).known) == fim.num_outliers == 3
    np.testing.assert_allclose(fim.spectral_density(seed=0).known, fim.eigenvalues()[:3], rtol=1e-9)
    assert len(fim.spectral_density(deflate=0, seed=0).known) == 0
    with pytest.raises(ValueError, match="deflate"):
        fim.spectral_density(deflate=-1)


def test_theory_of_the_wide_network():
    """Karakida, Akaho, Amari 2019: Corollary 2 bounds the counts; moments are those of the exact matrix."""
    arch = ff.MLP((1000, 1000, 1000, 1), "tanh", weight_var=3.0, bias_var=0.64)
    fim = ff.Fisher(arch.sample(seed=0), data(100, 1000))
    theory, statistics = ff.mean_field(arch, 100), fim.statistics()
    density = fim.spectral_density(seed=0)
    assert agrees(density.mean, statistics.mean)
    assert agrees(density.second_moment, statistics.second_moment)
    assert density.mean.standard_error < 0.02 * statistics.mean
    assert density.second_moment.standard_error < 0.02 * statistics.second_moment
    assert density.maximum == pytest.approx(theory.statistics.maximum, rel=0.1)
    for k in (1.0, 10.0, 15.0, 20.0, 30.0, 100.0, 250.0, 1000.0):
        exact, estimate = fim.count_above(k), density.count_above(k)
        assert agrees(estimate, exact)
        assert exact <= theory.count_above(k)
        assert estimate.value - 4 * estimate.standard_error <= theory.count_above(k)
    assert density.num_zero.value == fim.dimension - 100


def test_density_beside_known_eigenpairs():
    fim = small(samples=100)
    top = fim.top_eigenpairs(3, 1e-5, vectors=True, method="matrix-free")
    density = fim.spectral_density(deflate=top, steps=40, seed=0)
    np.testing.assert_allclose(density.known, top.values)
    assert agrees(density.mean, fim.trace() / fim.shape[0])
    assert agrees(density.second_moment, fim.second_moment())
    with pytest.raises(ValueError, match="deflate: expected eigenpairs with vectors"):
        fim.spectral_density(deflate=fim.top_eigenpairs(3))
