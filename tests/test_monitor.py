"""The training monitor against singular values of explicit per-sample gradients, and its pictures."""

import json
import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace

import matplotlib as mpl
import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fisherfield as ff
from fisherfield import factors, likelihoods
from fisherfield.learning.monitor import TrainingMonitor
from fisherfield.plot.monitor import monitor_path, save_monitor
from repository import needed
from test_kinds import LAWS, draw_targets, laws_for, likelihood_of, moderate, scores
from tolerances import assert_close

from cases import cases, make_case

mpl.use("Agg")
from matplotlib import pyplot as plt

RATE = 0.3


def authors(gradients, rate=RATE):
    """Condition number and energy from the gradients (B, P) as the authors' code takes them: by singular values."""
    sigma = np.linalg.svd(gradients, compute_uv=False)
    sigma = np.concatenate([sigma, np.zeros(len(gradients) - len(sigma))])
    above = sigma[sigma > 1e-9 * sigma.max()]
    return sigma.max() / above.min(), rate / len(gradients) * np.sqrt((sigma**2).sum()), sigma


def fisher_eigenvalues(gradients):
    """The eigenvalues of F, (P, P), written out."""
    return np.linalg.eigvalsh(gradients.T @ gradients / len(gradients))[::-1]


def layers_of(widths=(5, 7, 6, 3), samples=8, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((samples, m)).astype(dtype), rng.standard_normal((samples, n)).astype(dtype), True)
        for m, n in pairwise(widths)
    ]


def explicit(layers):
    """Gradients (b, P) of layers (A, B, bias): outer products, one sample at a time."""
    rows = []
    for t in range(len(layers[0][0])):
        parts = []
        for A, B, bias in layers:
            parts += [np.outer(B[t], A[t]).ravel()] + ([B[t]] if bias else [])
        rows.append(np.concatenate(parts))
    return np.array(rows)


def empirical(net, X, y, law="categorical"):
    return ff.Fisher(net, X, likelihood=law, kind="empirical", targets=y).factors


# --- one mini-batch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("biases", [True, False])
def test_definitions_of_the_authors(law, biases):
    """Gradients of the twin, one sample and output at a time; P < B for the small network."""
    for widths, samples in (((3, 6, 5, 2), 9), ((1, 2, 2), 12)):
        case = make_case(widths, ("tanh",) * (len(widths) - 2), samples, biases=biases, seed=3)
        outputs = case.net(case.X)
        targets = draw_targets(law, outputs)
        gradients = np.einsum("tcp,tc->tp", case.twin.jacobian(case.X), scores(law, outputs, targets))
        condition, energy, sigma = authors(gradients)
        monitor = TrainingMonitor(keep_eigenvalues=True)
        record = monitor.update(
            empirical(case.net, case.X, targets, likelihood_of(law, outputs.shape[1])), learning_rate=RATE
        )
        assert_close(record.condition, condition, tolerance=1e-8)
        assert_close(record.energy, energy)
        assert_close(record.singular_values, sigma, tolerance=1e-12)
        values = fisher_eigenvalues(gradients)
        count = min(len(values), samples)
        assert_close(record.fisher_eigenvalues[:count], values[:count])
        assert_close(record.fisher_trace, values.sum())
        assert_close(record.gradient_norm, np.linalg.norm(gradients.mean(axis=0)), tolerance=1e-11)
        assert record.rank == (sigma > 1e-9 * sigma.max()).sum() < samples + 1
        assert (record.fisher_eigenvalues[record.rank :] == 0).all()


