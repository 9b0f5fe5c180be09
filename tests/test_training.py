"""Training: the compiled runs of steps against a plain loop, batches, divergence, threads, bad input."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield.activations import available
from fisherfield.learning import Descent

LOSSES = ["squared", "cross_entropy"]


def sample(arch, samples, loss, seed=0, dtype="float64"):
    """A network, inputs, and targets of a teacher or at random."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((samples, arch.widths[0])).astype(dtype)
    labels = rng.integers(0, arch.num_outputs, samples)
    targets = arch.sample(seed + 100, dtype)(X) if loss == "squared" else labels
    return arch.sample(seed, dtype), X, targets


class PlainLoop:
    """Gradient descent with momentum by the book: one array operation a line."""

    def __init__(self, net, loss, rate, momentum):
        self.W = [W.copy() for W in net.weights]
        self.b = None if net.biases is None else [b.copy() for b in net.biases]
        self.moved = [0.0] * len(self.W), [0.0] * len(self.W)
        self.net, self.loss, self.rate, self.momentum = net, loss, rate, momentum

    def step(self, X, y):
        L, inputs, slopes, u = len(self.W), [X], [], None
        for l in range(L):
            before, u = u, inputs[-1] @ self.W[l].T + (0.0 if self.b is None else self.b[l])
            u = u + before if self.net.skips[l] else u
            if l < L - 1:
                value, slope = self.net.activations[l].evaluate(u)
                inputs.append(value)
                slopes.append(slope)
        if self.loss == "squared":
            delta = u - y
            losses = (delta**2).sum(axis=1) / 2
        else:
            p = np.exp(u - u.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            rows = np.arange(len(y))
            losses = -np.log(p[rows, y])
            delta = p
            delta[rows, y] -= 1
        for l in reversed(range(L)):
            gradient, bias_gradient = delta.T @ inputs[l] / len(X), delta.sum(axis=0) / len(X)
            if l > 0:
                back = (delta @ self.W[l]) * slopes[l - 1]
                delta = back + delta if self.net.skips[l] else back
            self.move(self.W, 0, l, gradient)
            if self.b is not None:
                self.move(self.b, 1, l, bias_gradient)
        return losses.mean()

    def move(self, parameters, kind, l, gradient):
        self.moved[kind][l] = self.momentum * self.moved[kind][l] - self.rate * gradient
        parameters[l] = parameters[l] + self.moved[kind][l]

    def parameters(self):
        return ff.Network(
            self.W, self.b, activation=self.net.activations[: len(self.W) - 1 - self.net.residual],
            residual=self.net.residual,
        ).parameters()  # fmt: skip


ARCHITECTURES = {
    "two hidden layers": ff.MLP((7, 30, 50, 3), "tanh", weight_var=2.0, bias_var=0.1),
    "no hidden layer": ff.MLP((7, 4), "tanh", weight_var=2.0),
    "no biases": ff.MLP((5, 20, 2), "relu", weight_var=2.0, bias_var=None),
    "wide": ff.MLP((130, 200, 100, 10), "erf", weight_var=2.0, bias_var=0.3),
    "activations by layer": ff.MLP((9, 8, 7, 6, 5), ("gelu", "sin", "softplus"), weight_var=1.5),
    "residual": ff.ResidualMLP((6, 12, 12, 12, 3), "tanh", weight_var=0.8, bias_var=0.1),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_every_step_is_that_of_a_plain_loop(arch, loss):
    net, X, y = sample(arch, 40, loss)
    descent = Descent(net, X, loss, targets=y, momentum=0.9)
    plain = PlainLoop(net, loss, 0.003, 0.9)
    for _ in range(25):
        (found,), wanted = descent.run([0.003]), plain.step(X, y)
        theta = plain.parameters()
        assert found == pytest.approx(wanted, rel=1e-12)
        assert np.abs(descent.network.parameters() - theta).max() < 1e-12 * np.abs(theta).max()


@pytest.mark.parametrize("name", available())
def test_every_activation(name):
    net, X, y = sample(ff.MLP((6, 11, 9, 2), name, weight_var=1.5, bias_var=0.2), 15, "squared")
    run = ff.train(net, X, targets=y, learning_rate=0.001, steps=5)
    plain = PlainLoop(net, "squared", 0.001, 0.0)
    np.testing.assert_allclose(run.losses, [plain.step(X, y) for _ in range(5)], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(1, 70), min_size=2, max_size=5),
    samples=st.integers(1, 60),
    share=st.floats(0.01, 1.0),
    momentum=st.floats(0.0, 0.99),
    loss=st.sampled_from(LOSSES),
    biases=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_batches_follow_the_plain_loop(widths, samples, share, momentum, loss, biases, seed):
    if loss == "cross_entropy" and widths[-1] == 1:
        widths = [*widths[:-1], 2]
    arch = ff.MLP(widths, "tanh", weight_var=1.5, bias_var=0.1 if biases else None)
    net, X, y = sample(arch, samples, loss, seed)
    batch = max(1, int(share * samples))
    descent = Descent(net, X, loss, targets=y, momentum=momentum, batch_size=batch, seed=seed)
    plain = PlainLoop(net, loss, 0.01, momentum)
    losses = descent.run([0.01] * 6)
    orders = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(b"batches")))
    stream = np.concatenate([orders.permutation(samples) for _ in range(7)])
    for k in range(6):
        rows = np.arange(samples) if batch == samples else stream[k * batch : (k + 1) * batch]
        assert losses[k] == pytest.approx(plain.step(X[rows], y[rows]), rel=1e-11)
    theta = plain.parameters()
    assert np.abs(descent.network.parameters() - theta).max() < 1e-11 * np.abs(theta).max()


