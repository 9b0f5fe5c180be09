"""The other metrics, blocks and mean subtraction, against Jacobians of the naive twin."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fisherfield as ff
import reference
from fisherfield import likelihoods
from fisherfield.features import FeatureMetric
from test_kinds import assert_agrees, draw_targets, informations, laws_for, likelihood_of, moderate, scores
from tolerances import RELATIVE, assert_close, tolerance_of

from cases import cases, make_case


def inputs_like(case, samples, seed):
    """Other inputs of the same network."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((samples, case.net.widths[0])).astype(case.net.dtype)


def far_from_kinks(case, X):
    return type(case)(case.net, X, case.names).smooth_here


# --- tangent kernel -------------------------------------------------------------------------------------


def tangent_kernel(J1, J2):
    return np.einsum("scp,tqp->stcq", J1, J2)


@given(cases(max_width=6, max_samples=5), st.integers(1, 7), st.integers(0, 99))
def test_ntk(case, samples, seed):
    X2 = inputs_like(case, samples, seed)
    assume(case.smooth_here and far_from_kinks(case, X2))
    J1, J2 = case.twin.jacobian(case.X), case.twin.jacobian(X2)
    tolerance = tolerance_of(case)
    between, among = tangent_kernel(J1, J2), tangent_kernel(J1, J1)
    assert_close(ff.ntk(case.net, case.X, X2), between, tolerance=tolerance)
    assert_close(ff.ntk(case.net, case.X), among, tolerance=tolerance)
    of_trace = ff.ntk(case.net, case.X, X2, trace=True)
    scale = np.sqrt(np.einsum("scp,scp->s", J1, J1).max() * np.einsum("scp,scp->s", J2, J2).max())
    assert_close(of_trace, np.einsum("stcc->st", between), tolerance=tolerance, scale=scale)
    assert_close(ff.ntk(case.net, case.X, trace=True), np.einsum("stcc->st", among), tolerance=tolerance)


@given(cases(max_width=30, max_samples=40), st.sampled_from(["float64", "float32"]))
def test_ntk_of_the_same_inputs_given_twice(case, dtype):
    """The two ways of computing it agree to the last bit, and with the dual over T."""
    case = make_case(case.net.widths, case.names, len(case.X), dtype=dtype, residual=case.net.residual)
    for options in ({}, {"trace": True}, {"parametrization": "ntk", "weight_var": 2.0, "bias_var": 0.5}):
        if not case.net.has_biases:
            options.pop("bias_var", None)
        once, twice = ff.ntk(case.net, case.X, **options), ff.ntk(case.net, case.X, case.X.copy(), **options)
        np.testing.assert_array_equal(once, twice)
    C, T = case.net.num_outputs, len(case.X)
    dual = ff.Fisher(case.net, case.X).dual().reshape(C, T, C, T).transpose(1, 3, 0, 2)
    assert_close(ff.ntk(case.net, case.X), dual.astype(np.float64) * T, tolerance=2 * np.finfo(dtype).eps)


def scales_of_parameters(twin, weight_vars, bias_vars):
    """How far each of the flattened parameters moves with w or v of W = sigma_w w / sqrt(M), b = sigma_b v."""
    pieces = []
    for W, weight_var, bias_var in zip(twin.weights, weight_vars, bias_vars, strict=True):
        pieces.append(np.full(W.size, np.sqrt(weight_var / W.shape[1])))
        if twin.has_biases:
            pieces.append(np.full(len(W), np.sqrt(bias_var)))
    return np.concatenate(pieces)


def rescaled_jacobian(twin, X, scales, step=1e-30):
    """d f / d (w, v), (T, C, P), by complex steps of w and v."""
    theta = twin.flat_parameters()
    columns = []
    for p, scale in enumerate(scales):
        moved = theta.astype(complex)
        moved[p] += 1j * step * scale
        columns.append([np.imag(twin.with_parameters(moved).pre_activations(x)[-1]) / step for x in X])
    return np.moveaxis(np.array(columns), 0, -1)