@given(cases(max_samples=7), st.data())
def test_any_network_and_law(case, data):
    assume(case.smooth_here and moderate(case.net(case.X)))
    law = data.draw(st.sampled_from(laws_for(case.net.num_outputs)))
    likelihood = likelihood_of(law, case.net.num_outputs)
    targets = draw_targets(law, case.net(case.X))
    found = empirical(case.net, case.X, targets, likelihood)
    gradients = found.jacobian()[:, 0]
    lengths = np.linalg.norm(gradients, axis=1)
    assume(lengths.max() > 0)
    record = TrainingMonitor(keep_eigenvalues=True).update(found, learning_rate=RATE)
    _, energy, sigma = authors(gradients)
    assert_close(record.fisher_eigenvalues, sigma**2 / len(gradients))
    assert_close(record.energy, energy)
    directions = gradients[lengths > 0] / lengths[lengths > 0, None]
    sines = np.linalg.svd(directions, compute_uv=False)
    assume(not ((sines > 1e-9) & (sines < 1e-6)).any())
    assert record.rank == (sines > 1e-7).sum()


@given(
    st.integers(1, 7), st.integers(1, 12), st.floats(0, 9), st.floats(-9, 9), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_lengths_of_different_orders_of_magnitude(samples, parameters, decades, size, dependent, seed):
    """Eigenvalues in 60 digits: the small ones are right relative to themselves, dependent gradients or not."""
    rng = np.random.default_rng(seed)
    gradients = rng.standard_normal((samples, parameters)) * 10 ** rng.uniform(-decades, 0, (samples, 1)) * 10**size
    if dependent and samples > 2:
        gradients[1], gradients[2] = -2 * gradients[0], 0
    with mpmath.workdps(60):
        rows = mpmath.matrix(gradients.tolist())
        values = sorted((float(x) for x in mpmath.eigsy(rows * rows.T, eigvals_only=True)), reverse=True)
    expected = np.array([x for x in values if x > 1e-40 * values[0]])
    directions = gradients[gradients.any(axis=1)]
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    sines = np.linalg.svd(directions, compute_uv=False)
    assume(sines[min(len(expected), len(sines)) - 1] > 1e-3)
    record = TrainingMonitor(keep_eigenvalues=True).update_gradients(gradients, learning_rate=RATE)
    assert record.rank == len(expected)
    np.testing.assert_allclose(record.fisher_eigenvalues[: record.rank] * samples, expected, rtol=1e-8)
    assert record.condition == pytest.approx(np.sqrt(expected[0] / expected[-1]), rel=1e-8)


def test_units():
    layers = layers_of()
    record = TrainingMonitor(keep_eigenvalues=True).update(layers, learning_rate=RATE, loss=1.5)
    b, values = 8, record.fisher_eigenvalues
    assert record.fisher_condition == pytest.approx(record.condition**2, rel=1e-14)
    assert (record.fisher_maximum, record.fisher_minimum) == (values[0], values[-1])
    assert record.fisher_trace == pytest.approx(values.sum(), rel=1e-14)
    assert record.fisher_trace == pytest.approx((explicit(layers) ** 2).sum() / b, rel=1e-14)
    assert record.energy == pytest.approx(RATE / np.sqrt(b) * np.sqrt(record.fisher_trace), rel=1e-14)
    np.testing.assert_allclose(record.singular_values**2 / b, values, rtol=1e-14)
    assert (record.index, record.batch_size, record.num_samples, record.loss, record.rank) == (0, b, b, 1.5, b)


def test_fisher_of_the_package_has_the_same_eigenvalues():
    case = make_case((4, 6, 3), ("tanh",), 10)
    y = np.arange(10) % 3
    fim = ff.Fisher(case.net, case.X, likelihood="categorical", kind="empirical", targets=y)
    record = TrainingMonitor(keep_eigenvalues=True).update(fim.factors, learning_rate=RATE)
    assert_close(record.fisher_eigenvalues, fim.eigenvalues())
    assert record.fisher_trace == pytest.approx(fim.trace(), rel=1e-13)
    gradient = ff.loss_gradient(case.net, case.X, "cross_entropy", targets=y)
    assert record.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-12)


def fields_of(record):
    """The numbers of a record."""
    return {name: value for name, value in record.as_dict().items() if isinstance(value, (int, float))}


