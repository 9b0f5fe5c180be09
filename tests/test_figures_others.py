"""Figures of Hayase and Karakida, Soen and Sun, Liao et al., Amari et al.: tiny runs against independent routes."""

import importlib
import json
import math
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import fisherfield as ff
from fisherfield import figures
from fisherfield.figures import _monitor, isometry_rates, singular_cone, singular_plateau, singular_units
from fisherfield.learning.singular import ConeModel, TwoUnits

NAMES = (
    "isometry-depth",
    "isometry-eps",
    "isometry-two-layers",
    "isometry-rates",
    "estimators-layers",
    "estimators-training",
    "monitor-batches",
    "monitor-rates",
    "singular-cone",
    "singular-errors",
    "singular-units",
    "singular-plateau",
)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Reproduce a figure with a few small cells; its agreements by quantity, and its numbers."""

    def reproduce(name, cells):
        module = importlib.import_module(f"fisherfield.figures.{name.replace('-', '_')}")
        monkeypatch.setattr(module, "FIGURE", replace(module.FIGURE, cells=lambda quick: cells))
        (found,) = figures.reproduce(name, out=tmp_path)
        assert [path.name for path in (found.numbers, *found.pictures)] == [
            f"{name}.{e}" for e in ("json", "png", "svg")
        ]
        assert all(path.stat().st_size > 1000 for path in (found.numbers, *found.pictures))
        assert found.computed == len(cells)
        kept = json.loads(found.numbers.read_text(encoding="utf-8"))
        assert [entry["cell"] for entry in kept["cells"]] == cells
        assert [entry["quantity"] for entry in kept["agreements"]] == [one.quantity for one in found.agreements]
        assert all(math.isfinite(one.allowed) and one.theory != 0 for one in found.agreements)
        return {one.quantity: one for one in found.agreements}, [entry["numbers"] for entry in kept["cells"]]

    return reproduce


def test_catalogue():
    assert set(NAMES) <= set(figures.names())
    for quick in (True, False):
        for figure in figures.find(NAMES):
            cells = figure.cells(quick)
            keys = {json.dumps(cell, sort_keys=True) for cell in cells}
            assert len(keys) == len(cells)


# --- Hayase, Karakida -------------------------------------------------------------------------------------------------


def given_one_input(point, width, seed):
    """A network of the point, and an input as long as its layers."""
    x = np.random.default_rng(seed).standard_normal((1, width))
    return point.architecture(width).sample(seed), x * math.sqrt(width * point.second_moment) / np.linalg.norm(x)


def dense_eigenvalues(net, X):
    J = ff.Fisher(net, X).jacobian()[0]
    return np.linalg.eigvalsh(J @ J.T)[::-1]


@pytest.mark.parametrize(("name", "by"), [("isometry-depth", "L"), ("isometry-eps", "eps")])
def test_isometry_spectra(run, name, by):
    cells = [
        {"activation": "hard_tanh", "depth": depth, "eps": eps, "width": 40, "seed": seed}
        for depth, eps in ((4, 0.25), (6, 0.5))
        for seed in (0, 1)
    ]
    found, numbers = run(name, cells)
    assert len(found) == 2 * 7
    for index, depth, eps in ((0, 4, 0.25), (2, 6, 0.5)):
        point, where = ff.isometry_point("hard_tanh", depth, eps), f"{by} = {depth if by == 'L' else eps}"
        spectra = [dense_eigenvalues(*given_one_input(point, 40, seed)) for seed in (0, 1)]
        np.testing.assert_allclose([entry["eigenvalues"] for entry in numbers[index : index + 2]], spectra, rtol=1e-9)
        shift = 40 * point.second_moment + 1
        top = shift * sum(point.weight_var**l for l in range(depth))
        masses = [np.isclose(values, values[0], rtol=1e-8).mean() for values in spectra]
        expected = {
            "top": (top, [values[0] for values in spectra]),
            "top mass": (1 - (depth - 1) * (1 - point.p), masses),
            "mean": (shift * depth, [values.mean() for values in spectra]),
            "variance": (point.variance * (shift / point.second_moment) ** 2, [values.var() for values in spectra]),
        }
        for quantity, (theory, measured) in expected.items():
            one = found[f"{quantity}, {where}"]
            assert one.theory == pytest.approx(theory, rel=1e-8)
            assert one.measured == pytest.approx(np.mean(measured), rel=1e-9)
            error = np.std(measured, ddof=1) / math.sqrt(2) / theory
            assert one.allowed == pytest.approx(0.25 * depth / 40 + 3 * error, rel=1e-6)
        assert found[f"top of own layers, {where}"].holds
        assert found[f"top mass of own layers, {where}"].holds
        assert abs(found[f"lowest eigenvalues, own layers, {where}"].deviation) < 0.2


def test_two_hidden_layers(run):
    cells = [{"eps": eps, "width": 120, "seed": seed} for eps in (0.5, 1.0) for seed in (0, 1)]
    found, numbers = run("isometry-two-layers", cells)
    for cell, entry in zip(cells, numbers, strict=True):
        point = ff.isometry_point("hard_tanh", 3, cell["eps"])
        net, X = given_one_input(point, 120, cell["seed"])
        values = dense_eigenvalues(net, X)
        own = ff.conditional_fisher(net, X[0])
        law = ff.theory.TwoHiddenLayers(
            *(float(slope.mean()) for slope in own.slopes), shifts=own.squared_norms.tolist(), scale=point.weight_var
        )
        for measured, theory in zip(entry["measured"], entry["theory"], strict=True):
            rank = np.argmin(np.abs(values - measured))
            assert values[rank] == pytest.approx(measured, rel=1e-9)
            assert law.cdf(theory) == pytest.approx(1 - (rank + 0.5) / 120, abs=1e-9)
    for eps in (0.5, 1.0):
        assert all(found[f"{name}, eps = {eps:g}"].holds for name in ("bottom atom", "top atom"))
        assert found[f"S-transforms over closed form, eps = {eps:g}"].holds
        assert abs(found[f"50 % of the band, eps = {eps:g}"].deviation) < 0.03


def test_rates_fall_with_the_depth(run):
    cells = [{"depth": depth, "width": 50, "seed": seed, "train": seed == 0} for depth in (3, 6, 12) for seed in (0, 1)]
    found, numbers = run("isometry-rates", cells)
    for cell, entry in zip(cells, numbers, strict=True):
        point = ff.isometry_point("hard_tanh", cell["depth"], 0.25)
        net, X = given_one_input(point, 50, cell["seed"])
        assert entry["measured"] == pytest.approx(2 / dense_eigenvalues(net, X)[0], rel=1e-9)
        assert entry["theory"] == pytest.approx(2 * point.second_moment / (50 * point.second_moment + 1) / point.top)
        assert isometry_rates.exact(point.depth) == pytest.approx(2 * point.second_moment / point.top, rel=1e-9)
        assert (entry["trained"] is not None) == cell["train"]
    assert all(found[f"trained over measured, L = {depth}"].holds for depth in (3, 6, 12))
    assert found["exponent of L in the rate"].holds
    assert found["exponent of L in the rate"].theory == -1


# --- Soen, Sun --------------------------------------------------------------------------------------------------------


def compare(found, numbers, net, X, likelihood, where, repeats):
    """Agreements against calls of the library."""
    exact = ff.diagonal_variance(net, X, likelihood)
    diagonal = ff.Fisher(net, X, likelihood=likelihood).diagonal()
    for method in ("score", "hessian"):
        draws = [
            ff.estimate_diagonal(net, X, likelihood, method=method, samples=20, seed=seed) for seed in range(repeats)
        ]
        for layer, part in zip(exact.layers(), exact.layer_slices, strict=True):
            expected = getattr(layer, f"{method}_deviation") ** 2
            measured = np.mean([20 * np.mean((draw.values - diagonal)[part] ** 2) for draw in draws])
            name = f"{method}, layer {layer.layer}, {where}"
            if expected == 0:
                assert found[f"estimate of {name}"].holds
                continue
            assert found[f"variance of {name}"].theory == pytest.approx(expected, rel=1e-9)
            assert found[f"variance of {name}"].measured == pytest.approx(measured, rel=1e-9)
        assert found[f"share within bounds, {method}, {where}"].measured == 1
        assert found[f"share within bounds, {method}, {where}"].holds
    assert numbers["diagonal"] == pytest.approx([diagonal[part].mean() for part in exact.layer_slices])


def test_estimators_by_layer(run):
    sizes = {"widths": [5, 6, 7, 3], "samples": 20, "repeats": 4, "seed": 3}
    cells = [{"likelihood": likelihood, **sizes} for likelihood in ("gaussian", "categorical")]
    found, numbers = run("estimators-layers", cells)
    net = ff.MLP((5, 6, 7, 3), "sigmoid", weight_var=9.0, bias_var=0.1).sample(seed=3)
    X = np.random.default_rng(3).standard_normal((20, 5))
    compare(found, numbers[0], net, X, "gaussian", "regression", 4)
    compare(found, numbers[1], net, X, "categorical", "classification", 4)


def test_estimators_during_training(run):
    found, numbers = run("estimators-training", [{"steps": steps, "repeats": 3, "seed": 0} for steps in (0, 20)])
    X = np.random.default_rng(0).standard_normal((300, 20))
    y = ff.MLP((20, 40, 5), "tanh", weight_var=2.0, bias_var=None).sample(seed=1)(X).argmax(axis=1)
    net = ff.MLP((20, 30, 30, 30, 5), "sigmoid", weight_var=9.0, bias_var=0.1).sample(seed=0)
    compare(found, numbers[0], net, X, "categorical", "step 0", 3)
    velocity = 0.0
    for _ in range(20):
        velocity = 0.9 * velocity - 0.05 * ff.loss_gradient(net, X, "cross_entropy", targets=y)
        net = net.with_parameters(net.parameters() + velocity)
    exact = ff.diagonal_variance(net, X, "categorical")
    assert found["variance of score, layer 1, step 20"].theory == pytest.approx(exact.layers()[0].score_deviation ** 2)
    loss = -ff.likelihoods.get("categorical").log_density(net(X), y).mean()
    assert numbers[1]["loss"] == pytest.approx(loss)


# --- Liao et al. ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "values"), [("monitor-batches", "B", (8, 40)), ("monitor-rates", "eta", (0.05, 0.2))]
)
def test_monitors(run, name, key, values):
    cells = [
        {"batch_size": 20, "learning_rate": 0.1, "epochs": 1, "seed": 0}
        | {"B": {"batch_size": v}, "eta": {"learning_rate": v}}[key]
        for v in values
    ]
    found, numbers = run(name, cells)
    assert all(one.holds for one in found.values())
    for cell, entry, value in zip(cells, numbers, values, strict=True):
        B, rate = cell["batch_size"], cell["learning_rate"]
        X = np.random.default_rng(0).standard_normal((3600, 30))
        y = _monitor.TEACHER.sample(seed=1)(X).argmax(axis=1)
        monitor = ff.TrainingMonitor(every=max(1, 1600 // B // 300))
        run_ = ff.train(
            _monitor.STUDENT.sample(seed=0),
            X[:1600],
            "cross_entropy",
            targets=y[:1600],
            learning_rate=rate,
            steps=1600 // B,
            batch_size=B,
            callback=monitor,
        )
        assert entry["total_energy"][-1] == pytest.approx(monitor.records[-1].total_energy)
        assert entry["mean_condition"][-1] == pytest.approx(monitor.records[-1].mean_condition)
        net = run_.network
        fim = ff.Fisher(net, X[:B], likelihood="categorical", kind="empirical", targets=y[:B])
        values_ = B * np.linalg.eigvalsh(fim.dual())
        assert found[f"energy of a batch, {key} = {value}"].theory == pytest.approx(rate / B * math.sqrt(values_.sum()))
        assert found[f"condition of a batch, {key} = {value}"].theory == pytest.approx(
            math.sqrt(values_[-1] / values_[0]), rel=1e-5
        )


def test_gradients_written_out_by_hand():
    net, X, y = _monitor.STUDENT.sample(seed=2), np.random.default_rng(0).standard_normal((6, 30)), np.arange(6) % 5
    rows = _monitor.gradients(net, X, y)
    fim = ff.Fisher(net, X, likelihood="categorical", kind="empirical", targets=y)
    assert rows.shape == (6, net.num_parameters)
    np.testing.assert_allclose(rows @ rows.T, 6 * fim.dual(), rtol=1e-10)


# --- Amari, Park, Ozeki -----------------------------------------------------------------------------------------------


def runge_kutta(rate, y, close, step=1e-4):
    """Fixed steps until ``close(y)`` is negative; the time by interpolation."""
    t, y, gap = 0.0, np.array(y), close(np.array(y))
    while gap > 0:
        k1 = rate(y)
        k2 = rate(y + step / 2 * k1)
        k3 = rate(y + step / 2 * k2)
        k4 = rate(y + step * k3)
        y = y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        t, before, gap = t + step, gap, close(y)
    return t + step * gap / (before - gap)


def test_reference_times_of_the_cone():
    """The formulas of the averaged flows to xi = 1, theta = 0, in fixed steps."""
    share = 1.5**2 / (1 + 1.5**2)

    def close(y):
        along = 1 - share + share * math.cos(y[1])
        return (y[0] ** 2 + 1 - 2 * y[0] * along) / 2 - 1e-4

    def standard(y):
        return np.array([-y[0] + 1 - share + share * math.cos(y[1]), -y[0] * share * math.sin(y[1])])

    def natural(y):
        return np.array([-y[0] + 1 - share + share * math.cos(y[1]), -math.sin(y[1]) / y[0]])

    rates = {"standard": (standard, 1e-2), "natural": (natural, 1e-3)}
    for (start, method), expected in singular_cone.TIMES.items():
        rate, step = rates[method]
        assert runge_kutta(rate, start, close, step) == pytest.approx(expected, rel=5e-5)


def test_cone_flows(run):
    cells = singular_cone.FIGURE.cells(True)
    found, _ = run("singular-cone", cells)
    assert all(one.holds for one in found.values())
    times = {round(one.measured, 6) for name, one in found.items() if name.startswith("time")}
    flows = [ConeModel(1.5, 3).flow(tuple(cell["start"]), (1.0, 0.0), cell["method"]) for cell in cells]
    assert times == {round(flow.time, 6) for flow in flows if flow.reached}
    assert found["end on the wrong nappe, standard, theta = 3.1"].theory == pytest.approx(-0.3846, abs=5e-5)


def test_errors_at_the_apex(run):
    cells = [{"c": c, "d": d, "draws": 2000, "seed": 7} for c in (0.5, 1.5) for d in (1, 3)]
    found, _ = run("singular-errors", cells)
    for cell in cells:
        model, one = ConeModel(cell["c"], cell["d"]), found[f"generalization error, c = {cell['c']:g}, d = {cell['d']}"]
        simulated = model.simulate(2000, seed=7)
        assert one.theory == model.generalization_error()
        assert one.measured == simulated.generalization
        assert one.allowed == pytest.approx(3 * simulated.generalization_deviation / one.theory)
    assert found["closed form, c = 1.5, d = 3"].holds


def test_two_units_near_their_overlap(run):
    gaps = [(0.5, 0.1, method) for method in ("standard", "natural")]
    gaps += [(gap, 0.4 * gap, "standard") for gap in singular_units.NEAR]
    cells = [{"gap": gap, "z": 0.35, "start": start, "method": method} for gap, start, method in gaps]
    found, numbers = run("singular-units", cells)
    assert list(found) == ["dz / d(u^2 / 2) over the law, z = 0.35", "power of eigenvalue -2", "power of eigenvalue -1"]
    assert all(one.holds for one in found.values())
    for entry in numbers[:2]:  # both come to the teacher, the standard gradient slowly
        assert [entry["z"][-1], entry["u"][-1]] == pytest.approx([0.2, 0.5], abs=0.05)
    near, far = (entry["law"]["measured"] / entry["law"]["theory"] - 1 for entry in numbers[2:])
    assert far / near == pytest.approx(2, rel=0.1)  # the error is proportional to u


def test_plateaus(run, monkeypatch):
    monkeypatch.setattr(singular_plateau, "GAPS", (1e-2, 1e-3))
    monkeypatch.setattr(singular_plateau, "MODEL", TwoUnits("tanh", inputs=2, nodes=61))
    found, numbers = run("singular-plateau", singular_plateau.FIGURE.cells(True))
    assert all(one.holds for one in found.values())
    model, teacher = singular_plateau.MODEL, singular_plateau.TEACHER
    flow = model.flow(singular_plateau.STUDENT, teacher, "natural", damping=1e-4)
    assert found["plateau, natural gradient"].measured == pytest.approx(flow.plateau_length, rel=1e-12)
    kept = singular_plateau.kept(numbers[2])
    np.testing.assert_allclose(kept.loss, flow.loss, rtol=1e-12)
    np.testing.assert_allclose(kept.plateau.w, flow.plateau.w, rtol=1e-12)


def test_growth_along_the_overlap():
    """For small u, E = ... + (v / 8) u . A u with A = E[(f - f*) phi'' x x^T], and du / dt = -2 dE / du."""
    one = singular_plateau.MODEL.single_unit(singular_plateau.TEACHER)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    x = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel() / (2 * np.pi)
    (w1, w2), v = singular_plateau.TEACHER[:4].reshape(2, 2), singular_plateau.TEACHER[4:]
    h = np.tanh(x @ one.w)
    error = one.v * h - v[0] * np.tanh(x @ w1) - v[1] * np.tanh(x @ w2)
    A = (x * (mass * error * -2 * h * (1 - h**2))[:, None]).T @ x
    assert singular_plateau.growth() == pytest.approx(-one.v / 2 * np.linalg.eigvalsh(A)[0], rel=1e-6)