def test_every_sample_comes_as_often_as_any_other():
    net, X, y = sample(ff.MLP((3, 4, 2), "tanh"), 12, "squared")
    seen = []
    ff.train(
        net, X, targets=y, learning_rate=0.01, steps=15, batch_size=4, seed=3,
        callback=lambda step: seen.append(step.factors.layers[0].A.copy()),
    )  # fmt: skip
    rows = [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in np.concatenate(seen)]
    assert sorted(rows) == sorted(list(range(12)) * 5)
    assert len({tuple(rows[12 * k : 12 * k + 12]) for k in range(5)}) == 5  # in another order each time


def test_a_rate_for_every_step():
    net, X, y = sample(ARCHITECTURES["two hidden layers"], 20, "squared")
    rates = [0.01, 0.001, 0.02]
    run = ff.train(net, X, targets=y, learning_rate=rates, steps=3)
    theta = net.parameters()
    for rate in rates:
        theta = theta - rate * ff.loss_gradient(net.with_parameters(theta), X, targets=y)
    np.testing.assert_allclose(run.network.parameters(), theta, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_final_loss_is_that_of_all_samples(loss):
    net, X, y = sample(ARCHITECTURES["wide"], 50, loss)
    run = ff.train(net, X, loss, targets=y, learning_rate=0.002, steps=30, batch_size=20)
    again = ff.train(run.network, X, loss, targets=y, learning_rate=1e-3, steps=1)
    assert run.final_loss == pytest.approx(again.losses[0], rel=1e-12)
    assert run.converged
    assert run.losses.shape == (30,)


def test_float32_follows_float64():
    arch = ARCHITECTURES["wide"]
    for loss in LOSSES:
        net, X, y = sample(arch, 60, loss)
        half = net.with_parameters(net.parameters().astype("f4").astype("f8"))
        single = ff.Network(
            [W.astype("f4") for W in net.weights], [b.astype("f4") for b in net.biases], activation="erf"
        )
        X32 = X.astype("f4")
        exact = ff.train(half, X32.astype("f8"), loss, targets=y if loss != "squared" else y.astype("f4").astype("f8"),
                         learning_rate=0.003, steps=20, momentum=0.5)  # fmt: skip
        found = ff.train(single, X32, loss, targets=y if loss != "squared" else y.astype("f4"), learning_rate=0.003,
                         steps=20, momentum=0.5)  # fmt: skip
        assert found.network.dtype == np.float32
        np.testing.assert_allclose(found.losses, exact.losses, rtol=2e-6)


@pytest.mark.parametrize("likelihood", ff.likelihoods.available())
def test_loss_value_has_the_loss_gradient(likelihood):
    arch = ff.MLP((4, 6, 5, 2), "tanh", weight_var=1.0, bias_var=0.1)
    net, X = arch.sample(seed=1), np.random.default_rng(1).standard_normal((9, 4))
    law = ff.likelihoods.get(likelihood)
    y = law.sample(net(X), np.random.default_rng(2))
    theta, direction = net.parameters(), np.random.default_rng(3).standard_normal(net.num_parameters)
    ahead, behind = (
        ff.loss_value(net.with_parameters(theta + h * direction), X, likelihood, targets=y) for h in (1e-5, -1e-5)
    )
    slope = ff.loss_gradient(net, X, likelihood, targets=y) @ direction
    assert (ahead - behind) / 2e-5 == pytest.approx(slope, rel=1e-7, abs=1e-8)
    if likelihood != "gaussian":
        assert ff.loss_value(net, X, likelihood, targets=y) == pytest.approx(-law.log_density(net(X), y).mean())


def test_loss_value_by_hand():
    net, X, y = sample(ARCHITECTURES["wide"], 20, "squared")
    assert ff.loss_value(net, X, targets=y) == pytest.approx(((net(X) - y) ** 2).sum() / 40, rel=1e-13)
    noisy = ff.likelihoods.Gaussian(noise_var=4.0)
    assert ff.loss_value(net, X, noisy, targets=y) == pytest.approx(((net(X) - y) ** 2).sum() / 160, rel=1e-13)
    with pytest.raises(ValueError, match="loss: expected one of 'squared', 'cross_entropy'"):
        ff.loss_value(net, X, "huber", targets=y)


# --- what a callback sees -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_factors_of_a_step_are_the_gradients_before_it(loss):
    net, X, y = sample(ARCHITECTURES["residual"], 18, loss)
    seen = []
    ff.train(
        net, X, loss, targets=y, learning_rate=0.01, steps=3,
        callback=lambda step: seen.append((step, step.factors.summed_gradients(1 / 18)[0])),
    )  # fmt: skip
    assert [step.index for step, _ in seen] == [0, 1, 2]
    assert {step.batch_size for step, _ in seen} == {18}
    assert {step.learning_rate for step, _ in seen} == {0.01}
    now = net
    for step, gradient in seen:
        wanted = ff.loss_gradient(now, X, loss, targets=y)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-11, atol=1e-13)
        assert step.loss > 0
        now = now.with_parameters(now.parameters() - 0.01 * wanted)