def test_every_form_of_the_factors():
    layers = layers_of()
    plain = fields_of(TrainingMonitor().update(layers, learning_rate=RATE))
    house = [factors.LayerFactors(A, B[None], bias) for A, B, bias in layers]
    forms = [
        factors.FactoredJacobian(tuple(house)),
        house,
        [(A, B) for A, B, _ in layers],  # with biases unless told otherwise
        tuple([A, B[None], np.True_] for A, B, _ in layers),
        [(np.asfortranarray(A), B[:, ::-1][:, ::-1], True) for A, B, _ in layers],
        [(A.tolist(), B.tolist(), True) for A, B, _ in layers],
    ]
    for form in forms:
        assert fields_of(TrainingMonitor().update(form, learning_rate=RATE)) == plain
    without = TrainingMonitor().update([(A, B, False) for A, B, _ in layers], learning_rate=RATE)
    expected = explicit([(A, B, False) for A, B, _ in layers])
    assert without.condition == pytest.approx(authors(expected)[0], rel=1e-12)
    assert without.energy == pytest.approx(authors(expected)[1], rel=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_explicit_gradients(dtype, monkeypatch):
    layers = layers_of(dtype=dtype)
    G = explicit(layers)
    assert G.dtype == dtype
    expected = TrainingMonitor().update(layers, learning_rate=RATE)
    found = [
        TrainingMonitor().update_gradients(G, learning_rate=RATE),
        TrainingMonitor().update([(np.ones((8, 1), dtype), G, False)], learning_rate=RATE),
        TrainingMonitor().update(
            [*layers[:1], (np.ones((8, 1), dtype), explicit(layers[1:]), False)], learning_rate=RATE
        ),
    ]
    monkeypatch.setattr("fisherfield.learning.monitor.BATCH_BYTES", 64 * 8)  # seven columns at a time
    found.append(TrainingMonitor().update_gradients(G, learning_rate=RATE))
    for record in found:
        for name in ("condition", "energy", "fisher_trace", "gradient_norm"):
            tolerance = 1e-12 if dtype == "float64" else 1e-6  # products of float32 are rounded where written out
            assert getattr(record, name) == pytest.approx(getattr(expected, name), rel=tolerance)


def test_gradients_of_the_mean_loss():
    layers = layers_of()
    expected = fields_of(TrainingMonitor().update(layers, learning_rate=RATE))
    mean = [(A, B / 8, bias) for A, B, bias in layers]
    found = fields_of(TrainingMonitor().update(mean, learning_rate=RATE, mean_gradients=True))
    explicitly = TrainingMonitor().update_gradients(explicit(mean), learning_rate=RATE, mean_gradients=True)
    for record in (found, fields_of(explicitly)):
        assert record == pytest.approx(expected, rel=1e-12)
    kept = TrainingMonitor(keep_eigenvalues=True).update(mean, learning_rate=RATE, mean_gradients=True)
    sigma = np.linalg.svd(explicit(layers), compute_uv=False)
    assert_close(kept.singular_values, sigma)


def test_a_part_of_the_mini_batch():
    """Energy as the trace of the part estimates it; the factor of mean gradients is that of the whole."""
    layers = layers_of(samples=6)
    record = TrainingMonitor().update(layers, learning_rate=RATE, batch_size=24)
    trace = (explicit(layers) ** 2).sum() / 6
    assert (record.batch_size, record.num_samples) == (24, 6)
    assert record.fisher_trace == pytest.approx(trace, rel=1e-14)
    assert record.energy == pytest.approx(RATE * np.sqrt(trace / 24), rel=1e-14)
    mean = [(A, B / 24, bias) for A, B, bias in layers]
    found = TrainingMonitor().update(mean, learning_rate=RATE, batch_size=24, mean_gradients=True)
    assert fields_of(found) == pytest.approx(fields_of(record), rel=1e-12)


def test_one_sample():
    A, B, bias = layers_of(samples=1)[0]
    record = TrainingMonitor(keep_eigenvalues=True).update([(A, B, bias)], learning_rate=RATE)
    squared = (B**2).sum() * ((A**2).sum() + 1)
    assert (record.condition, record.fisher_condition, record.rank) == (1, 1, 1)
    np.testing.assert_allclose(record.fisher_eigenvalues, [squared])
    assert record.energy == pytest.approx(RATE * np.sqrt(squared))
    assert record.gradient_norm == pytest.approx(np.sqrt(squared))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("samples", [2, 4, 64])
def test_parallel_gradients_have_rank_one(samples, dtype):
    """Eigenvalues that are above zero by rounding alone do not count, neither of sums nor of the factors."""
    rng = np.random.default_rng(0)
    a, b, lengths = rng.standard_normal(300), rng.standard_normal(200), 10 ** rng.uniform(-4, 0, (2, samples))
    layers = [(np.outer(lengths[0], a).astype(dtype), np.outer(lengths[1], b).astype(dtype), False)]
    record = TrainingMonitor(keep_eigenvalues=True).update(layers, learning_rate=RATE)
    assert (record.rank, record.condition) == (1, 1)
    assert record.fisher_minimum == record.fisher_maximum == pytest.approx(record.fisher_trace, rel=1e-10)


def test_float32():
    case = make_case((30, 40, 40, 5), ("tanh", "relu"), 32)
    y = np.arange(32) % 5
    single = ff.Network(
        [W.astype(np.float32) for W in case.net.weights],
        [b.astype(np.float32) for b in case.net.biases],
        activation=["tanh", "relu"],
    )
    found = empirical(single, case.X.astype(np.float32), y)
    record = TrainingMonitor(keep_eigenvalues=True).update(found, learning_rate=RATE)
    expected = TrainingMonitor(keep_eigenvalues=True).update(empirical(case.net, case.X, y), learning_rate=RATE)
    assert record.rank == expected.rank == 32
    np.testing.assert_allclose(record.fisher_eigenvalues, expected.fisher_eigenvalues, rtol=1e-5)
    for name in ("condition", "energy", "fisher_trace", "gradient_norm"):
        assert getattr(record, name) == pytest.approx(getattr(expected, name), rel=1e-5)
    exact = authors(found.astype(np.float64).jacobian()[:, 0])  # of the very same factors
    assert record.condition == pytest.approx(exact[0], rel=1e-11)


def test_copies_in_float64_are_those_of_the_last_mini_batch():
    monitor = TrainingMonitor()
    for samples, seed in ((8, 0), (5, 1), (11, 2)):
        layers = layers_of(samples=samples, seed=seed, dtype="float32")
        record = monitor.update(layers, learning_rate=RATE)
        fresh = TrainingMonitor().update(layers, learning_rate=RATE)
        assert (record.condition, record.energy) == (fresh.condition, fresh.energy)


def test_threads_change_no_bit():
    layers = layers_of((300, 200, 100), samples=100)
    records = []
    for workers in (1, 3):
        with ThreadPoolExecutor(workers) as pool:
            records.append(fields_of(TrainingMonitor(executor=pool).update(layers, learning_rate=RATE)))
    assert records[0] == records[1]


def test_memory_is_not_that_of_gradients():
    """16 gradients of 4 million parameters take 512 MB."""
    layers = layers_of((2000, 2000), samples=16)
    tracemalloc.start()
    TrainingMonitor().update(layers, learning_rate=RATE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


# --- several mini-batches -----------------------------------------------------------------------------------


def run_of(monitor, num=7, rates=None):
    rates = np.linspace(0.1, 0.4, num) if rates is None else rates
    sizes = [4, 9, 6, 1, 12, 5, 8]
    batches = [layers_of(samples=sizes[k % 7], seed=k) for k in range(num)]
    for layers, rate in zip(batches, rates, strict=True):
        monitor.update(layers, learning_rate=rate, loss=float(rate) ** 2)
    return [authors(explicit(layers), rate) for layers, rate in zip(batches, rates, strict=True)]


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("rho", [0.9, 0.0, 0.5])
def test_averages_and_sums(every, rho):
    monitor = TrainingMonitor(every=every, rho=rho)
    found = run_of(monitor)
    c, l = np.array([x[0] for x in found]), np.array([x[1] for x in found])
    smoothed = [c[0]]
    for value in c[1:]:
        smoothed.append(rho * smoothed[-1] + (1 - rho) * value)
    history = monitor.history()
    np.testing.assert_allclose(history["condition"], c, rtol=1e-11)
    np.testing.assert_allclose(history["energy"], l, rtol=1e-12)
    np.testing.assert_allclose(history["mean_condition"], np.cumsum(c) / np.arange(1, 8), rtol=1e-11)
    np.testing.assert_allclose(history["smoothed_condition"], smoothed, rtol=1e-11)
    np.testing.assert_allclose(history["total_energy"], np.cumsum(l) / (1 / every), rtol=1e-12)
    np.testing.assert_array_equal(history["index"], every * np.arange(7))
    np.testing.assert_array_equal(history["batch_size"], [4, 9, 6, 1, 12, 5, 8])
    np.testing.assert_allclose(history["loss"], np.linspace(0.1, 0.4, 7) ** 2)
    assert history["index"].dtype == history["rank"].dtype == np.int64
    assert "fisher_eigenvalues" not in history
    assert monitor.sampling_ratio == 1 / every


def test_every_second_of_equal_mini_batches_gives_the_same_sums():
    layers, records = layers_of(), {}
    for every in (1, 2, 4):
        monitor = TrainingMonitor(every=every)
        for k in range(8):
            if monitor.wants(k):
                monitor.update(layers, learning_rate=RATE, index=k)
        assert len(monitor.records) == 8 // every
        records[every] = monitor.records[-1]
    for every in (2, 4):
        assert records[every].total_energy == pytest.approx(records[1].total_energy, rel=1e-14)
        assert records[every].mean_condition == pytest.approx(records[1].mean_condition, rel=1e-14)


def test_zero_gradients_have_no_condition_and_do_not_enter_averages():
    monitor = TrainingMonitor(keep_eigenvalues=True)
    A, B, bias = layers_of()[0]
    zero = monitor.update([(A, 0 * B, bias)], learning_rate=RATE)
    names = ("condition", "mean_condition", "smoothed_condition", "fisher_condition", "fisher_minimum")
    assert np.isnan([getattr(zero, name) for name in names]).all()
    assert (zero.energy, zero.total_energy, zero.fisher_trace, zero.fisher_maximum, zero.rank) == (0, 0, 0, 0, 0)
    assert (zero.fisher_eigenvalues == 0).all()
    first = monitor.update([(A, B, bias)], learning_rate=RATE)
    assert first.mean_condition == first.smoothed_condition == first.condition
    again = monitor.update([(A, 0 * B, bias)], learning_rate=RATE)
    assert (again.mean_condition, again.smoothed_condition) == (first.condition, first.condition)
    assert again.total_energy == first.total_energy == first.energy
    second = monitor.update([(A, B**3, bias)], learning_rate=RATE)
    assert second.mean_condition == pytest.approx((first.condition + second.condition) / 2, rel=1e-14)
    B[3] = 0
    assert monitor.update([(A, B, bias)], learning_rate=0).rank == 7
    json.dumps(monitor.as_dict(), allow_nan=False)


def test_json():
    monitor = TrainingMonitor(every=3, keep_eigenvalues=True)
    run_of(monitor)
    plain = json.loads(json.dumps(monitor.as_dict(), allow_nan=False))
    assert (plain["every"], plain["rho"], len(plain["records"])) == (3, 0.9, 7)
    for given_back, record in zip(plain["records"], monitor.records, strict=True):
        assert given_back["condition"] == record.condition
        np.testing.assert_array_equal(given_back["fisher_eigenvalues"], record.fisher_eigenvalues)
    record = TrainingMonitor().update(layers_of(), learning_rate=RATE)
    assert record.fisher_eigenvalues is record.singular_values is record.as_dict()["fisher_eigenvalues"] is None


def test_repr():
    monitor = TrainingMonitor(every=3)
    assert repr(monitor) == "TrainingMonitor(every=3, no records)"
    assert all(len(column) == 0 for column in monitor.history().values())
    run_of(monitor)
    assert re.fullmatch(r"TrainingMonitor\(every=3, records=7, mean_condition=.*, total_energy=.*\)", repr(monitor))


class Step(SimpleNamespace):
    """What a trainer gives its callbacks; factors are counted as they are made."""

    made = 0

    @property
    def factors(self):
        Step.made += 1
        return empirical(self.net, self.X, self.y)


def test_callback_in_a_loop():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 6)), rng.integers(3, size=600)
    net = ff.MLP((6, 10, 3), "tanh").sample(seed=0)
    monitor, by_hand, law = TrainingMonitor(every=3), [], likelihoods.get("categorical")
    Step.made = 0
    for k in range(10):
        part, rate = slice(60 * k, 60 * k + 60), 0.5 / (k + 1)
        step = Step(index=k, loss=1.0 + k, learning_rate=rate, batch_size=60, net=net, X=X[part], y=y[part])
        assert monitor(step) is None
        if k % 3 == 0:
            found = factors.factorize(net, X[part], lambda f, y=y[part]: law.score(f, y)[None]).jacobian()
            by_hand.append(authors(found[:, 0], rate)[:2])
        gradient = ff.loss_gradient(net, X[part], "cross_entropy", targets=y[part])
        net = net.with_parameters(net.parameters() - rate * gradient)
    history = monitor.history()
    assert Step.made == 4
    np.testing.assert_array_equal(history["index"], [0, 3, 6, 9])
    np.testing.assert_array_equal(history["loss"], [1.0, 4.0, 7.0, 10.0])
    np.testing.assert_array_equal(history["batch_size"], [60] * 4)
    np.testing.assert_allclose(history["condition"], [c for c, _ in by_hand], rtol=1e-10)
    np.testing.assert_allclose(history["energy"], [l for _, l in by_hand], rtol=1e-12)


