"""The figures of Karakida, Akaho, Amari on small cells: files, resumption, and numbers that anyone would compute."""

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

import fisherfield as ff
from fisherfield import data, figures
from fisherfield.experiments import training_map
from fisherfield.figures import _panels
from fisherfield.learning import train

RATES = [0.02, 0.1, 0.5]

# cells small enough for seconds; the last ones are those the agreements take
SMALL = {
    "statistics-width": [{"activation": "tanh", "width": width, "seed": seed} for width in (10, 20) for seed in (0, 1)],
    "statistics-samples": [{"activation": "relu", "samples": 5, "seed": seed} for seed in (0, 1)],
    "training-map": [{"width": width, "rates": RATES, "seed": 3} for width in (20, 30)],
    "training-map-data": [{"width": width, "rates": RATES, "seed": 3} for width in (20, 30)],
    "spectrum-regression": [{"seed": seed} for seed in (0, 1)],
    "spectrum-softmax": [{"activation": "relu", "width": 60, "seed": seed} for seed in (0, 1)],
    "spectrum-mean-subtraction": [
        {"width": width, "centered": centered, "seed": seed}
        for width in (30, 40)
        for centered in (False, True)
        for seed in (0, 1)
    ],
    "spectrum-ntk": [{"width": 40, "samples": 100, "seed": seed} for seed in (0, 1)],
    "spectrum-features": [{"width": 20, "samples": 30, "seed": seed} for seed in (0, 1)],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Reproduce a figure with its small cells, once: stopped at the second cell, and gone on with."""
    done = {}

    def run(name):
        if name == "training-map-data":
            pytest.importorskip("sklearn")
        if name not in done:
            done[name] = stopped_and_resumed(name, tmp_path_factory.mktemp(name))
        return done[name]

    return run


def stopped_and_resumed(name, folder):
    """The second run, the cells that it computed, and what it wrote for each cell."""
    module = import_module(f"fisherfield.figures.{name.replace('-', '_')}")
    computed = []

    def compute(**cell):
        computed.append(cell)
        if len(computed) == 2:
            raise KeyboardInterrupt
        return module.compute(**cell)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FIGURE", replace(module.FIGURE, cells=lambda quick: SMALL[name], compute=compute))
        with pytest.raises(KeyboardInterrupt):
            figures.reproduce(name, out=folder)
        (found,) = figures.reproduce(name, out=folder)
    content = json.loads(found.numbers.read_text(encoding="utf-8"))
    return found, computed[2:], [(entry["cell"], entry["numbers"]) for entry in content["cells"]]


def reproduced(name, runs):
    """The agreements of a figure by their names, and the numbers of the cells."""
    found, _, cells = runs(name)
    return {entry.quantity: entry for entry in found.agreements}, cells


@pytest.mark.parametrize("name", SMALL)
def test_files_and_resumption(name, runs):
    found, computed, cells = runs(name)
    assert computed == SMALL[name][1:]
    assert (found.computed, found.kept) == (len(SMALL[name]) - 1, 1)
    assert [cell for cell, _ in cells] == SMALL[name]
    for path in (found.numbers, *found.pictures):
        assert path.stat().st_size > 0
    assert found.agreements
    assert all(np.isfinite([entry.theory, entry.measured, entry.allowed]).all() for entry in found.agreements)


@pytest.mark.parametrize("name", SMALL)
def test_cells_in_full_have_what_the_small_ones_have(name):
    (figure,) = figures.find(name)
    for quick in (True, False):
        for cell in figure.cells(quick):
            assert {key: type(value) for key, value in cell.items()} == {
                key: type(value) for key, value in SMALL[name][0].items()
            }
    assert len(figure.cells(True)) < len(figure.cells(False))


# --- statistics ---------------------------------------------------------------------------------------------


def drawn(arch, samples, seed):
    """The network and the inputs that go with a seed."""
    return arch.sample(seed=seed), np.random.default_rng(seed).standard_normal((samples, arch.widths[0]))


def check(found, values, theory, gap):
    """The mean over networks, and what is allowed."""
    assert found.measured == pytest.approx(np.mean(values), rel=1e-10)
    assert found.theory == pytest.approx(theory, rel=1e-10)
    error = np.std(values, ddof=1) / np.sqrt(len(values)) / theory
    assert found.allowed == pytest.approx(gap + 3 * error, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "arch", "samples", "label"),
    [
        ("statistics-width", ff.MLP((20, 20, 20, 1), "tanh", weight_var=3.0, bias_var=0.64), 100, "tanh, M = 20"),
        ("statistics-samples", ff.MLP((500, 500, 500, 1), "relu", weight_var=2.0, bias_var=0.1), 5, "relu, T = 5"),
    ],
)
def test_statistics(name, arch, samples, label, runs):
    found, _ = reproduced(name, runs)
    M, P = arch.widths[0], arch.num_parameters
    spectra = [np.linalg.eigvalsh(ff.Fisher(*drawn(arch, samples, seed)).dual()) for seed in (0, 1)]
    mf = ff.mean_field(arch, samples)
    refined, bulk = mf.refined_statistics, mf.centered().bulk
    spread = bulk.num_eigenvalues * (bulk.second_moment - bulk.mean**2) / P
    check(found[f"mean, {label}"], [v.sum() / P for v in spectra], refined.mean, 2.5 / M)
    check(found[f"second moment, {label}"], [v @ v / P for v in spectra], refined.second_moment + spread, 12 / M)
    check(found[f"maximum, {label}"], [v.max() for v in spectra], refined.maximum, 17.5 / M)
    assert len(found) == 3


# --- training -----------------------------------------------------------------------------------------------


def share(values):
    return sum(values) / len(values)


def test_training_map(runs):
    found, cells = reproduced("training-map", runs)
    above, below = [], []
    for cell, numbers in cells:
        M = cell["width"]
        arch = ff.MLP((M, M, M, M, 10), "tanh", weight_var=3.0, bias_var=0.64)
        net, X = drawn(arch, 100, 3)
        critical = ff.mean_field(arch, 100).critical_learning_rate(0.9)
        for rate, loss in zip(RATES, numbers["map"]["final_loss"][0], strict=True):
            run = train(net, X, targets=arch.sample(seed=4)(X), learning_rate=rate, momentum=0.9, steps=100)
            assert (loss is None) == run.diverged
            if not run.diverged:
                assert loss == pytest.approx(run.final_loss, rel=1e-12)
            exploded = run.diverged or run.final_loss >= run.losses[0]
            (above if rate > critical else below).append(exploded)
    assert found["share of cells above eta_c that diverge"].measured == share(above)
    assert found["share of cells below eta_c that converge"].measured == 1 - share(below)


def test_training_map_data(runs):
    found, cells = reproduced("training-map-data", runs)
    whole = training_map(
        (20, 30),
        RATES,
        inputs=data.standardize(data.digits()[0]),
        targets=data.labels("digits"),
        batch_size=100,
        steps=18,
        seed=3,
    )
    for name in ("widths", "rates", "initial_loss", "final_loss", "theory", "corrected", "measured"):
        np.testing.assert_array_equal(getattr(_panels.joined_map(cells), name), getattr(whole, name), strict=True)
    assert tuple(entry.measured for entry in found.values()) == whole.fractions()


# --- spectra ------------------------------------------------------------------------------------------------


def test_spectrum_regression(runs):
    found, cells = reproduced("spectrum-regression", runs)
    arch = ff.MLP((200, 200, 200, 10), "tanh", weight_var=3.0, bias_var=0.64)
    spectra = [ff.Fisher(*drawn(arch, 100, seed)).eigenvalues() for seed in (0, 1)]
    for (_, numbers), spectrum in zip(cells, spectra, strict=True):
        np.testing.assert_allclose(numbers["eigenvalues"], spectrum, rtol=1e-9, atol=1e-10 * spectrum[0])
    mf = ff.mean_field(arch, 100)
    tops = [spectrum[:10].mean() for spectrum in spectra]
    check(found["top mean, tanh"], tops, mf.refined_statistics.maximum, 17.5 / 200)
    check(found["maximum, tanh"], [spectrum[0] for spectrum in spectra], mf.largest_outlier, 0.06)
    assert found["number of outliers, tanh"].measured == 10
    assert found["number of outliers, tanh"].holds


def test_spectrum_softmax(runs):
    found, _ = reproduced("spectrum-softmax", runs)
    arch = ff.MLP((60, 60, 60, 10), "relu", weight_var=2.0, bias_var=0.1)
    measured, predicted, inside = [], [], []
    for seed in (0, 1):
        net, X = drawn(arch, 100, seed)
        measured.append(ff.Fisher(net, X, likelihood="categorical").eigenvalues()[:10])
        mf = ff.mean_field(arch, 100, likelihood="categorical", outputs=net(X))
        predicted.append(mf.outliers(refined=True))
        inside.append(mf.maximum_bounds[0] < measured[-1][0] < mf.maximum_bounds[1])
    edge = np.mean([values[9] for values in measured])
    for i in range(9):
        entry, theory = found[f"outlier {i + 1}, relu"], np.array([levels[i] for levels in predicted])
        differences = np.array([values[i] for values in measured]) - theory
        assert entry.theory == pytest.approx(theory.mean(), rel=1e-9)
        assert entry.measured == pytest.approx((theory + differences).mean(), rel=1e-9)
        error = np.std(differences, ddof=1) / np.sqrt(2) / theory.mean()
        assert entry.allowed == pytest.approx(1 + (edge / (2 * theory.mean())) ** 2 + 3 * error, rel=1e-8)
    assert found["share of maxima within the bounds, relu"].measured == np.mean(inside)


def test_spectrum_with_and_without_mean_subtraction(runs):
    found, _ = reproduced("spectrum-mean-subtraction", runs)
    arch = ff.MLP((40, 40, 40, 5), "tanh", weight_var=3.0, bias_var=0.64)
    fishers = [ff.Fisher(*drawn(arch, 8, seed)) for seed in (0, 1)]
    mf = ff.mean_field(arch, 8)
    subtracted = mf.centered().refined_statistics
    tops = [fim.eigenvalues()[:5].mean() for fim in fishers]
    check(found["top mean, F"], tops, mf.refined_statistics.maximum, 17.5 / 40)
    maxima = [fim.centered().eigenvalues()[0] for fim in fishers]
    check(found["maximum, F, mean subtracted"], maxima, subtracted.maximum, 0.05)


def test_spectrum_ntk(runs):
    found, _ = reproduced("spectrum-ntk", runs)
    arch = ff.MLP((40, 40, 40, 2), "relu", weight_var=2.0, bias_var=0.0)
    tops = []
    for seed in (0, 1):
        net, X = drawn(arch, 100, seed)
        kernel = ff.ntk(net, X, parametrization="ntk").transpose(2, 0, 3, 1).reshape(200, 200)
        tops.append(np.linalg.eigvalsh(kernel)[-2:].mean())
    order = ff.mean_field(arch, 100).order_parameters
    maximum = order.qtilde @ order.q + 99 * (order.qtilde_st @ order.q_st)
    check(found["top mean, relu, M = 40"], tops, maximum, 17.5 / 40)


def test_spectrum_features(runs):
    found, _ = reproduced("spectrum-features", runs)
    arch = ff.MLP((20, 20, 20, 2), "tanh", weight_var=3.0, bias_var=0.64)
    spectra = [np.linalg.eigvalsh(ff.feature_metric(*drawn(arch, 30, seed)).dense()) for seed in (0, 1)]
    order = ff.mean_field(arch, 30).order_parameters
    kappa_1, kappa_2 = 3 * order.qtilde.sum(), 3 * order.qtilde_st.sum()  # times alpha_t
    check(found["mean, tanh, M = 20"], [v.mean() for v in spectra], 2 * kappa_1 / 60, 2.5 / 20)
    second = 2 * (29 * kappa_2**2 + kappa_1**2) / 30 / 60
    check(found["second moment, tanh, M = 20"], [(v**2).mean() for v in spectra], second, 35 / 20)
    top = (29 * kappa_2 + kappa_1) / 30
    check(found["top mean, tanh, M = 20"], [v[-2:].mean() for v in spectra], top, 17.5 / 20)