@given(cases(max_width=5, max_samples=4), st.data())
@settings(max_examples=30)
def test_ntk_parametrisation(case, data):
    """Derivatives with respect to the rescaled parameters, also where a layer's biases have no variance."""
    assume(case.smooth_here)
    per_layer = st.lists(st.floats(0.01, 10), min_size=case.net.depth, max_size=case.net.depth)
    weight_vars = data.draw(per_layer)
    bias_vars = data.draw(per_layer) if case.net.has_biases else [0.0] * case.net.depth
    bias_vars[data.draw(st.integers(0, case.net.depth - 1))] = 0.0
    J = rescaled_jacobian(case.twin, case.X, scales_of_parameters(case.twin, weight_vars, bias_vars))
    options = {"parametrization": "ntk", "weight_var": weight_vars, "bias_var": bias_vars}
    kernel, tolerance = ff.TangentKernel(case.net, case.X, **options), tolerance_of(case)
    expected = tangent_kernel(J, J)
    assert_close(ff.ntk(case.net, case.X, **options), expected, tolerance=tolerance)
    assert_close(kernel.dual(), reference.dual(J) * len(case.X), tolerance=tolerance)
    counts = scales_of_parameters(case.twin, weight_vars, bias_vars) > 0
    assert_close(kernel.jacobian(), J[:, :, counts], tolerance=tolerance)
    assert_close(kernel.dense(), reference.fisher(J[:, :, counts]) * len(case.X), tolerance=tolerance)
    assert_close(kernel.diagonal(), np.einsum("tcp,tcp->p", J, J)[counts], tolerance=tolerance)
    assert_close(kernel.trace(), np.einsum("tcp,tcp->", J, J), tolerance=tolerance)
    stats, values = kernel.statistics(), np.linalg.eigvalsh(reference.dual(J) * len(case.X))
    assert stats.num_parameters == len(values) == case.net.num_outputs * len(case.X)
    assert_close(stats.mean, values.mean(), tolerance=tolerance)
    assert_close(stats.second_moment, np.square(values).mean(), tolerance=2 * tolerance)
    assert_close(stats.maximum, values[-1], tolerance=tolerance)


def test_variances_of_the_architecture():
    arch = ff.MLP((4, 6, 5, 2), "tanh", weight_var=[1.0, 2.0, 3.0], bias_var=[0.5, 0.0, 0.2])
    net, X = arch.sample(seed=0), np.random.default_rng(0).standard_normal((6, 4))
    implied = ff.ntk(net, X, parametrization="ntk")
    given = ff.ntk(net, X, parametrization="ntk", weight_var=[1.0, 2.0, 3.0], bias_var=[0.5, 0.0, 0.2])
    np.testing.assert_array_equal(implied, given)
    net = ff.MLP((4, 6, 2), "tanh", weight_var=2.0, bias_var=None).sample(seed=0)
    assert ff.TangentKernel(net, X, parametrization="ntk").dimension == net.num_parameters
    np.testing.assert_array_equal(
        ff.ntk(net, X, parametrization="ntk"), ff.ntk(net, X, parametrization="ntk", weight_var=2.0, bias_var=0.0)
    )


# --- metric of the features -----------------------------------------------------------------------------


def feature_jacobian(case):
    return np.array([reference.feature_gradients(case.twin, x) for x in case.X])