def test_recipe_for_pytorch():
    """The example of the documentation runs, and its factors give what per-sample gradients of PyTorch give."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'peers')")
    from torch.func import functional_call, grad, vmap

    page = needed("docs") / "docs" / "training-monitor.md"
    names = {}
    exec(re.search(r"^```py\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)[1], names)
    model, kept, monitor = names["model"], names["kept"], names["monitor"]
    assert len(monitor.records) == 8
    twin = torch.nn.Sequential(torch.nn.Linear(30, 50), torch.nn.ReLU(), torch.nn.Linear(50, 5))  # without hooks
    twin.load_state_dict(model.state_dict())
    X, y = torch.randn(64, 30), torch.randint(5, (64,))

    def loss(parameters, x, target):
        return torch.nn.functional.cross_entropy(functional_call(twin, parameters, (x[None],)), target[None])

    parameters = {name: p.detach() for name, p in twin.named_parameters()}
    of_each = vmap(grad(loss), (None, 0, 0))(parameters, X, y).values()
    condition, energy, _ = authors(np.concatenate([g.flatten(1).double().numpy() for g in of_each], axis=1))
    torch.nn.functional.cross_entropy(model(X), y).backward()
    layers = [(A.numpy(), u.grad.numpy(), layer.bias is not None) for layer, (A, u) in kept.items()]
    record = monitor.update(layers, learning_rate=RATE, mean_gradients=True)
    assert record.condition == pytest.approx(condition, rel=1e-5)
    assert record.energy == pytest.approx(energy, rel=1e-5)


def test_callback_of_our_trainer():
    """Every step of the compiled trainer, against the gradients of its factors written out."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((90, 6)), rng.integers(3, size=90)
    net = ff.MLP((6, 10, 3), "tanh").sample(seed=0)
    monitor, by_hand = TrainingMonitor(), []

    def both(step):
        monitor(step)
        by_hand.append((*authors(step.factors.jacobian()[:, 0], step.learning_rate)[:2], step.loss))

    rates = [0.3, 0.2, 0.1, 0.2, 0.3, 0.2, 0.1]
    run = ff.train(net, X, "cross_entropy", targets=y, learning_rate=rates, steps=7, batch_size=30, callback=both)
    history = monitor.history()
    columns = np.array([history[name] for name in ("condition", "energy", "loss")]).T
    np.testing.assert_allclose(columns, by_hand, rtol=1e-9)
    np.testing.assert_array_equal(history["learning_rate"], rates)
    np.testing.assert_array_equal(history["loss"], run.losses)
    first = empirical(net, X, y).jacobian()[:, 0]  # of all samples: the scale of the factors is that of each sample
    assert 0.5 < history["fisher_trace"][0] / (first**2).sum(axis=1).mean() < 2