def test_runs_with_and_without_a_callback_are_the_same():
    net, X, y = sample(ARCHITECTURES["wide"], 64, "cross_entropy")
    options = {"targets": y, "learning_rate": 0.05, "steps": 25, "batch_size": 16, "momentum": 0.9}
    plain = ff.train(net, X, "cross_entropy", **options)
    watched = ff.train(net, X, "cross_entropy", callback=lambda step: None, **options)
    np.testing.assert_array_equal(plain.network.parameters(), watched.network.parameters())
    np.testing.assert_array_equal(plain.losses, watched.losses)


def test_progress():
    net, X, y = sample(ARCHITECTURES["wide"], 64, "squared")
    seen = []
    ff.train(net, X, targets=y, learning_rate=1e-3, steps=7, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 7)
    assert seen == sorted(set(seen))


# --- divergence -----------------------------------------------------------------------------------------


def test_batches_that_no_step_saw_come_next():
    net, X, y = sample(ARCHITECTURES["two hidden layers"], 30, "squared")
    options = {"targets": y, "batch_size": 7, "seed": 1}
    whole, single = Descent(net, X, **options), Descent(net, X, **options)
    limit = 1.5 * whole.loss()
    stopped = whole.run([0.5] * 10, limit=limit)
    for expected in stopped:
        assert single.run([0.5], limit=limit) == [expected]
    assert whole.stopped
    assert single.stopped
    assert len(stopped) < 10
    np.testing.assert_array_equal(whole.run([1e-3] * 3), single.run([1e-3] * 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gap", [1.0, 10.0, 20.0, 40.0, 200.0])
def test_cross_entropy_of_a_learnt_sample_does_not_cancel(gap, dtype):
    net = ff.Network([np.array([[0.0], [-gap], [-gap - 1]], dtype)], None)
    X, y = np.ones((1, 1), dtype), np.array([0])
    seen = []
    run = ff.train(
        net, X, "cross_entropy", targets=y, learning_rate=1e-30, steps=1,
        callback=lambda step: seen.append(step.factors.layers[0].B[0, 0].copy()),
    )  # fmt: skip
    others = np.exp(-gap) + np.exp(-gap - 1)
    expected = np.array([-others, np.exp(-gap), np.exp(-gap - 1)]) / (1 + others)
    tolerance = 1e-14 if dtype == "float64" else 2e-7
    if expected[1] > np.finfo(dtype).tiny:
        np.testing.assert_allclose(seen[0], expected, rtol=tolerance)
    assert run.losses[0] == pytest.approx(np.log1p(others), rel=1e-13)


def test_indices_of_a_run_are_drawn_a_few_at_a_time():
    net = ff.MLP((1, 1)).sample(0)
    descent = Descent(net, np.ones((20000, 1)), targets=np.ones((20000, 1)), batch_size=10000)
    assert descent.steps_per_call * 10000 <= 2**22
    assert len(descent.run([1e-3] * (2 * descent.steps_per_call + 1))) == 2 * descent.steps_per_call + 1
    tiny = Descent(net, np.ones((1, 1)), targets=np.ones((1, 1)))
    assert tiny.steps_per_call <= 100_000  # an interrupt is heard soon


def test_numbers_that_float32_cannot_hold_are_refused():
    net, X, y = sample(ff.MLP((3, 5, 2), "tanh"), 6, "squared", dtype="float32")
    for rate in (1e-60, 1e60):
        with pytest.raises(ValueError, match="learning_rate: expected numbers > 0 that float32 can hold"):
            ff.train(net, X, targets=y, learning_rate=rate)
    with pytest.raises(ValueError, match="momentum: expected a number < 1 in float32 too"):
        ff.train(net, X, targets=y, learning_rate=0.1, momentum=1 - 1e-12)


def test_divergence_is_told():
    net, X, y = sample(ARCHITECTURES["two hidden layers"], 30, "squared")
    critical = 2 / ff.Fisher(net, X).statistics().maximum
    run = ff.train(net, X, targets=y, learning_rate=20 * critical, steps=200)
    assert run.diverged
    assert not run.converged
    limit = 1e6 * max(run.losses[0], (y**2).sum() / 60)
    assert run.losses[-1] > limit
    assert (run.losses[:-1] <= limit).all()
    assert ff.train(net, X, targets=y, learning_rate=critical / 2, steps=200).converged


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_overflow_is_divergence(dtype):
    net, X, y = sample(ff.MLP((5, 20, 20, 2), "relu", weight_var=2.0), 10, "squared", dtype=dtype)
    run = ff.train(net, X, targets=y, learning_rate=1e30, steps=10, divergence=1e300)
    assert run.diverged
    assert run.final_loss == np.inf
    assert not run.losses[-1] <= np.finfo(np.float64).max
    assert run.network is None or np.isfinite(run.network.parameters()).all()


def test_a_loss_that_starts_at_zero_may_grow():
    """Divergence is measured by the loss of zero outputs then, not by rounding."""
    net, X, _ = sample(ARCHITECTURES["two hidden layers"], 30, "squared")
    y = net(X) + 1e-9
    critical = 2 / ff.Fisher(net, X).statistics().maximum
    descent = Descent(net, X, targets=y)
    assert descent.loss_at_zero == pytest.approx((y**2).sum() / 60)
    assert Descent(net, X, "cross_entropy", targets=np.zeros(30, int)).loss_at_zero == pytest.approx(np.log(3))
    run = ff.train(net, X, targets=y, learning_rate=1.05 * critical, steps=150)
    assert run.final_loss > 1e6 * run.losses[0]
    assert not run.diverged


def test_names_of_likelihoods_are_names_of_losses():
    net, X, y = sample(ARCHITECTURES["two hidden layers"], 30, "squared")
    runs = [ff.train(net, X, loss, targets=y, learning_rate=0.01, steps=3) for loss in ("squared", "gaussian")]
    np.testing.assert_array_equal(runs[0].losses, runs[1].losses)


def test_a_loss_of_zero_stays():
    net = ARCHITECTURES["two hidden layers"].sample(seed=0)
    X = np.random.default_rng(0).standard_normal((8, 7))
    run = ff.train(net, X, targets=net(X), learning_rate=0.1, steps=3)
    assert not run.diverged
    assert run.final_loss < 1e-25


# --- threads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_no_bit_depends_on_threads(loss, dtype):
    net, X, y = sample(ff.MLP((211, 307, 190, 13), "tanh", weight_var=2.0, bias_var=0.1), 101, loss, dtype=dtype)
    found = []
    for threads in (1, 2, 3, 7):
        with ThreadPoolExecutor(threads) as pool:
            run = ff.train(
                net, X, loss, targets=y, learning_rate=0.003, steps=12, momentum=0.9, batch_size=77, executor=pool
            )
        found.append((run.losses, run.network.parameters()))
    for losses, theta in found[1:]:
        np.testing.assert_array_equal(losses, found[0][0])
        np.testing.assert_array_equal(theta, found[0][1])


def test_helpers_that_never_come_stop_nothing():
    net, X, y = sample(ARCHITECTURES["wide"], 64, "squared")
    alone = ff.train(net, X, targets=y, learning_rate=1e-3, steps=5)
    gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(gate.wait, 60) for _ in range(2)]
        run = ff.train(net, X, targets=y, learning_rate=1e-3, steps=5, executor=pool)
        gate.set()
    assert all(task.result() for task in busy)
    np.testing.assert_array_equal(run.losses, alone.losses)


def test_a_failed_submission_leaves_no_helper_behind():
    class Failing(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *arguments, **options):
            self.submitted += 1
            if self.submitted == 2:
                raise RuntimeError("cannot start a new thread")
            return super().submit(*arguments, **options)

    net, X, y = sample(ARCHITECTURES["wide"], 64, "squared")
    with (
        Failing(3) as pool,
        pytest.raises(RuntimeError, match="cannot start a new thread"),
    ):  # leaving waits for helpers
        ff.train(net, X, targets=y, learning_rate=1e-3, steps=3, executor=pool)
    with Failing(3) as pool, pytest.raises(RuntimeError, match="cannot start a new thread"):
        ff.Network([np.eye(800)] * 3)(np.ones((800, 800)), executor=pool)


def test_an_interrupt_ends_the_run():
    net, X, y = sample(ARCHITECTURES["wide"], 64, "squared")

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ff.train(net, X, targets=y, learning_rate=1e-3, steps=10**6, progress=interrupt)
    assert ff.train(net, X, targets=y, learning_rate=1e-3, steps=2).losses.shape == (2,)


# --- bad input ------------------------------------------------------------------------------------------

NET, INPUTS, TARGETS = sample(ff.MLP((3, 5, 2), "tanh"), 6, "squared")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"learning_rate": 0.0}, ValueError, "learning_rate: expected a number > 0, got 0.0"),
        ({"learning_rate": [0.1, 0.2]}, ValueError, "expected one number, or one for each of 100 steps, got 2"),
        (
            {"learning_rate": [0.1, -0.2], "steps": 2},
            ValueError,
            r"learning_rate\[1\]: expected a number > 0, got -0.2",
        ),
        ({"steps": 0}, ValueError, "steps: expected an integer >= 1, got 0"),
        ({"momentum": 1.0}, ValueError, "momentum: expected 0 <= momentum < 1, got 1"),
        ({"batch_size": 7}, ValueError, "batch_size: expected at most 6, the number of samples, got 7"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer >= 1, got 0"),
        ({"divergence": 1.0}, ValueError, "divergence: expected a number > 1, got 1"),
        (
            {"loss": "huber"},
            ValueError,
            "loss: expected one of 'squared', 'cross_entropy', .* got 'huber'",
        ),
        ({"targets": None}, ValueError, "targets: expected the observed targets, got None"),
        ({"targets": TARGETS[:5]}, ValueError, r"targets: expected shape \(6, 2\), got \(5, 2\)"),
        ({"targets": TARGETS.astype("f4")}, TypeError, "targets: expected float64 like the outputs, got float32"),
        ({"targets": np.arange(6), "loss": "cross_entropy"}, ValueError, "targets: expected"),
        ({"callback": 3}, TypeError, "callback: expected a callable of a Step or None, got 3"),
        ({"executor": 3}, TypeError, "executor: expected"),
        ({"progress": "yes"}, TypeError, "progress: expected"),
        ({"X": INPUTS[:, :2]}, ValueError, r"X: expected shape \(any, 3\), got \(6, 2\)"),
        ({"X": INPUTS * np.nan}, ValueError, "X: expected finite numbers"),
        ({"net": 3}, TypeError, "net: expected a Network, got int"),
        ({"net": ff.MLP((3, 5, 2))}, TypeError, r"net: expected a Network, got MLP; draw one, with .sample\(seed=0\)"),
        ({"targets": np.zeros(6)}, ValueError, r"targets: expected 2 dimensions, got shape \(6,\); class indices"),
    ],
)
def test_bad_input(options, error, message):
    arguments = {"net": NET, "X": INPUTS, "targets": TARGETS, "learning_rate": 0.1, **options}
    net, X = arguments.pop("net"), arguments.pop("X")
    with pytest.raises(error, match=message):
        ff.train(net, X, **arguments)