@given(cases(max_width=6, max_samples=5))
@settings(max_examples=25)
def test_feature_metric(case):
    """Every layer's input is a coordinate of its own; the first are the inputs of the network."""
    assume(case.smooth_here)
    outputs, D = case.twin.outputs(case.X), feature_jacobian(case)
    assume(moderate(outputs))
    metric, tolerance = ff.feature_metric(case.net, case.X), 10 * tolerance_of(case)
    assert metric.shape == (sum(case.net.widths[:-1]),) * 2
    assert_close(metric.jacobian(), D, tolerance=tolerance)
    step, M = 1e-30, case.net.widths[0]
    moved = case.X[:, None] + 1j * step * np.eye(M)
    slopes = [[np.imag(case.twin.pre_activations(x)[-1]) / step for x in rows] for rows in moved]
    assert_close(metric.layer(1).jacobian(), np.swapaxes(slopes, 1, 2), tolerance=tolerance)
    for law in laws_for(case.net.num_outputs):
        options = {"likelihood": likelihood_of(law, case.net.num_outputs)}
        assert_agrees(ff.feature_metric(case.net, case.X, **options), D, informations(law, outputs), tolerance)
        targets = draw_targets(law, outputs)
        empirical = ff.feature_metric(case.net, case.X, kind="empirical", targets=targets, **options)
        by_hand = scores(law, outputs, targets)
        assert_agrees(empirical, D, np.einsum("tc,td->tcd", by_hand, by_hand), tolerance)
        drawn = ff.feature_metric(case.net, case.X, kind="monte_carlo", samples=2, seed=3, **options)
        for_parameters = ff.Fisher(case.net, case.X, kind="monte_carlo", samples=2, seed=3, **options)
        np.testing.assert_array_equal(drawn.output_seeds(), for_parameters.output_seeds())


def test_statistics_of_fewer_features_than_outliers():
    """One input, three outputs: the matrix has one eigenvalue, and no zeros to fill up with."""
    case = make_case((1, 4, 3), ("tanh",), 5)
    stats = ff.feature_metric(case.net, case.X).layer(1).statistics()
    assert (stats.num_parameters, stats.num_outliers) == (1, 3)
    assert stats.mean == pytest.approx(stats.maximum, rel=1e-14)
    assert stats.top_mean == pytest.approx(stats.maximum, rel=1e-14)


# --- mean gradients and mean subtraction ----------------------------------------------------------------


def all_metrics(net, X, law, targets):
    """Every metric and kind, with what makes its rows from those of the Fisher information matrix."""
    likelihood = likelihood_of(law, net.num_outputs)
    kinds = [{}, {"kind": "empirical", "targets": targets}, {"kind": "monte_carlo", "samples": 2, "seed": 5}]
    metrics = [make(net, X, likelihood=likelihood, **kind) for make in (ff.Fisher, ff.feature_metric) for kind in kinds]
    if law == "gaussian":
        variances = {"weight_var": 1.5, "bias_var": 0.3 if net.has_biases else None}
        metrics += [ff.TangentKernel(net, X), ff.TangentKernel(net, X, parametrization="ntk", **variances)]
    return metrics


def information_of(metric, law, outputs, targets):
    """The information (T, C, C) at these outputs; of a kind with targets the squares of the scores at these."""
    if isinstance(metric, ff.TangentKernel):
        return np.tile(np.eye(outputs.shape[1]), (len(outputs), 1, 1))
    if metric.kind == "exact":
        return informations(law, outputs)
    by_hand = np.array([scores(law, outputs, drawn) for drawn in targets])
    return np.einsum("ntc,ntd->tcd", by_hand, by_hand) / len(targets)


def gradients_of(metric, case):
    """Gradients of the outputs (T, C, P) in the coordinates of the metric."""
    if isinstance(metric, FeatureMetric):
        return feature_jacobian(case)
    J = case.twin.jacobian(case.X)
    if getattr(metric, "parametrization", "standard") == "ntk":
        L = case.net.depth
        J = J * scales_of_parameters(case.twin, [1.5] * L, [0.3] * L)
    return J