# --- bad input ----------------------------------------------------------------------------------------------

A, B = np.ones((4, 3)), np.ones((4, 2))


@pytest.mark.parametrize(
    ("given_factors", "error", "message"),
    [
        (None, TypeError, "factors: expected a FactoredJacobian or a sequence"),
        ([], ValueError, "factors: expected a FactoredJacobian or a sequence"),
        (factors.FactoredJacobian(()), ValueError, "factors: expected a FactoredJacobian or a sequence"),
        ([None], TypeError, "factors[0]: expected a layer (A, B) or (A, B, bias), got None"),
        ([(A,)], ValueError, "factors[0]: expected a layer (A, B) or (A, B, bias), got 1 entries"),
        ([(A, B, 1)], TypeError, "factors[0].bias: expected True or False, got 1"),
        ([(A, B), (A, B[:3])], ValueError, "factors[1].B: expected 4 samples like factors[0].A, got 3"),
        ([(A, B), (A[:3], B)], ValueError, "factors[1].A: expected 4 samples like factors[0].A, got 3"),
        ([(A[0], B)], ValueError, "factors[0].A: expected 2 dimensions, got shape (3,)"),
        ([(A, B[0])], ValueError, "factors[0].B: expected 2 dimensions, got shape (2,)"),
        ([(A, np.ones((2, 4, 2)))], ValueError, "factors[0].B: expected one gradient a sample"),
        ([(A, np.ones((1, 4, 0)))], ValueError, "factors[0].B: expected at least one entry"),
        ([(A, B.astype("float32"))], TypeError, "factors[0].B: expected float64 like factors[0].A, got float32"),
        ([(A.astype(int), B)], TypeError, "factors[0].A: expected a float32 or float64 array, got dtype int64"),
        ([(A, B * np.nan)], ValueError, "factors[0].B: expected finite numbers, got nan at index (0, 0)"),
        ([(A * 1e200, B)], ValueError, "gradients: expected squares within float64, got inf at sample 0"),
    ],
)
def test_bad_factors(given_factors, error, message):
    monitor = TrainingMonitor()
    with pytest.raises(error, match=re.escape(message)):
        monitor.update(given_factors, learning_rate=RATE)
    assert monitor.records == ()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"learning_rate": -1}, ValueError, "learning_rate: expected a number >= 0, got -1.0"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate: expected a finite number, got nan"),
        ({"learning_rate": "1"}, TypeError, "learning_rate: expected a number, got '1'"),
        ({"loss": np.inf}, ValueError, "loss: expected a finite number, got inf"),
        ({"batch_size": 3}, ValueError, "batch_size: expected at least the 4 samples of the gradients, got 3"),
        ({"batch_size": 4.0}, TypeError, "batch_size: expected an integer, got 4.0"),
        ({"index": 3}, ValueError, "index: expected a multiple of every=2, got 3; ask wants(index) before update()"),
        ({"index": 0}, ValueError, "index: expected an iteration after the last one, 0, got 0"),
        ({"index": -2}, ValueError, "index: expected an integer >= 0, got -2"),
        ({"mean_gradients": 1}, TypeError, "mean_gradients: expected True or False, got 1"),
    ],
)
def test_bad_options_of_an_update(options, error, message):
    monitor = TrainingMonitor(every=2)
    monitor.update([(A, B)], learning_rate=RATE)
    options = {"learning_rate": RATE} | options
    for call in (
        lambda: monitor.update([(A, B)], **options),
        lambda: monitor.update_gradients(np.ones((4, 3)), **options),
    ):
        with pytest.raises(error, match=re.escape(message)):
            call()
    assert len(monitor.records) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every: expected an integer >= 1, got 0"),
        ({"every": 1.5}, TypeError, "every: expected an integer, got 1.5"),
        ({"rho": 1}, ValueError, "rho: expected 0 <= rho < 1, got 1"),
        ({"rho": -0.1}, ValueError, "rho: expected a number >= 0, got -0.1"),
        ({"keep_eigenvalues": 1}, TypeError, "keep_eigenvalues: expected True or False, got 1"),
        ({"executor": 2}, TypeError, "executor: expected a concurrent.futures.ThreadPoolExecutor"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        TrainingMonitor(**options)


def test_bad_gradients():
    with pytest.raises(ValueError, match=r"gradients: expected 2 dimensions, got shape \(3,\)"):
        TrainingMonitor().update_gradients(np.ones(3), learning_rate=RATE)
    with pytest.raises(ValueError, match=r"gradients: expected finite numbers, got inf at index \(1, 0\)"):
        TrainingMonitor().update_gradients(np.array([[1.0], [np.inf]]), learning_rate=RATE)


# --- pictures -----------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_path():
    first, second = TrainingMonitor(), TrainingMonitor(every=2)
    run_of(first)
    run_of(second, rates=np.r_[0, 0, np.full(5, 0.2)])  # no energy before the third
    ax = monitor_path({"one": first, "two": second}, title="a title")
    assert ax.get_xscale() == ax.get_yscale() == "log"
    for place, (monitor, begin) in enumerate(((first, 0), (second, 2))):
        history = monitor.history()
        line, start, end = ax.lines[3 * place : 3 * place + 3]
        for points, part in ((line, slice(begin, 7)), (start, slice(begin, begin + 1)), (end, slice(6, 7))):
            np.testing.assert_array_equal(points.get_xdata(), history["mean_condition"][part])
            np.testing.assert_array_equal(points.get_ydata(), history["total_energy"][part])
        assert start.get_markerfacecolor() == "white"
        assert end.get_label() == ["one", "two"][place]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    assert monitor_path(first).get_legend() is None


def test_path_in_a_file(tmp_path):
    monitor = TrainingMonitor()
    run_of(monitor)
    assert save_monitor(tmp_path / "path.svg", {"a run": monitor}).stat().st_size > 5000


def test_bad_runs():
    empty = TrainingMonitor()
    for runs, error, message in (
        (None, TypeError, "runs: expected a TrainingMonitor or a mapping of labels to them, got NoneType"),
        ({}, ValueError, "got an empty one"),
        ({"a": 1}, TypeError, "got 'a': int"),
        ({1: empty}, TypeError, "got 1: TrainingMonitor"),
        ({"a": empty}, ValueError, "runs: expected records of 'a' with gradients and learning rates that are not zero"),
        (empty, ValueError, "runs: expected records with gradients"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            monitor_path(runs)


def test_numbers_at_the_edge_of_float64():
    G = np.random.default_rng(0).standard_normal((4, 10))
    update = ff.TrainingMonitor().update_gradients
    with pytest.raises(ValueError, match="gradients: expected squares of at least 1e-250"):
        update(G * 1e-160, learning_rate=0.1)
    with pytest.raises(ValueError, match="batch_size: expected at most 2\\*\\*53"):
        update(G, learning_rate=0.1, batch_size=10**400)
    with pytest.raises(ValueError, match="learning_rate: expected one whose energy float64 can hold"):
        update(G * 1e10, learning_rate=1e300)


def test_the_rank_is_at_most_the_number_of_parameters():
    """Rounding makes the third of three vectors in a plane look independent for seed 35 and three others of these."""
    for seed in range(1100):
        rng = np.random.default_rng(seed)
        G = rng.standard_normal((3, 2)) * [1, 10.0 ** -rng.integers(0, 9)]
        assert ff.TrainingMonitor().update_gradients(G, learning_rate=0.1).rank <= 2
