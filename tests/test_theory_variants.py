"""Predicted spectra of the variants: likelihoods, layers, tangent kernel, feature metric, mean subtraction.

Each is held against its formula written out from the order parameters, or against the predicted dual formed by brute
force. That networks follow the predictions is tested in test_theory_vs_measurement.py.
"""

from itertools import pairwise
from operator import attrgetter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield import likelihoods

NAMES = ["categorical", "bernoulli", "poisson", "heteroscedastic"]


def architecture(C=4, M=30, activation="tanh", **options):
    return ff.MLP((20, M, 2 * M, C), activation, weight_var=2.0, bias_var=0.3, **options)


def residual(C=4, M=30, activation="tanh"):
    return ff.ResidualMLP((20, M, M, M, C), activation, weight_var=0.8, bias_var=0.3)


def inputs(kind, T):
    if kind == "statistics":
        return ff.InputStatistics(T, 1.1, 0.2 if T > 1 else 0.0)
    return np.random.default_rng(T).standard_normal((T, 20))


def outputs_of(T, C, scale=1.0, seed=0):
    return scale * np.random.default_rng(seed).standard_normal((T, C))


def information(likelihood, f):
    """Q_t, from closed forms written out anew."""
    if likelihood == "categorical":
        g = np.exp(f - f.max(axis=1, keepdims=True))
        g /= g.sum(axis=1, keepdims=True)
        return np.array([np.diag(p) - np.outer(p, p) for p in g])
    diagonals = {
        "bernoulli": lambda: 1 / (4 * np.cosh(f / 2) ** 2),
        "poisson": lambda: np.exp(f),
        "heteroscedastic": lambda: np.hstack([np.exp(-f[:, f.shape[1] // 2 :]), np.full_like(f[:, ::2], 0.5)]),
    }
    return np.array([np.diag(d) for d in diagonals[likelihood]()])


def brute_force(K, Q):
    """Q^{1/2} (I x K) Q^{1/2} with symmetric roots, sample by sample."""
    T, C = len(Q), Q.shape[1]
    values, vectors = np.linalg.eigh(Q)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None, :] @ vectors.transpose(0, 2, 1)
    dual = np.einsum("skc,st,tcq->sktq", root, K, root)
    return dual.reshape(T * C, T * C)


# --- likelihoods --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [architecture, residual])
@pytest.mark.parametrize("kind", ["statistics", "data"])
@pytest.mark.parametrize("T", [1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_the_predicted_dual(name, T, kind, make):
    arch, C = make(), 4
    f = outputs_of(T, C)
    mf = ff.mean_field(arch, inputs(kind, T), likelihood=name, outputs=f)
    for refined, count in ((False, mf.alpha * mf.M**2), (True, arch.num_parameters)):
        dual = brute_force(mf.dual(refined=refined), information(name, f))
        values = np.linalg.eigvalsh(dual)[::-1]
        found = mf.refined_statistics if refined else mf.statistics
        outliers = min(C - 1 if name == "categorical" else C, T * C)
        assert found.num_outliers == (C - 1 if name == "categorical" else C)
        assert found.mean == pytest.approx(values.sum() / count, rel=1e-11)
        assert found.second_moment == pytest.approx(np.square(values).sum() / count, rel=1e-11)
        assert found.maximum == pytest.approx(values[0], rel=1e-11)
        assert found.top_mean == pytest.approx(values[:outliers].mean(), rel=1e-10)
        np.testing.assert_allclose(mf.outliers(refined=refined), values[:outliers], atol=1e-10 * values[0])
        rank = len(mf.eigenvalues(refined=refined))
        np.testing.assert_allclose(mf.eigenvalues(refined=refined), values[:rank], atol=1e-10 * values[0])
        np.testing.assert_allclose(values[rank:], 0, atol=1e-8 * values[0])


@given(st.integers(1, 12), st.integers(2, 6), st.floats(0.1, 30.0), st.integers(0, 10**6))
def test_softmax_formulas(T, C, scale, seed):
    """The theorem's form with betas from sums over classes (Karakida, Akaho, Amari 2021, Theorem 3.3)."""
    arch = architecture(C)
    f = outputs_of(T, C, scale, seed)
    g = np.exp(f - f.max(axis=1, keepdims=True))
    g /= g.sum(axis=1, keepdims=True)
    overlap = g @ g.T
    products = overlap - (g**2) @ g.T - g @ (g**2).T + overlap**2  # tr Q_s Q_t
    beta1 = 1 - np.square(g).sum(axis=1).mean()
    beta3 = np.trace(products) / T**2
    beta2 = products.sum() / T**2 - beta3
    mf = ff.mean_field(arch, T, likelihood="softmax", outputs=f)
    for got, expected in ((mf.betas.beta1, beta1), (mf.betas.beta2, beta2), (mf.betas.beta3, beta3)):
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-13)
    b = mf.betas
    found, squares = mf.statistics, b.beta2 * mf.kappa2**2 + b.beta3 * mf.kappa1**2
    assert found.mean == pytest.approx(b.beta1 * mf.kappa1 / mf.M, rel=1e-11)
    assert found.second_moment == pytest.approx(mf.alpha * squares, rel=1e-11)
    lower, upper = mf.maximum_bounds
    assert lower == pytest.approx(mf.alpha * squares / (b.beta1 * mf.kappa1) * mf.M, rel=1e-11)
    assert upper == pytest.approx(mf.alpha * np.sqrt(squares) * mf.M, rel=1e-11)
    assert lower * (1 - 1e-12) <= found.maximum <= upper * (1 + 1e-12)
    regression = ff.mean_field(arch, T).statistics
    assert found.maximum <= regression.maximum / 2 * (1 + 1e-12)  # the norm of Q is at most 1/2
    assert found.mean <= regression.mean
    assert found.second_moment <= regression.second_moment


def test_for_many_samples_the_softmax_outliers_are_those_of_the_mean_information():
    T, C = 3000, 4
    f = outputs_of(T, C)
    mf = ff.mean_field(architecture(C), T, likelihood="softmax", outputs=f)
    limit = mf.alpha * mf.kappa2 * mf.M * np.linalg.eigvalsh(information("categorical", f).mean(axis=0))[::-1]
    np.testing.assert_allclose(mf.outliers(), limit[: C - 1], rtol=0.02)
    assert abs(limit[-1]) < 1e-12 * limit[0]


@pytest.mark.parametrize("kind", ["statistics", "data"])
def test_large_duals_are_only_multiplied(kind):
    """Beyond 400 rows Lanczos takes over, also where eigenvalues repeat (the same Q everywhere)."""
    T, C = 150, 4
    f = outputs_of(T, C)
    for outputs in (f, np.zeros((T, C))):
        mf = ff.mean_field(architecture(C), inputs(kind, T), likelihood="softmax", outputs=outputs)
        dense = np.linalg.eigvalsh(brute_force(mf.dual(), information("categorical", outputs)))[::-1]
        np.testing.assert_allclose(mf.outliers(), dense[: C - 1], rtol=1e-9)


def test_noise_variance_scales_everything():
    arch = architecture()
    unit = ff.mean_field(arch, 20).statistics
    noisy = ff.mean_field(arch, 20, likelihood=likelihoods.Gaussian(noise_var=0.25))
    assert noisy.statistics.mean == pytest.approx(4 * unit.mean)
    assert noisy.statistics.second_moment == pytest.approx(16 * unit.second_moment)
    np.testing.assert_allclose(noisy.outliers(), 4 * unit.maximum)
    each = ff.mean_field(arch, 20, likelihood=likelihoods.Gaussian(noise_var=(1.0, 0.5, 0.25, 2.0)))
    np.testing.assert_allclose(each.outliers()[:3] / unit.maximum, [4, 2, 1])  # the fourth drowns in the first's bulk


def test_predictions_average_over_networks():
    arch, f = architecture(), np.stack([outputs_of(6, 4, seed=s) for s in range(3)])
    alone = [ff.mean_field(arch, 6, likelihood="softmax", outputs=x) for x in f]
    together = ff.mean_field(arch, 6, likelihood="softmax", outputs=f)
    for field in ("mean", "second_moment", "maximum", "top_mean"):
        expected = np.mean([getattr(mf.statistics, field) for mf in alone])
        assert getattr(together.statistics, field) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(together.outliers(), np.mean([mf.outliers() for mf in alone], axis=0))
    assert together.betas.beta2 == pytest.approx(np.mean([mf.betas.beta2 for mf in alone]))


@pytest.mark.parametrize("kind", ["exact", "monte_carlo", "empirical"])
def test_output_seeds_of_a_measured_network(kind):
    arch = architecture()
    net, X = arch.sample(seed=0), inputs("data", 6)
    options = {"monte_carlo": {"samples": 3, "seed": 0}, "empirical": {"targets": np.arange(6) % 4}}.get(kind, {})
    fim = ff.Fisher(net, X, likelihood="softmax", kind=kind, **options)
    mf = ff.mean_field(arch, X, likelihood="softmax", kind=kind, output_seeds=fim.output_seeds())
    S = fim.output_seeds()
    dual = np.einsum("rsk,st,qtk->rsqt", S, mf.dual(), S).reshape(len(S) * 6, -1)
    np.testing.assert_allclose(mf.eigenvalues(), np.linalg.eigvalsh(dual)[::-1], atol=1e-12 * mf.eigenvalues()[0])
    if kind == "exact":
        same = ff.mean_field(arch, X, likelihood="softmax", outputs=net(X)).statistics
        assert mf.statistics.mean == pytest.approx(same.mean, rel=1e-12)


# --- outputs from the limiting Gaussian process -------------------------------------------------------------


@pytest.mark.parametrize("make", [architecture, residual])
def test_covariance_of_the_outputs(make):
    arch, X = make(), inputs("data", 5)
    mf = ff.mean_field(arch, X)
    order = mf.order_parameters
    assert np.trace(mf.nngp()) / 5 == pytest.approx(order.q[-1], rel=1e-12)
    assert (mf.nngp().sum() - np.trace(mf.nngp())) / 20 == pytest.approx(order.q_st[-1], rel=1e-12)
    alike = ff.mean_field(arch, ff.InputStatistics(5, 1.0, 0.3))
    order = alike.order_parameters
    np.testing.assert_allclose(alike.nngp(), np.full((5, 5), order.q_st[-1]) + np.eye(5) * (order.q - order.q_st)[-1])


@pytest.mark.parametrize("known", [ff.InputStatistics(4, 1.0, 0.3), ff.InputStatistics(4, 1.0, -0.3), "data", 1])
def test_drawn_outputs_have_that_covariance(known):
    C = 4000
    arch = ff.MLP((20, 30, 30, C), "erf", weight_var=2.0, bias_var=0.05)
    mf = ff.mean_field(arch, inputs("data", 4) if known == "data" else known, likelihood="bernoulli", seed=3)
    draws = mf.outputs.transpose(1, 0, 2).reshape(mf.num_samples, -1)
    covariance, count = mf.nngp(), draws.shape[1]
    error = np.sqrt((covariance**2 + np.outer(*2 * [covariance.diagonal()])) / count)  # of a sampled covariance
    assert (np.abs(draws @ draws.T / count - covariance) < 4 * error).all()


def test_draws_are_reproducible_and_kinds_average_to_the_exact_one():
    arch = architecture(3)
    mean = {}
    for kind, samples in (("exact", None), ("monte_carlo", 400), ("empirical", None)):
        options = {"likelihood": "softmax", "kind": kind, "samples": samples}
        first, second = (ff.mean_field(arch, 30, seed=5, **options).statistics for _ in range(2))
        assert first == second
        assert first != ff.mean_field(arch, 30, seed=6, **options).statistics
        mean[kind] = first.mean
    assert mean["monte_carlo"] == pytest.approx(mean["exact"], rel=0.02)  # 4 sigma of 10 * 30 * 400 draws is 1 %
    assert mean["empirical"] > 1.2 * mean["exact"]  # targets of a stranger surprise more


@pytest.mark.parametrize("name", ["poisson", "softmax"])
def test_bounds_hold_for_averages_over_unlike_draws(name):
    """Bounds of averages would not: one draw of large rates has most of the sums."""
    arch = ff.MLP((1000, 1000, 1000, 3), "tanh", weight_var=0.5, bias_var=0.64)
    mf = ff.mean_field(arch, 100, likelihood=name)
    lower, upper = mf.maximum_bounds
    assert lower < mf.statistics.maximum < upper


def test_targets_of_a_teacher_keep_their_mean():
    """Only the student's mean is subtracted: beta_1 = 1 + (q - q_st) + q, and not 1 + 2 (q - q_st)."""
    arch = ff.MLP((300, 300, 300, 200), "tanh", weight_var=3.0, bias_var=0.64)
    mf = ff.mean_field(arch, 50, kind="empirical")
    o = mf.order_parameters
    assert mf.centered().betas.beta1 / 200 == pytest.approx(1 + 2 * o.q[-1] - o.q_st[-1], rel=0.05)
    assert mf.betas.beta1 / 200 == pytest.approx(1 + 2 * o.q[-1], rel=0.05)


def test_predictions_do_not_depend_on_the_order_of_the_questions():
    generator = np.random.default_rng(4)
    options = {"likelihood": "softmax", "kind": "monte_carlo", "seed": 0}
    first, second = (ff.mean_field(architecture(), 6, **options) for _ in range(2))
    moved = ff.mean_field(architecture(), 6, likelihood="softmax", seed=generator)
    generator.random(3)
    expected = ff.mean_field(architecture(), 6, likelihood="softmax", seed=np.random.default_rng(4)).statistics
    assert moved.statistics == expected
    one = (first.statistics, first.centered().statistics)
    other = second.centered().statistics
    assert one == (second.statistics, other)


def test_outputs_are_copied_and_kept():
    f = outputs_of(6, 4)
    S = ff.likelihoods.get("softmax").seeds(f)
    by_outputs = ff.mean_field(architecture(), 6, likelihood="softmax", outputs=f)
    by_seeds = ff.mean_field(architecture(), 6, likelihood="softmax", output_seeds=S)
    expected = ff.mean_field(architecture(), 6, likelihood="softmax", outputs=f.copy()).statistics.mean
    f[:], S[:] = 0, 0
    assert by_outputs.statistics.mean == expected
    assert by_seeds.statistics.mean == pytest.approx(expected, rel=1e-14)
    with pytest.raises(ValueError, match="read-only"):
        by_outputs.outputs[0] = 0


def test_fewer_gradients_than_outliers():
    """Zeros count among the outliers, as they do in the measurement."""
    net, x = architecture().sample(0), inputs("data", 1)
    fim = ff.Fisher(net, x, likelihood="softmax", kind="empirical", targets=[1])
    mf = ff.mean_field(architecture(), x, likelihood="softmax", kind="empirical", output_seeds=fim.output_seeds())
    for statistics in (fim.statistics(), mf.statistics):
        assert statistics.top_mean == pytest.approx(statistics.maximum / 3, rel=1e-12)
    assert mf.count_above(1e-30) == 1


class Careless(ff.likelihoods.Bernoulli):
    """Draws one target instead of one per sample."""

    def sample(self, outputs, rng):
        return np.float64(1.0)


def test_own_likelihoods_are_checked():
    mf = ff.mean_field(architecture(), 5, likelihood=Careless(), kind="monte_carlo")
    with pytest.raises(ValueError, match=r"expected sample\(\) to draw one target per sample"):
        mf.statistics  # noqa: B018


# --- layers, tangent kernel, feature metric ------------------------------------------------------------------


@pytest.mark.parametrize("make", [architecture, residual])
@pytest.mark.parametrize("kind", ["statistics", "data"])
@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_layer_blocks(name, kind, make):
    arch, T = make(), 6
    f = None if name == "gaussian" else outputs_of(T, 4)
    mf = ff.mean_field(arch, inputs(kind, T), likelihood=name, outputs=f)
    blocks = [mf.layer(l) for l in range(1, arch.depth + 1)]
    for refined in (False, True):
        total = sum(block.dual(refined=refined) for block in blocks)
        np.testing.assert_allclose(total, mf.dual(refined=refined), rtol=1e-12)
    sizes = [m * n for m, n in pairwise(arch.widths)]
    traces = [block.statistics.mean * size for block, size in zip(blocks, sizes, strict=True)]
    assert sum(traces) == pytest.approx(mf.statistics.mean * mf.alpha * mf.M**2, rel=1e-12)
    assert sum(block.statistics.num_parameters for block in blocks) == arch.num_parameters
    with pytest.raises(ValueError, match="l: expected a layer from 1 to"):
        mf.layer(arch.depth + 1)


def test_layer_formulas():
    arch, T = architecture(), 8
    mf = ff.mean_field(arch, ff.InputStatistics(T, 1.0, 0.1))
    o, M = mf.order_parameters, arch.widths
    for l in range(1, 4):
        one, two = o.qtilde[l - 1] * o.qhat[l - 1], o.qtilde_st[l - 1] * o.qhat_st[l - 1]
        found = mf.layer(l).statistics
        assert found.mean == pytest.approx(4 * one / M[l], rel=1e-12)
        assert found.maximum == pytest.approx(M[l - 1] * ((T - 1) / T * two + one / T), rel=1e-12)


@pytest.mark.parametrize("kind", ["statistics", "data"])
def test_tangent_kernel(kind):
    arch, T, C = architecture(), 8, 4
    mf = ff.mean_field(arch, inputs(kind, T))
    np.testing.assert_allclose(mf.ntk().dual(), T * mf.dual(), rtol=1e-12)
    np.testing.assert_allclose(mf.ntk("standard").dual(refined=True), T * mf.dual(refined=True), rtol=1e-12)
    o, scaled = mf.order_parameters, mf.ntk("ntk")
    kappa1 = o.qtilde @ o.q
    assert scaled.statistics.num_parameters == C * T
    if kind == "statistics":
        assert scaled.statistics.mean == pytest.approx(kappa1, rel=1e-12)
        kappa2 = o.qtilde_st @ o.q_st
        assert scaled.statistics.second_moment == pytest.approx(kappa1**2 + (T - 1) * kappa2**2, rel=1e-12)
        assert scaled.statistics.maximum == pytest.approx(kappa1 + (T - 1) * kappa2, rel=1e-12)
    assert sum(scaled.layer(l).statistics.mean for l in (1, 2, 3)) == pytest.approx(scaled.statistics.mean, rel=1e-11)
    with pytest.raises(ValueError, match="likelihood: expected the unit Gaussian one"):
        ff.mean_field(arch, T, likelihood="softmax").ntk()


@pytest.mark.parametrize("make", [architecture, residual])
def test_feature_metric(make):
    arch, T, C = make(), 8, 4
    mf = ff.mean_field(arch, ff.InputStatistics(T, 1.0, 0.1))
    o, found = mf.order_parameters, mf.feature_metric().statistics
    sw2, size = arch.weight_vars[0], sum(arch.widths[:-1])
    assert found.mean == pytest.approx(C * sw2 * o.qtilde.sum() / size, rel=1e-12)
    one, two = sw2 * o.qtilde.sum(), sw2 * o.qtilde_st.sum()
    assert found.second_moment == pytest.approx(C * ((T - 1) / T * two**2 + one**2 / T) / size, rel=1e-12)
    assert found.maximum == pytest.approx((T - 1) / T * two + one / T, rel=1e-12)
    first = mf.feature_metric().layer(1).statistics
    assert (first.mean, first.num_parameters) == (pytest.approx(C * sw2 * o.qtilde[0] / 20, rel=1e-12), 20)


# --- mean subtraction ---------------------------------------------------------------------------------------


@given(st.sampled_from(["statistics", "data"]), st.integers(1, 9), st.sampled_from(["gaussian", *NAMES]))
@settings(max_examples=25)
def test_mean_subtraction(kind, T, name):
    arch = architecture()
    f = outputs_of(T, 4)
    mf = ff.mean_field(arch, inputs(kind, T), likelihood=name, outputs=None if name == "gaussian" else f)
    P = np.eye(T) - 1 / T
    K = P @ mf.dual() @ P
    scale = np.abs(mf.dual()).max()
    centered = mf.centered()
    np.testing.assert_allclose(centered.dual(), K, atol=1e-13 * scale)
    Q = np.array([np.eye(4)] * T) if name == "gaussian" else information(name, f - f.mean(axis=0))
    values = np.linalg.eigvalsh(brute_force(K, Q))[::-1]
    found, count = centered.statistics, mf.alpha * mf.M**2
    assert found.mean == pytest.approx(values.sum() / count, rel=1e-10, abs=1e-12 * scale)
    assert found.second_moment == pytest.approx(np.square(values).sum() / count, rel=1e-10, abs=1e-12 * scale**2)
    assert found.maximum == pytest.approx(values[0], rel=1e-10, abs=1e-12 * scale)
    if kind == "statistics" and name == "gaussian" and T > 1:
        assert found.maximum == pytest.approx(mf.alpha * mf.M * (mf.kappa1 - mf.kappa2) / T, rel=1e-11)


def test_order_of_layer_and_centered_does_not_matter():
    mf = ff.mean_field(architecture(), inputs("data", 5))
    assert mf.layer(2).centered().statistics == mf.centered().layer(2).statistics
    both = mf.feature_metric().centered().layer(1).statistics
    assert both == mf.feature_metric().layer(1).centered().statistics


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"likelihood": "softmx"}, ValueError, "likelihood: expected one of"),
        ({"likelihood": "softmax", "outputs": np.zeros((5, 3))}, ValueError, "outputs: expected shape"),
        ({"likelihood": "softmax", "outputs": np.full((5, 4), np.nan)}, ValueError, "outputs: expected finite"),
        ({"output_seeds": np.zeros((2, 6, 4))}, ValueError, "output_seeds: expected shape"),
        ({"kind": "sampled"}, ValueError, "kind: expected one of"),
        ({"samples": 3}, ValueError, "samples: expected only together with kind='monte_carlo'"),
        ({"kind": "monte_carlo", "samples": 0}, ValueError, "samples: expected an integer >= 1"),
        ({"kind": "empirical", "outputs": np.zeros((5, 4))}, ValueError, "outputs: expected neither"),
        ({"outputs": np.zeros((5, 4))}, ValueError, "outputs: expected None"),
        ({"likelihood": "softmax", "outputs": [[1.0] * 4] * 4 + [[1.0]]}, ValueError, "outputs: expected 2 dim"),
        ({"likelihood": "softmax", "outputs": np.ma.masked_less(np.zeros((5, 4)), 1)}, ValueError, "outputs: .*masked"),
        (
            {"output_seeds": np.zeros((2, 5, 4)), "kind": "monte_carlo", "samples": 2},
            ValueError,
            "samples: expected None",
        ),
        ({"likelihood": "softmax", "seed": -1}, ValueError, "seed: expected an integer >= 0"),
    ],
)
def test_refuses(options, error, message):
    with pytest.raises(error, match=message):
        ff.mean_field(architecture(), 5, **options)


def test_softmax_needs_two_outputs():
    with pytest.raises(ValueError, match="bernoulli"):
        ff.mean_field(architecture(1), 5, likelihood="softmax")


@pytest.mark.parametrize("name", ["bounds_wide_output", "fisher_rao_norm", "fisher_rao_bound"])
def test_statements_for_regression_alone_say_so(name):
    mf = ff.mean_field(architecture(), 5, likelihood="softmax")
    with pytest.raises(ValueError, match="make the prediction with likelihood='gaussian'"):
        attrgetter(name)(mf)()


@pytest.mark.parametrize("T", [5, 300])
def test_saturated_softmax_has_no_information(T):
    f = 800.0 * np.eye(4)[np.arange(T) % 4]
    mf = ff.mean_field(architecture(), T, likelihood="softmax", outputs=f)
    assert mf.statistics.mean == mf.statistics.maximum == 0
    assert mf.maximum_bounds == (0, 0)
    assert mf.critical_learning_rate() == np.inf