@given(cases(max_width=5, max_samples=4))
@settings(max_examples=10)
def test_mean_subtraction(case):
    """J_t less its mean over samples, with the likelihood at outputs less their mean."""
    assume(case.smooth_here)
    outputs = case.twin.outputs(case.X)
    centered_outputs = outputs - outputs.mean(axis=0)
    assume(moderate(outputs) and moderate(centered_outputs))
    tolerance, T = 10 * tolerance_of(case), len(case.X)
    for law in laws_for(case.net.num_outputs):
        for metric in all_metrics(case.net, case.X, law, draw_targets(law, outputs)):
            s = 1.0 if isinstance(metric, ff.TangentKernel) else 1.0 / T
            J = gradients_of(metric, case)
            mean = J.mean(axis=0)
            assert_close(metric.mean_gradients(), mean, tolerance=tolerance, scale=np.abs(J).max())
            information = information_of(metric, law, centered_outputs, metric.centered().targets)
            centered, D = metric.centered(), J - mean
            S, scale = centered.output_seeds(), max(s * T * np.abs(information).max() * np.square(J).sum(), 1e-300)
            assert S.shape == (metric.num_seeds, T, case.net.num_outputs)
            assert_close(np.einsum("rtc,rtd->tcd", S, S), information, tolerance=tolerance)
            G = s * np.einsum("tcp,tcd,tdq->pq", D, information, D, optimize=True)
            gradients = np.einsum("rtc,tcp->trp", S, D)
            assert_close(centered.jacobian(), gradients, tolerance=tolerance, scale=np.sqrt(scale / s))
            assert_close(centered.dual(), s * T * reference.dual(gradients), tolerance=tolerance, scale=scale)
            np.testing.assert_array_equal(centered.dual(), centered.dual().T)
            assert_close(centered.dense(), G, tolerance=tolerance, scale=scale)
            assert_close(centered.diagonal(), np.diag(G), tolerance=tolerance, scale=scale)
            assert_close(centered.trace(), np.trace(G), tolerance=tolerance, scale=scale)
            values = np.linalg.eigvalsh(G)[::-1][: centered.rank_bound]
            assert_close(centered.eigenvalues(), values, tolerance=tolerance, scale=scale)
            begin = 0
            for l in range(1, case.net.depth + 1):
                block = centered.layer(l)
                end = begin + block.dimension
                assert_close(block.dense(), G[begin:end, begin:end], tolerance=tolerance, scale=scale)
                assert_close(block.diagonal(), np.diag(G)[begin:end], tolerance=tolerance, scale=scale)
                part = s * T * reference.dual(gradients[:, :, begin:end])
                assert_close(block.dual(), part, tolerance=tolerance, scale=scale)
                begin = end
            assert begin == len(G)


def test_mean_subtraction_by_projection():
    """Of the Gaussian likelihood the dual is projected on what is orthogonal to the mean, per output."""
    case = make_case((5, 8, 3), ("tanh",), 12)
    fim = ff.Fisher(case.net, case.X)
    projection = np.kron(np.eye(3), np.eye(12) - 1 / 12)
    assert_close(fim.centered().dual(), projection @ fim.dual() @ projection)
    assert fim.centered().rank_bound == fim.rank_bound
    assert "centered" in repr(fim.centered())


def test_drawn_targets_of_the_mean_subtracted_network_are_its_own():
    """They are drawn from its outputs, not from the original's: biases of 2 set them apart."""
    case = make_case((4, 6, 2), ("tanh",), 5)
    net = ff.Network(case.net.weights, [case.net.biases[0], np.full(2, 2.0)], activation="tanh")
    for law in ("gaussian", "heteroscedastic", "categorical", "bernoulli", "poisson"):
        exact = ff.Fisher(net, case.X, likelihood=law).centered().dense()
        drawn = ff.Fisher(net, case.X, likelihood=law, kind="monte_carlo", samples=1500, seed=1)
        again = ff.Fisher(net, case.X, likelihood=law, kind="monte_carlo", samples=1500, seed=1)
        estimate = drawn.centered()
        assert np.linalg.norm(estimate.dense() - exact) < 0.1 * np.linalg.norm(exact)
        again.trace()
        np.testing.assert_array_equal(again.centered().output_seeds(), estimate.output_seeds())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("make", [ff.Fisher, ff.feature_metric, ff.TangentKernel])
def test_mean_subtraction_of_one_sample_leaves_nothing(make, dtype):
    case = make_case((4, 6, 3), ("tanh",), 1, dtype=dtype)
    metric = make(case.net, case.X)
    centered, tolerance = metric.centered(), 10 * RELATIVE[np.dtype(dtype)] * metric.trace()
    assert not centered.dual().any()
    assert not centered.jacobian().any()
    assert not centered.dense().any()
    assert np.abs(centered.diagonal()).max() <= tolerance
    stats = centered.statistics()
    assert stats.maximum == stats.top_mean == stats.second_moment == 0
    assert abs(stats.mean) <= tolerance


