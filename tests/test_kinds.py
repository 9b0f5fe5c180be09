"""Every likelihood and kind of the measured matrix, against expectations over the targets taken by definition."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings

import fisherfield as ff
import reference
from fisherfield import likelihoods
from tolerances import RELATIVE, assert_close, tolerance_of

from cases import cases, make_case

NOISE = (0.3, 2.0, 0.01, 1.0)
LAWS = ["gaussian", "heteroscedastic", "categorical", "bernoulli", "poisson"]


def noise_of(law, num_outputs):
    return NOISE[:num_outputs] if law == "gaussian" else 1.0


def likelihood_of(law, num_outputs):
    return likelihoods.Gaussian(noise_var=noise_of(law, num_outputs)) if law == "gaussian" else law


def laws_for(num_outputs):
    """Those that a network of so many outputs can have."""
    return [
        law
        for law in LAWS
        if not (law == "categorical" and num_outputs == 1) and not (law == "heteroscedastic" and num_outputs % 2)
    ]


def informations(law, outputs):
    return np.array([reference.information(law, f, noise_of(law, len(f))) for f in outputs])


def scores(law, outputs, targets):
    return np.array([reference.score(law, f, y, noise_of(law, len(f))) for f, y in zip(outputs, targets, strict=True)])


def draw_targets(law, outputs, seed=0):
    """Some targets, whether likely or not."""
    rng = np.random.default_rng(seed)
    samples, num_outputs = outputs.shape
    if law == "categorical":
        return rng.integers(num_outputs, size=samples)
    if law == "bernoulli":
        return rng.integers(2, size=outputs.shape)
    if law == "poisson":
        return rng.poisson(2.0, size=outputs.shape)
    columns = num_outputs // 2 if law == "heteroscedastic" else num_outputs
    return rng.standard_normal((samples, columns)).astype(outputs.dtype)


def sandwich(J, information):
    return np.einsum("tcp,tcd,tdq->pq", J, information, J, optimize=True) / len(J)


def moderate(outputs):
    """Poisson rates whose counts can be summed over, and softmax probabilities that do not vanish."""
    return np.abs(outputs).max() < 5


def assert_agrees(fim, J, information, tolerance):
    """All quantities of a matrix, given the Jacobian and the information of the output at every sample."""
    F, S = sandwich(J, information), fim.output_seeds()
    assert S.shape == (fim.num_seeds, *J.shape[:2])
    assert_close(np.einsum("rtc,rtd->tcd", S, S), information, tolerance=tolerance)
    gradients = np.einsum("rtc,tcp->trp", S, J)
    assert_close(fim.jacobian(), gradients, tolerance=tolerance)
    assert_close(fim.dual(), reference.dual(gradients), tolerance=tolerance)
    assert_close(fim.dense(), F, tolerance=tolerance)
    assert_close(fim.diagonal(), np.diag(F), tolerance=tolerance)
    assert_close(fim.trace(), np.trace(F), tolerance=tolerance)
    values = np.zeros(len(F))
    values[: fim.rank_bound] = fim.eigenvalues()
    expected = np.linalg.eigvalsh(F)[::-1]
    assert_close(values, expected, tolerance=tolerance)
    stats = fim.statistics()
    outliers = expected[: stats.num_outliers]
    assert_close(stats.mean, expected.mean(), tolerance=tolerance)
    assert_close(stats.second_moment, np.square(expected).mean(), tolerance=2 * tolerance)
    assert_close([stats.maximum, stats.top_mean], [expected[0], outliers.mean()], tolerance=tolerance)


# --- exact ----------------------------------------------------------------------------------------------


@given(cases(max_width=6, max_samples=6))
def test_exact(case):
    """The information is a sum over outcomes, or a Gauss-Hermite quadrature, of squares of complex-step scores."""
    assume(case.smooth_here)
    outputs, J = case.twin.outputs(case.X), case.twin.jacobian(case.X)
    assume(moderate(outputs))
    for law in laws_for(case.net.num_outputs):
        fim = ff.Fisher(case.net, case.X, likelihood=likelihood_of(law, case.net.num_outputs))
        assert_agrees(fim, J, informations(law, outputs), 10 * tolerance_of(case))
        assert fim.targets is None
        assert fim.statistics().num_outliers == fim.num_seeds == case.net.num_outputs - (law == "categorical")


@given(cases(max_width=6, max_samples=6, dtype="float32"))
@settings(max_examples=15)
def test_float32(case):
    assume(case.smooth_here)
    outputs, J = case.twin.outputs(case.X), case.twin.jacobian(case.X)
    assume(moderate(outputs))
    for law in laws_for(case.net.num_outputs):
        fim = ff.Fisher(case.net, case.X, likelihood=likelihood_of(law, case.net.num_outputs))
        F = sandwich(J, informations(law, outputs))
        for got, expected in [(fim.dense(), F), (fim.diagonal(), np.diag(F))]:
            assert got.dtype == np.float32
            assert_close(got, expected, tolerance=1e-4)
        assert fim.dual().dtype == fim.output_seeds().dtype == np.float32
        assert_close(fim.trace(), np.trace(F), tolerance=1e-4)


# --- Monte Carlo ----------------------------------------------------------------------------------------


SMALL = make_case((4, 6, 4), ("tanh",), 5, seed=3)
SMALL_OUTPUTS = SMALL.twin.outputs(SMALL.X)


def estimate(law, samples, seed, net=SMALL.net, X=SMALL.X):
    likelihood = likelihood_of(law, net.num_outputs)
    return ff.Fisher(net, X, likelihood=likelihood, kind="monte_carlo", samples=samples, seed=seed)


@pytest.mark.parametrize("law", LAWS)
def test_monte_carlo_has_the_right_mean(law):
    """Of 300 estimates from one draw: every entry lies within five standard errors of the expectation."""
    exact = sandwich(SMALL.twin.jacobian(SMALL.X), informations(law, SMALL_OUTPUTS))
    estimates = np.array([estimate(law, 1, seed).dense() for seed in range(300)])
    error = np.abs(estimates.mean(axis=0) - exact)
    assert (error <= 5 * estimates.std(axis=0) / 300**0.5 + 1e-12 * np.abs(exact).max()).all()


@pytest.mark.parametrize("law", LAWS)
def test_monte_carlo_converges_at_its_rate(law):
    """The slope of log error over log samples, one from each of ten seeds, is -1/2 within its own error."""
    exact = sandwich(SMALL.twin.jacobian(SMALL.X), informations(law, SMALL_OUTPUTS))
    counts = 4 ** np.arange(1, 6)
    errors = [[np.linalg.norm(estimate(law, n, seed).dense() - exact) for n in counts] for seed in range(10)]
    slopes = np.polyfit(np.log(counts), np.log(errors).T, 1)[0]
    standard_error = slopes.std(ddof=1) / len(slopes) ** 0.5
    assert standard_error < 0.06
    assert slopes.mean() == pytest.approx(-0.5, abs=4 * standard_error)


@given(cases(max_width=6, max_samples=6))
@settings(max_examples=20)
def test_monte_carlo_at_its_targets(case):
    """One draw is the empirical matrix at the targets drawn, to the last bit; several draws are their mean."""
    assume(case.smooth_here)
    outputs, J = case.twin.outputs(case.X), case.twin.jacobian(case.X)
    assume(moderate(outputs))
    for law in laws_for(case.net.num_outputs):
        one, several = (estimate(law, n, 7, case.net, case.X) for n in (1, 3))
        likelihood = one.likelihood
        assert len(several.targets) == several.num_seeds == 3
        np.testing.assert_array_equal(one.targets[0], several.targets[0])
        given = [
            ff.Fisher(case.net, case.X, likelihood=likelihood, kind="empirical", targets=drawn)
            for drawn in several.targets
        ]
        for name in ("dual", "dense", "diagonal", "trace", "output_seeds", "jacobian"):
            np.testing.assert_array_equal(getattr(one, name)(), getattr(given[0], name)())
        of_draws = np.array([scores(law, outputs, drawn) for drawn in several.targets])
        information = np.einsum("ntc,ntd->tcd", of_draws, of_draws) / 3
        assert_agrees(several, J, information, 10 * tolerance_of(case))


def test_one_seed_one_estimate(monkeypatch):
    """Whatever is asked first, in whatever batches, the targets are the same, and with them every bit."""
    names = ("dual", "output_seeds", "trace", "eigenvalues")
    for law in LAWS:
        first, other = estimate(law, 5, 11), estimate(law, 5, 11)
        expected = {name: getattr(first, name)() for name in names}
        for name in reversed(names):
            np.testing.assert_array_equal(getattr(other, name)(), expected[name])
        with monkeypatch.context() as patch:
            patch.setattr("fisherfield.network_metric.BATCH_BYTES", 500)
            batches = estimate(law, 5, 11)
            assert len(list(batches._factor_batches())) > 3
            for drawn, same in zip(first.targets, batches.targets, strict=True):
                np.testing.assert_array_equal(drawn, same)
            assert_close(batches.diagonal(), first.diagonal(), tolerance=1e-14)
            assert_close(batches.dense(), first.dense(), tolerance=1e-14)
            np.testing.assert_array_equal(batches.dual(), expected["dual"])
        assert not np.array_equal(estimate(law, 5, 12).dual(), expected["dual"])
    assert not np.array_equal(estimate("bernoulli", 5, None).dual(), estimate("bernoulli", 5, None).dual())


def test_a_generator_is_used_at_once():
    """What one metric draws does not depend on when it, or another metric with the same generator, is asked."""
    rng = np.random.default_rng(11)
    first, second = estimate("poisson", 2, rng), estimate("poisson", 2, rng)
    rng.random(1000)
    assert second.trace() != first.trace()
    other = np.random.default_rng(11)
    for fim in (first, second):
        assert fim.trace() == estimate("poisson", 2, other).trace()


# --- empirical ------------------------------------------------------------------------------------------


@given(cases(max_width=6, max_samples=6))
@settings(max_examples=20)
def test_empirical(case):
    assume(case.smooth_here)
    outputs, J = case.twin.outputs(case.X), case.twin.jacobian(case.X)
    assume(moderate(outputs))
    for law in laws_for(case.net.num_outputs):
        targets = draw_targets(law, outputs)
        fim = ff.Fisher(
            case.net,
            case.X,
            likelihood=likelihood_of(law, case.net.num_outputs),
            kind="empirical",
            targets=targets,
        )
        by_hand = scores(law, outputs, targets)
        np.testing.assert_array_equal(fim.targets[0], targets)
        assert_agrees(fim, J, np.einsum("tc,td->tcd", by_hand, by_hand), 10 * tolerance_of(case))


def test_scores_in_closed_form():
    """Residuals of least squares and of the softmax, on a network of one layer."""
    X, W = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[0.5, 0.0], [0.0, 1.0], [1.0, 1.0]])
    net, f = ff.Network([W]), X @ W.T

    def mean_of_squares(residuals):
        gradients = np.einsum("tc,tm->tcm", residuals, X).reshape(2, 6)
        return gradients.T @ gradients / 2

    y = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
    assert_close(ff.Fisher(net, X, kind="empirical", targets=y).dense(), mean_of_squares(y - f))
    g = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    softmax = ff.Fisher(net, X, likelihood="softmax", kind="empirical", targets=np.array([2, 0]))
    assert_close(softmax.dense(), mean_of_squares(np.eye(3)[[2, 0]] - g))


def test_kinds_do_not_mix():
    y = np.zeros((5, 4))
    for options, message in [
        ({"targets": y}, "targets: expected only together with kind='empirical', got targets with kind='exact'"),
        ({"samples": 3}, "samples: expected only together with kind='monte_carlo', got samples with kind='exact'"),
        ({"seed": 0}, "seed: expected only together with kind='monte_carlo', got seed with kind='exact'"),
        ({"kind": "monte_carlo", "targets": y}, "targets: expected only together with kind='empirical'"),
        ({"kind": "empirical", "targets": y, "samples": 1}, "samples: expected only together with kind='monte_carlo'"),
        ({"kind": "empirical", "targets": y, "seed": 0}, "seed: expected only together with kind='monte_carlo'"),
        ({"kind": "empirical"}, "targets: expected the observed targets with kind='empirical', got None"),
    ]:
        for make in (ff.Fisher, ff.feature_metric):
            with pytest.raises(ValueError, match=re.escape(message)):
                make(SMALL.net, SMALL.X, **options)


def test_fewer_gradients_than_outliers():
    """One score of one sample, three outputs: the mean of the three largest eigenvalues counts two zeros."""
    case = make_case((3, 4, 3), ("tanh",), 1)
    fim = ff.Fisher(case.net, case.X, kind="empirical", targets=np.ones((1, 3)))
    stats = fim.statistics()
    assert fim.dual().shape == (1, 1)
    assert stats.num_outliers == 3
    assert stats.top_mean == pytest.approx(stats.maximum / 3, rel=1e-14)


# --- extremes -------------------------------------------------------------------------------------------


def with_logits(logits, dtype="float64"):
    """A network whose outputs are nearly these, whatever the input."""
    case = make_case((3, 4, len(logits)), ("tanh",), 3, seed=5, dtype=dtype)
    (W1, W2), (b1, _) = case.net.weights, case.net.biases
    return case.X, ff.Network([W1, np.dtype(dtype).type(1e-3) * W2], [b1, np.array(logits, dtype)])


def assert_whole_pipeline(fim):
    for name in ("dual", "dense", "diagonal", "eigenvalues", "jacobian", "output_seeds"):
        assert np.isfinite(getattr(fim, name)()).all()
    stats = fim.statistics()
    assert np.isfinite([fim.trace(), stats.mean, stats.second_moment, stats.maximum, stats.top_mean]).all()
    for block in fim.layer_blocks():
        assert np.isfinite(block).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_certain_class_gives_exactly_zero(dtype):
    X, net = with_logits([800, -800, 0], dtype)
    fim = ff.Fisher(net, X, likelihood="categorical")
    assert_whole_pipeline(fim)
    assert not fim.dual().any()
    assert fim.trace() == fim.statistics().maximum == fim.statistics().top_mean == 0
    drawn = ff.Fisher(net, X, likelihood="categorical", kind="monte_carlo", samples=4, seed=0)
    assert_whole_pipeline(drawn)
    assert not drawn.dual().any()
    assert not np.any(drawn.targets)
    surprised = ff.Fisher(net, X, likelihood="categorical", kind="empirical", targets=np.array([1, 2, 0]))
    assert_whole_pipeline(surprised)
    np.testing.assert_array_equal(surprised.output_seeds()[0], [[-1, 1, 0], [-1, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_nearly_certain_class_keeps_its_digits(dtype):
    """Two equal classes far above the third; and one 60 below the other: F is e^-60 of what it was."""
    X, net = with_logits([800, 800, -800], dtype)
    fim = ff.Fisher(net, X, likelihood="categorical")
    J = ff.Fisher(net, X).jacobian().astype(np.float64)
    f = net(X).astype(np.float64)
    p = 1 / (1 + np.exp(f[:, 1] - f[:, 0]))
    difference = J[:, 0] - J[:, 1]
    expected = np.einsum("t,tp,tq->pq", p * (1 - p), difference, difference) / 3
    assert_close(fim.dense(), expected, tolerance=2 * RELATIVE[np.dtype(dtype)])
    X, net = with_logits([60, 0], dtype)
    fim = ff.Fisher(net, X, likelihood="categorical")
    assert_whole_pipeline(fim)
    f = net(X).astype(np.float64)
    difference = np.diff(ff.Fisher(net, X).jacobian().astype(np.float64), axis=1)[:, 0]
    expected = np.einsum("t,tp,tq->pq", np.exp(f[:, 1] - f[:, 0]), difference, difference) / 3
    assert_close(fim.dense(), expected, tolerance=2 * RELATIVE[np.dtype(dtype)])


def test_one_class_is_refused():
    case = make_case((3, 4, 1), ("tanh",), 5)
    for make in (ff.Fisher, ff.feature_metric):
        with pytest.raises(ValueError, match="outputs: expected at least 2 for the categorical likelihood, got 1"):
            make(case.net, case.X, likelihood="categorical")


def test_a_thousand_classes_of_one_sample():
    case = make_case((2, 2, 1000), ("tanh",), 1)
    J, f = case.twin.jacobian(case.X)[0], case.twin.outputs(case.X)[0]
    g = np.exp(f) / np.exp(f).sum()
    gram = J @ J.T
    fim = ff.Fisher(case.net, case.X, likelihood="categorical")
    assert fim.dual().shape == (999, 999)
    root = fim.output_seeds()[:, 0]
    assert_close(root.T @ root, np.diag(g) - np.outer(g, g))
    assert_close(fim.dual(), root @ gram @ root.T)
    assert_close(fim.trace(), g @ np.diag(gram) - g @ gram @ g)
    assert_close(fim.diagonal(), g @ J**2 - (g @ J) ** 2)
    stats = fim.statistics()
    assert stats.num_outliers == 999
    assert stats.top_mean == pytest.approx(fim.trace() / 999, rel=1e-12)
    estimate = ff.Fisher(case.net, case.X, likelihood="categorical", kind="monte_carlo", samples=20, seed=0)
    assert estimate.dual().shape == (20, 20)


def test_overflowing_rates_are_refused_with_their_place(monkeypatch):
    X, net = with_logits([0, 800])
    for kind in ({}, {"kind": "monte_carlo", "seed": 0}):
        with pytest.raises(ValueError, match=r"outputs: expected rates e\^f that float64 can hold, got exp\(800"):
            ff.Fisher(net, X, likelihood="poisson", **kind).dual()
    net = ff.Network([np.array([[1.0]])])
    inputs = np.zeros((50, 1))
    inputs[40] = 800
    fim = ff.Fisher(net, inputs, likelihood="poisson")
    with pytest.raises(ValueError, match="at sample 40, output 0"):
        fim.dual()
    monkeypatch.setattr("fisherfield.unitwise._ROWS", 8)
    with pytest.raises(ValueError, match="exp\\(800\\) at sample") as caught:
        fim.diagonal()
    place = int(re.search(r"at sample (\d+)", str(caught.value))[1])
    begin = int(re.search(r"counted from sample (\d+) of X", caught.value.__notes__[0])[1])
    assert begin > 0
    assert begin + place == 40


def test_outputs_that_overflow():
    """With drawn targets too it is the network that is named."""
    huge = ff.Network([np.full((2, 2), 1e300), np.full((2, 2), 1e300)], activation="linear")
    inputs = np.ones((3, 2))
    for call in (
        lambda: ff.Fisher(huge, inputs, kind="monte_carlo", seed=0).targets,
        lambda: ff.Fisher(huge, inputs).output_seeds(),
        lambda: ff.Fisher(huge, inputs).centered().dual(),
        lambda: ff.Fisher(huge, inputs).mean_gradients(),
        lambda: ff.ntk(huge, inputs),
    ):
        with pytest.raises(ValueError, match=r"net\(X\): expected finite outputs, got inf at sample 0"):
            call()


# --- likelihoods of one's own ---------------------------------------------------------------------------


class Waiting(likelihoods.Likelihood):
    """Exponential times of rate e^f: score 1 - y e^f, information 1."""

    def log_density(self, outputs, targets):
        return (outputs - targets * np.exp(outputs)).sum(axis=1)

    def score(self, outputs, targets):
        return 1 - targets * np.exp(outputs)

    def information(self, outputs):
        samples, num_outputs = outputs.shape
        return np.broadcast_to(np.eye(num_outputs), (samples, num_outputs, num_outputs))

    def sample(self, outputs, rng):
        return rng.exponential(np.exp(-outputs))


def test_own_likelihood():
    plain = ff.Fisher(SMALL.net, SMALL.X)
    exact = ff.Fisher(SMALL.net, SMALL.X, likelihood=Waiting())
    assert_close(exact.dense(), plain.dense())
    drawn = ff.Fisher(SMALL.net, SMALL.X, likelihood=Waiting(), kind="monte_carlo", samples=3000, seed=0)
    assert np.linalg.norm(drawn.dense() - plain.dense()) < 0.1 * np.linalg.norm(plain.dense())
    given = ff.Fisher(SMALL.net, SMALL.X, likelihood=Waiting(), kind="empirical", targets=drawn.targets[5])
    assert_close(given.output_seeds()[0], 1 - drawn.targets[5] * np.exp(SMALL_OUTPUTS))
    assert_close(exact.centered().dense(), plain.centered().dense(), scale=plain.dense().max())


def broken(**methods):
    """Waiting times with some methods replaced."""
    return type("Broken", (Waiting,), {name: (lambda self, *a, m=method: m(*a)) for name, method in methods.items()})()


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"seeds": lambda f: np.ones((2, 5, 4))}, "likelihood broken: expected seeds or scores of shape (4, 5, 4)"),
        (
            {"seeds": lambda f: np.ones((4, 5, 4), "f4")},
            "and dtype float64 in all, got shape (4, 5, 4) and dtype float32",
        ),
        (
            {"seeds": lambda f: np.full((4, 5, 4), np.nan)},
            "likelihood broken: expected finite seeds, got nan at sample 0",
        ),
        ({"information": lambda f: np.full((5, 4, 4), np.nan)}, "information: expected finite numbers, got nan"),
        ({"information": lambda f: np.ones((5, 4))}, "information: expected 3 dimensions, got shape (5, 4)"),
    ],
)
def test_wrong_seeds_of_an_own_likelihood(methods, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ff.Fisher(SMALL.net, SMALL.X, likelihood=broken(**methods)).dual()


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {"score": lambda f, y: np.ones((5, 3))},
            "likelihood broken: expected score() to return shape (5, 4) and dtype float64",
        ),
        (
            {"score": lambda f, y: np.full((5, 4), np.nan)},
            "likelihood broken: expected finite seeds, got nan at sample 0",
        ),
        (
            {"sample": lambda f, rng: np.ones(4)},
            "likelihood broken: expected sample() to draw one target per sample (5)",
        ),
        ({"sample": lambda f, rng: 1.0}, "expected sample() to draw one target per sample (5), got shape ()"),
    ],
)
def test_wrong_draws_and_scores_of_an_own_likelihood(methods, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ff.Fisher(SMALL.net, SMALL.X, likelihood=broken(**methods), kind="monte_carlo", samples=2, seed=0).dual()


def test_seeds_may_be_a_list():
    seeds = likelihoods.Gaussian().seeds(SMALL.net(SMALL.X))
    fim = ff.Fisher(SMALL.net, SMALL.X, likelihood=broken(seeds=lambda f: seeds[:, : len(f)].tolist()))
    np.testing.assert_array_equal(fim.dual(), ff.Fisher(SMALL.net, SMALL.X).dual())