def test_bad_input_of_runs():
    descent = Descent(NET, INPUTS, targets=TARGETS)
    for rates, error, message in [
        (0.1, TypeError, "learning_rates: expected a sequence of numbers > 0, one for each step, got 0.1"),
        ([], ValueError, "learning_rates: expected one number, or one for each of 1 steps, got 0"),
        ([0.1, 0.0], ValueError, r"learning_rates\[1\]: expected a number > 0, got 0.0"),
    ]:
        with pytest.raises(error, match=message):
            descent.run(rates)
    for limit, message in ((0.0, "limit: expected a number > 0, got 0.0"), (np.nan, "limit: expected a finite number")):
        with pytest.raises(ValueError, match=message):
            descent.run([0.1], limit=limit)


def test_custom_activations_are_refused():
    net = ff.Network([np.ones((2, 3)), np.ones((1, 2))], activation=lambda u: u**3)
    with pytest.raises(ValueError, match=r"net: expected built-in activations, got .*loss_gradient"):
        ff.train(net, np.ones((4, 3)), targets=np.ones((4, 1)), learning_rate=0.1)


def test_a_loss_that_overflows_at_the_start_is_refused():
    net = ff.Network([np.full((1, 1), 1e200)], activation="tanh")
    with pytest.raises(ValueError, match="loss: expected a finite one to begin with"):
        ff.train(net, np.ones((1, 1)), targets=np.zeros((1, 1)), learning_rate=0.1)