def test_mean_subtraction_in_float32():
    """Rounding is of the size that the entries had before."""
    case = make_case((20, 40, 30, 3), ("relu", "tanh"), 60, dtype="float32")
    for law in ("gaussian", "categorical", "bernoulli", "poisson"):
        metric = ff.Fisher(case.net, case.X, likelihood=likelihood_of(law, 3))
        J = case.twin.jacobian(case.X)
        outputs = case.twin.outputs(case.X)
        D, information = J - J.mean(axis=0), informations(law, outputs - outputs.mean(axis=0))
        G = np.einsum("tcp,tcd,tdp->p", D, information, D, optimize=True) / 60
        centered = metric.centered()
        assert centered.dual().dtype == centered.diagonal().dtype == centered.jacobian().dtype == np.float32
        assert_close(centered.diagonal(), G, scale=metric.diagonal().max())
        S = centered.output_seeds().astype(np.float64)
        rows = np.einsum("rtc,tcp->rtp", S, D).reshape(-1, D.shape[2])
        assert_close(centered.dual(), rows @ rows.T / 60, scale=metric.dual().max())
        assert centered.trace() == pytest.approx(G.sum(), abs=1e-5 * metric.trace())
        assert centered.statistics().maximum == pytest.approx(centered.eigenvalues()[0], rel=1e-5)


def test_mean_subtraction_in_batches(monkeypatch):
    case = make_case((5, 6, 3), ("erf",), 23)
    names = ("diagonal", "dense", "trace", "jacobian", "dual")
    whole = ff.Fisher(case.net, case.X, likelihood="categorical")
    expected = {name: getattr(whole.centered(), name)() for name in names}
    means = whole.mean_gradients()
    monkeypatch.setattr("fisherfield.network_metric.BATCH_BYTES", 2000)
    fim = ff.Fisher(case.net, case.X, likelihood="categorical")
    for name in names:
        assert_close(getattr(fim.centered(), name)(), expected[name], tolerance=1e-13)
    assert_close(fim.mean_gradients(), means, tolerance=1e-14)


# --- layers ---------------------------------------------------------------------------------------------


@given(cases(max_width=6, max_samples=5))
@settings(max_examples=15)
def test_layers(case):
    assume(case.smooth_here)
    outputs = case.twin.outputs(case.X)
    assume(moderate(outputs))
    tolerance, T = 10 * tolerance_of(case), len(case.X)
    for law in laws_for(case.net.num_outputs)[:3]:
        for metric in all_metrics(case.net, case.X, law, draw_targets(law, outputs)):
            s = 1.0 if isinstance(metric, ff.TangentKernel) else 1.0 / T
            J = gradients_of(metric, case)
            G = s * np.einsum(
                "tcp,tcd,tdq->pq", J, information_of(metric, law, outputs, metric.targets), J, optimize=True
            )
            blocks = [metric.layer(l) for l in range(1, case.net.depth + 1)]
            scale, begin = np.abs(G).max(), 0
            for l, block in enumerate(blocks, 1):
                end = begin + block.dimension
                expected = G[begin:end, begin:end]
                assert type(block) is type(metric)
                assert_close(block.dense(), expected, tolerance=tolerance, scale=scale)
                assert_close(block.diagonal(), np.diag(expected), tolerance=tolerance, scale=scale)
                assert_close(block.trace(), np.trace(expected), tolerance=tolerance, scale=metric.trace())
                values = np.linalg.eigvalsh(expected)[::-1]
                assert block.rank_bound == min(len(expected), metric.num_seeds * T)
                some = values[: block.rank_bound]
                assert_close(block.eigenvalues(), some, tolerance=tolerance, scale=metric.trace())
                of_outputs = isinstance(metric, ff.TangentKernel)
                stats, count = block.statistics(), T * case.net.num_outputs if of_outputs else len(values)
                assert stats.num_parameters == count
                assert stats.mean * count == pytest.approx(values.sum(), abs=tolerance * metric.trace())
                assert stats.second_moment * count == pytest.approx(
                    np.square(values).sum(), abs=2 * tolerance * metric.trace() ** 2
                )
                assert stats.maximum == pytest.approx(values[0], abs=tolerance * metric.trace())
                np.testing.assert_array_equal(block.layer(l).dual(), block.dual())
                begin = end
            assert begin == len(G)
            total = sum(block.dual() for block in blocks)
            assert_close(total, metric.dual(), tolerance=tolerance)


