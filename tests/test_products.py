"""Products with a metric and its dual, against the matrices written out."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import fisherfield as ff
from test_kinds import draw_targets, laws_for, likelihood_of, moderate
from tolerances import assert_close, tolerance_of

from cases import cases

METRICS = ("parameters", "ntk", "features")


def build(case, metric, **options):
    if metric == "features":
        return ff.feature_metric(case.net, case.X, **options)
    if metric == "parameters":
        return ff.Fisher(case.net, case.X, **options)
    variances = {"weight_var": 2.0} | ({"bias_var": 0.5} if case.net.has_biases else {})
    return ff.TangentKernel(case.net, case.X, parametrization="ntk", **variances)


def vectors(n, k, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((n, k)).astype(dtype)


def check_products(metric, tolerance):
    G, dual = metric.dense(), metric.dual()
    V, U = vectors(len(G), 3, metric.dtype), vectors(len(dual), 2, metric.dtype)
    # the size of G V is bounded by that of its terms
    scale, dual_scale = np.abs(G).max() * np.sqrt(len(G)), np.abs(dual).max() * np.sqrt(len(dual))
    assert_close(metric @ V, G @ V, tolerance=tolerance, scale=scale)
    assert_close(metric @ V[:, 0], G @ V[:, 0], tolerance=tolerance, scale=scale)
    assert_close(V.T @ metric, V.T @ G, tolerance=tolerance, scale=scale)
    assert_close(metric.dual_operator() @ U, dual @ U, tolerance=tolerance, scale=dual_scale)


@given(cases(max_width=7, max_samples=7), st.sampled_from(METRICS), st.booleans(), st.data())
def test_of_every_metric(case, metric, centered, data):
    fim = build(case, metric)
    if data.draw(st.booleans(), "block"):
        fim = fim.layer(data.draw(st.integers(1, case.net.depth), "l"))
    fim = fim.centered() if centered else fim
    assume(fim.dense().any())
    check_products(fim, 10 * tolerance_of(case))


@given(cases(max_width=6, max_samples=6), st.sampled_from(["exact", "monte_carlo", "empirical"]), st.data())
def test_of_every_likelihood_and_kind(case, kind, data):
    law = data.draw(st.sampled_from(laws_for(case.net.num_outputs)), "likelihood")
    outputs = case.net(case.X)
    assume(moderate(outputs))
    likelihood = likelihood_of(law, case.net.num_outputs)
    options = {"likelihood": likelihood, "kind": kind}
    if kind == "monte_carlo":
        options |= {"samples": data.draw(st.integers(1, 4), "samples"), "seed": 0}
    if kind == "empirical":
        options["targets"] = draw_targets(law, outputs)
    check_products(ff.Fisher(case.net, case.X, **options), 10 * tolerance_of(case))