def test_slices_of_a_layer():
    case = make_case((3, 4, 2), ("tanh",), 5)
    fim = ff.Fisher(case.net, case.X)
    second = fim.layer(2)
    assert second.parameter_slices == {"W2": slice(0, 8), "b2": slice(8, 10)}
    assert second.num_parameters == second.shape[0] == 10
    whole = fim.diagonal()
    for name, where in second.parameter_slices.items():
        np.testing.assert_array_equal(second.diagonal()[where], whole[fim.parameter_slices[name]])
    np.testing.assert_array_equal(second.layer_blocks()[0], fim.layer_blocks()[1])
    assert_close(second.mean_gradients(), fim.mean_gradients()[:, -10:])


def test_layers_that_do_not_exist():
    case = make_case((3, 4, 2), ("tanh",), 5)
    fim = ff.Fisher(case.net, case.X)
    for metric in (fim, fim.centered()):
        for l, error, message in [
            (0, ValueError, "l: expected an integer >= 1, got 0"),
            (3, ValueError, "l: expected a layer from 1 to 2, got 3"),
            (1.0, TypeError, "l: expected an integer, got 1.0"),
            (True, TypeError, "l: expected an integer, got True"),
            ("W1", TypeError, "l: expected an integer, got 'W1'"),
        ]:
            with pytest.raises(error, match=re.escape(message)):
                metric.layer(l)
    with pytest.raises(ValueError, match="l: expected a layer from 2 to 2, got 1"):
        fim.layer(2).layer(1)


@pytest.mark.parametrize("make", [ff.Fisher, ff.feature_metric, ff.TangentKernel])
def test_layers_share_factors_and_no_answers(monkeypatch, make):
    """The network runs once, whoever asks first; what the whole metric has kept is not taken for the layer's own."""
    case = make_case((3, 4, 5, 2), ("tanh", "relu"), 7)
    fresh = make(case.net, case.X)
    expected = {l: make(case.net, case.X).layer(l) for l in (1, 2, 3)}
    expected = {l: (block.dual(), block.eigenvalues(), block.trace()) for l, block in expected.items()}
    runs = []
    factorize = ff.network_metric.factorize
    monkeypatch.setattr("fisherfield.network_metric.factorize", lambda *a: runs.append(1) or factorize(*a))
    fresh.layer(2).dual()
    fresh.dual(), fresh.eigenvalues(), fresh.trace(), fresh.statistics()
    for l, (dual, eigenvalues, trace) in expected.items():
        block = fresh.layer(l)
        np.testing.assert_array_equal(block.dual(), dual)
        np.testing.assert_array_equal(block.eigenvalues(), eigenvalues)
        assert block.trace() == trace
        assert block.statistics().maximum == pytest.approx(eigenvalues[0], rel=1e-12)
        assert block.dense().shape == block.shape
    assert len(runs) == 1


def test_layers_of_drawn_targets():
    """The blocks are those of one matrix: the same targets, asked before or after."""
    case = make_case((3, 4, 2), ("tanh",), 5)
    fim = ff.Fisher(case.net, case.X, likelihood="categorical", kind="monte_carlo", samples=3, seed=0)
    total = sum(fim.layer(l).dual() for l in (1, 2))
    assert_close(total, fim.dual())
    for drawn, same in zip(fim.targets, fim.layer(2).targets, strict=True):
        np.testing.assert_array_equal(drawn, same)


# --- shared by all --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_precision(dtype):
    case = make_case((3, 4, 2), ("tanh",), 5, dtype=dtype)
    metrics = [make(case.net, case.X) for make in (ff.Fisher, ff.feature_metric, ff.TangentKernel)] + [
        ff.TangentKernel(case.net, case.X, parametrization="ntk", weight_var=2.0, bias_var=0.1)
    ]
    for metric in metrics + [metric.centered() for metric in metrics]:
        for name in ("dual", "dense", "diagonal", "jacobian", "eigenvalues", "output_seeds"):
            assert getattr(metric, name)().dtype == metric.dtype == dtype, name
    assert ff.ntk(case.net, case.X, trace=True).dtype == dtype
    assert metrics[0].mean_gradients().dtype == dtype


def test_asked_from_many_threads():
    """Draws and caches are the same whoever comes first."""
    case = make_case((10, 20, 3), ("tanh",), 30)
    names = ("dual", "trace", "diagonal", "output_seeds") * 4

    def metric():
        return ff.Fisher(case.net, case.X, likelihood="categorical", kind="monte_carlo", samples=4, seed=0)

    for shared, alone in [(metric(), metric()), (metric().centered(), metric().centered())]:
        with ThreadPoolExecutor(8) as callers:
            calls = [callers.submit(getattr(shared, name)) for name in names]
            for call, name in zip(calls, names, strict=True):
                np.testing.assert_array_equal(call.result(timeout=60), getattr(alone, name)())


def test_memory_is_estimated_before_it_is_used(monkeypatch):
    net = ff.MLP((30, 40, 3), "tanh", bias_var=0.1).sample(seed=0)
    X = np.random.default_rng(0).standard_normal((50, 30))
    P = net.num_parameters
    calls = {
        "the mean gradients of shape": (lambda: ff.Fisher(net, X).mean_gradients(), 2 * 3 * P * 8),
        "the tangent kernel of 50 x 50 inputs and 3 x 3 outputs": (lambda: ff.ntk(net, X), 150**2 * 8),
        "the tangent kernel of 50 x 50 inputs and 1 x 1 outputs": (lambda: ff.ntk(net, X, trace=True), 50**2 * 8),
        "the 150 x 150 dual matrix": (lambda: ff.Fisher(net, X).centered().dual(), 4 * 150**2 * 8),
    }
    for message, (call, size) in calls.items():
        monkeypatch.setattr("fisherfield._memory.available_bytes", lambda size=size: size - 1)
        with pytest.raises(MemoryError, match=message):
            call()
    monkeypatch.setattr("fisherfield._memory.available_bytes", lambda: 2**30)
    for call, _ in calls.values():
        call()


def test_gaussian_with_noise_is_the_plain_metric_scaled():
    case = make_case((4, 6, 3), ("tanh",), 5)
    noisy = ff.Fisher(case.net, case.X, likelihood=likelihoods.Gaussian(noise_var=0.25))
    plain = ff.Fisher(case.net, case.X)
    assert_close(noisy.dual(), 4 * plain.dual())
    assert_close(noisy.centered().dual(), 4 * plain.centered().dual())


def test_what_is_kept_cannot_be_changed_from_outside():
    case = make_case((4, 6, 3), ("tanh",), 5)
    y = np.arange(15.0).reshape(5, 3)
    fim = ff.Fisher(case.net, case.X, kind="empirical", targets=y)
    drawn = ff.Fisher(case.net, case.X, kind="monte_carlo", seed=0)
    y[:] = 0
    assert fim.targets[0][4, 2] == 14
    for kept in (fim.targets[0], drawn.targets[0], fim.centered().output_seeds()):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 0


def test_a_mean_is_subtracted_once():
    case = make_case((4, 6, 3), ("tanh",), 5)
    centered = ff.Fisher(case.net, case.X).centered()
    assert centered.centered() is centered


def test_repr_names_the_block():
    case = make_case((4, 6, 3), ("tanh",), 5)
    assert repr(ff.Fisher(case.net, case.X).layer(2).centered()) == (
        "Fisher(layer 2, exact, gaussian, P=21, T=5, R=3, dtype=float64).centered()"
    )
