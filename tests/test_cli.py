import json
import os
import re
import subprocess
import sys
import warnings
from itertools import product

import numpy as np
import pytest

import fisherfield as ff
from fisherfield import cli, report
from fisherfield.experiments import compare, compare_conditional

SMALL = ["--widths", "40,50,60,2", "--samples", "15", "--seeds", "3"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def record(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# --- compare ------------------------------------------------------------------------------------------------


def test_compare_is_what_a_user_would_compute():
    arch = ff.MLP((30, 40, 50, 2), "relu", weight_var=2.0, bias_var=0.1)
    found = compare(arch, 12, seeds=(4, 9))
    for seed, statistics, eigenvalues in zip(found.seeds, found.measured, found.eigenvalues, strict=True):
        net = arch.sample(seed)
        fim = ff.Fisher(net, np.random.default_rng(seed).standard_normal((12, 30)))
        np.testing.assert_array_equal(eigenvalues, fim.eigenvalues())
        assert statistics == fim.statistics()
    table = found.comparison(momentum=0.5)
    theory = ff.mean_field(arch, 12)
    assert table["top mean"].theory == theory.statistics.top_mean
    assert table["maximum"].refined == theory.refined_statistics.maximum
    assert table["critical rate"].theory == pytest.approx(theory.critical_learning_rate(0.5), rel=1e-14)
    assert table["critical rate"].measured == tuple(3 / s.maximum for s in found.measured)
    assert table["mean"].spread == pytest.approx(np.std([s.mean for s in found.measured], ddof=1))
    assert table["mean"].relative_error == pytest.approx(
        theory.statistics.mean / np.mean([s.mean for s in found.measured]) - 1
    )


def test_compare_on_data_uses_the_pairwise_theory():
    arch = ff.MLP((30, 40, 50, 1), "tanh", weight_var=3.0, bias_var=0.64)
    X = 1.5 * np.random.default_rng(0).standard_normal((12, 30))
    found = compare(arch, X, seeds=(0,), dtype="float32")
    theory = ff.mean_field(arch, X)
    assert found.dtype == "float32"
    assert found.eigenvalues.dtype == np.float32
    assert found.theory.statistics == theory.statistics
    assert found.comparison()["mean"].spread is None
    np.testing.assert_allclose(found.predicted_eigenvalues(), np.linalg.eigvalsh(theory.dual())[::-1], rtol=1e-10)
    fim = ff.Fisher(arch.sample(seed=0, dtype="float32"), X.astype(np.float32))
    np.testing.assert_array_equal(found.eigenvalues[0], fim.eigenvalues())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seeds": ()}, ValueError, "seeds: expected at least one"),
        ({"seeds": (-1,)}, ValueError, "seeds"),
        ({"seeds": (0.5,)}, TypeError, "seeds"),
        ({"seeds": (1, 3, 1)}, ValueError, "expected different seeds, got 1, 3, 1"),
        ({"inputs": 0}, ValueError, "inputs"),
        ({"inputs": 2.5}, TypeError, "inputs"),
        ({"inputs": np.ones((3, 7))}, ValueError, r"expected shape \(any, 5\)"),
        ({"inputs": np.full((3, 5), np.nan)}, ValueError, "finite"),
        ({"dtype": "int8"}, TypeError, "dtype"),
        ({"progress": 3}, TypeError, "progress"),
    ],
)
def test_compare_refuses(change, error, message):
    arguments = {"inputs": 3, "seeds": (0,), **change}
    with pytest.raises(error, match=message):
        compare(ff.MLP((5, 6, 1)), **arguments)


def test_compare_without_the_eigenvalues(monkeypatch):
    arch = ff.MLP((30, 40, 50, 2), "relu", weight_var=2.0, bias_var=0.1)
    expected = compare(arch, 12, seeds=(4, 9)).comparison()
    monkeypatch.delattr("fisherfield.metric.Metric.eigenvalues")
    found = compare(arch, 12, seeds=(4, 9), eigenvalues=False)
    assert found.eigenvalues is None
    for row in found.comparison().rows:
        np.testing.assert_allclose(row.measured, expected[row.quantity].measured, rtol=1e-12)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 2.0, np.nan])
def test_momentum_is_below_one(momentum):
    found = compare(ff.MLP((5, 6, 1)), 3, seeds=(0,))
    for rate in (found.comparison, found.theory.critical_learning_rate):
        with pytest.raises(ValueError, match="momentum: expected"):
            rate(momentum)


def test_compare_reports_progress():
    calls = []
    compare(ff.MLP((5, 6, 1)), 3, seeds=range(4), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- tables -------------------------------------------------------------------------------------------------


def test_table_is_aligned():
    text = report.table(("name", "x"), [("a", "1.5"), ("long name", "10")])
    assert text == "name         x\n---------  ---\na          1.5\nlong name   10"


def test_plain_is_strict_json():
    value = {
        "a": np.arange(2),
        3: (np.float64(0.5), float("nan"), np.inf),
        "s": report.Row("q", "s", 1.0, None, (2.0,)),
    }
    assert report.plain(value) == {
        "a": [0, 1],
        "3": [0.5, None, None],
        "s": {"quantity": "q", "symbol": "s", "theory": 1.0, "refined": None, "measured": [2.0]},
    }


# --- commands -----------------------------------------------------------------------------------------------


def test_spectrum_prints_the_comparison_and_writes_the_picture(capsys, tmp_path):
    code, out, err = run(capsys, "spectrum", *SMALL, "--momentum", "0.9")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 110
    assert out.isascii()
    table = compare(ff.MLP((40, 50, 60, 2), "tanh", weight_var=3.0, bias_var=0.64), 15, range(3)).comparison(0.9)
    assert table.text() in out
    assert "picture: fisherfield-spectrum.png" in out
    assert (tmp_path / "fisherfield-spectrum.png").read_bytes().startswith(b"\x89PNG")


def test_spectrum_defaults_are_figure_1(monkeypatch, capsys):
    seen = {}

    def fake(architecture, inputs, seeds, **options):
        seen.update(architecture=architecture, inputs=inputs, seeds=seeds, **options)
        raise ValueError("enough")

    monkeypatch.setattr(cli.spectrum, "compare", fake)
    assert run(capsys, "spectrum")[0] == 2
    assert seen["architecture"] == ff.MLP((1000, 1000, 1000, 1), "tanh", weight_var=3.0, bias_var=0.64)
    assert (seen["inputs"], seen["seeds"], seen["dtype"]) == (100, tuple(range(10)), "float64")


def test_spectrum_json_is_complete(capsys):
    found = record(capsys, "spectrum", *SMALL, "--seeds", "5,8", "--no-picture", "--dtype", "float32")
    expected = compare(ff.MLP((40, 50, 60, 2), "tanh", weight_var=3.0, bias_var=0.64), 15, (5, 8), dtype="float32")
    assert found["rows"] == report.plain(expected.comparison().as_dict())
    assert found["seeds"] == [5, 8]
    assert found["network"]["num_parameters"] == expected.architecture.num_parameters
    assert found["picture"] is None
    np.testing.assert_array_equal(np.array(found["eigenvalues"], np.float32), expected.eigenvalues)
    assert {"fisherfield", "command", "inputs", "momentum", "dtype", "measured"} <= set(found)


def test_options_reach_the_architecture(capsys):
    found = record(
        capsys, "theory", "--widths", "9,8,7,3", "--activation", "relu,erf", "--weight-var", "1,2,3",
        "--bias-var", "0.1,0.2,0.3", "--init", "orthogonal", "-T", "20", "--momentum", "0.5",
    )  # fmt: skip
    arch = ff.MLP((9, 8, 7, 3), ["relu", "erf"], weight_var=(1, 2, 3), bias_var=(0.1, 0.2, 0.3), init="orthogonal")
    theory = ff.mean_field(arch, 20)
    assert found["statistics"] == report.plain(theory.statistics)
    assert found["order_parameters"] == report.plain(theory.order_parameters)
    assert found["critical_learning_rate"] == theory.critical_learning_rate(0.5)
    assert found["network"]["init"] == "orthogonal"
    assert record(capsys, "theory", "--widths", "9,8,7,3", "--no-bias")["network"]["bias_vars"] is None


def test_theory_prints_every_prediction(capsys):
    code, out, _ = run(capsys, "theory")
    assert code == 0
    for text in ("0.955522", "0.118615", "253.969", "3.94963", "5.73313", "2.31683"):
        assert text in out
    assert "Theorem 5 as published (no bound)" in out
    assert "C = O(M)" not in out
    assert "C = O(M)" in run(capsys, "theory", "--widths", "50,50,10")[1]
    assert "centred" in run(capsys, "theory", "--no-bias", "--widths", "50,50,10")[1]
    features = run(capsys, "theory", "--no-bias", "--widths", "50,50,10", "--metric", "features")[1]
    assert "centred" not in features  # gradients with respect to features stay correlated


# --- which matrix -------------------------------------------------------------------------------------------


def single(metric, net, X, rng, **options):
    """What a user would compute for one network."""
    if metric == "ntk":
        return ff.TangentKernel(net, X, parametrization="ntk")
    make = ff.Fisher if metric == "parameters" else ff.feature_metric
    found = make(net, X, **options)
    return found.layer(1) if metric == "input" else found


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(
    ("metric", "likelihood"),
    [*product(["parameters", "features", "input"], ["gaussian", "categorical", "poisson"]), ("ntk", "gaussian")],
)
def test_the_matrix_asked_for_is_measured_and_predicted(capsys, metric, likelihood, center, residual):
    arguments = ["--widths", "30,20,20,4", "-T", "8", "--seeds", "5,", "--metric", metric, "--likelihood", likelihood]
    arguments += ["--weight-var", "1"] + center * ["--center"] + residual * ["--residual"]
    found = record(capsys, "spectrum", *arguments, "--no-picture")
    make = ff.ResidualMLP if residual else ff.MLP
    arch = make((30, 20, 20, 4), "tanh", weight_var=1.0, bias_var=0.64)
    rng = np.random.default_rng(5)
    net, X = arch.sample(5), rng.standard_normal((8, 30))
    expected = single(metric, net, X, rng, likelihood=likelihood)
    expected = expected.centered() if center else expected
    assert found["measured"][0]["mean"] == expected.statistics().mean
    assert found["measured"][0]["maximum"] == pytest.approx(expected.statistics().maximum, rel=1e-12)
    assert found["matrix"] == {
        "metric": metric, "likelihood": likelihood, "kind": "exact", "draws": None, "centered": center
    }  # fmt: skip
    theory = ff.mean_field(arch, 8, likelihood=likelihood, outputs=None if likelihood == "gaussian" else net(X))
    predicted = {
        "parameters": theory.parameters, "ntk": lambda: theory.ntk("ntk"), "features": theory.feature_metric,
        "input": lambda: theory.feature_metric().layer(1),
    }[metric]()  # fmt: skip
    predicted = predicted.centered() if center else predicted
    rows = {row["quantity"]: row for row in found["rows"]}
    assert rows["mean"]["theory"] == pytest.approx(predicted.statistics.mean, rel=1e-10)
    assert rows["maximum"]["refined"] == pytest.approx(predicted.refined_statistics.maximum, rel=1e-10)
    assert ("critical rate" in rows) == (metric == "parameters")


@pytest.mark.parametrize(("kind", "draws"), [("monte_carlo", 7), ("empirical", None)])
def test_kinds_are_measured_at_their_targets(capsys, kind, draws):
    arguments = ["--widths", "30,20,20,4", "-T", "8", "--seeds", "5,", "--likelihood", "softmax", "--kind", kind]
    arguments += ["--draws", str(draws)] if draws else []
    found = record(capsys, "spectrum", *arguments, "--no-picture")
    arch, rng = ff.MLP((30, 20, 20, 4), "tanh", weight_var=3.0, bias_var=0.64), np.random.default_rng(5)
    net, X = arch.sample(5), rng.standard_normal((8, 30))
    law = ff.likelihoods.get("softmax")
    options = {"samples": 7, "seed": rng} if draws else {"targets": law.sample(arch.sample(rng)(X), rng)}
    expected = ff.Fisher(net, X, likelihood="softmax", kind=kind, **options).statistics()
    assert found["measured"][0]["mean"] == expected.mean
    assert (found["matrix"]["kind"], found["matrix"]["draws"]) == (kind, draws)


def test_the_heading_says_which_matrix(capsys):
    out = run(capsys, "spectrum", *SMALL, "--no-picture")[1]
    assert "matrix    F, the Fisher information matrix; gaussian likelihood, exact\n" in out
    options = ["--likelihood", "bernoulli", "--kind", "monte_carlo", "--draws", "3", "--center"]
    out = run(capsys, "spectrum", *SMALL, "--no-picture", *options)[1]
    assert "bernoulli likelihood, monte_carlo with 3 targets a sample; outputs mean-subtracted\n" in out
    out = run(capsys, "theory", "--residual", "--metric", "features", "--kind", "empirical")[1]
    assert "network   residual tanh, widths" in out
    assert "matrix    A, the metric of feature space; gaussian likelihood, empirical with a teacher's targets\n" in out


def test_default_widths_follow_the_likelihood(capsys):
    outputs = {"gaussian": 1, "categorical": 10, "heteroscedastic": 2, "bernoulli": 1, "poisson": 1}
    for name, count in outputs.items():
        assert record(capsys, "theory", "--likelihood", name)["network"]["widths"] == [1000, 1000, 1000, count]


def test_theory_of_a_likelihood(capsys):
    found = record(capsys, "theory", "--likelihood", "softmax", "--widths", "40,50,60,5", "--seed", "3")
    mf = ff.mean_field(
        ff.MLP((40, 50, 60, 5), "tanh", weight_var=3.0, bias_var=0.64), 100, likelihood="softmax", seed=3
    )
    assert found["betas"]["beta2"] == mf.betas.beta2
    assert found["outliers"] == mf.outliers().tolist()
    assert tuple(found["maximum_bounds"]) == mf.maximum_bounds
    assert "fisher_rao_norm" not in found
    assert found["critical_learning_rate"] == mf.critical_learning_rate()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--likelihood", "softmx"], "--likelihood: expected one of"),
        (["--kind", "sampled"], "--kind: expected one of"),
        (["--draws", "3"], "--draws: expected only together with kind='monte_carlo'"),
        (["--kind", "monte_carlo", "--draws", "0"], "--draws: expected an integer >= 1"),
        (["--metric", "weights"], "--metric: expected one of"),
        (["--metric", "features", "--momentum", "0.9"], "--momentum: expected together with --metric parameters"),
        (["--residual", "--widths", "5,6,7,1"], "--widths: expected widths"),
        (["--likelihood", "softmax", "--widths", "5,6,1"], "for two classes with one logit use 'bernoulli'"),
        (["--likelihood", "softmax", "--metric", "ntk"], "likelihood"),
    ],
)
@pytest.mark.parametrize("command", ["spectrum", "theory"])
def test_errors_of_matrix_options(capsys, command, arguments, message):
    code, out, err = run(capsys, command, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("fisherfield: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_learning_rate(capsys, monkeypatch):
    monkeypatch.delattr("fisherfield.metric.Metric.eigenvalues")  # the maximum alone takes less
    found = record(capsys, "learning-rate", *SMALL, "--momentum", "0.9")
    maximum, rate = found["rows"]
    np.testing.assert_allclose(rate["measured"], 3.8 / np.array(maximum["measured"]))
    assert rate["theory"] == pytest.approx(3.8 / maximum["theory"])
    assert "critical rate" in run(capsys, "learning-rate", *SMALL)[1]


def test_a_network_without_any_gradient_has_no_critical_rate(capsys):
    arguments = ["--widths", "1,1,1,1", "--activation", "relu", "--no-bias", "-T", "1", "--seeds", "4"]
    _, rate = record(capsys, "learning-rate", *arguments)["rows"]
    assert None in rate["measured"]
    assert rate["spread"] is rate["mean"] is None
    assert run(capsys, "spectrum", *arguments)[0] == 0


def test_no_gradient_in_theory_either(capsys, tmp_path):
    np.save(tmp_path / "zeros.npy", np.zeros((3, 4)))
    arguments = ["--data", "zeros.npy", "-T", "3", "--no-standardize", "--no-bias", "--activation", "linear"]
    code, out, _ = run(capsys, "theory", *arguments)
    assert code == 0
    assert re.search(r"critical rate.* inf +inf\n", out)


ISOMETRY = ["isometry", "--depth", "4", "--width", "60", "--seeds", "2"]


def test_isometry_prints_point_and_comparison_and_writes_the_picture(capsys, tmp_path):
    code, out, err = run(capsys, *ISOMETRY)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 110
    assert out.isascii()
    point = ff.isometry_point("hard_tanh", 4, 0.25)
    assert compare_conditional(point.architecture(60), point.second_moment, range(2)).comparison().text() in out
    for value in (point.p, point.q, point.weight_var, point.gain, point.bias_var, point.second_moment):
        assert f"{value:.6g}" in out
    assert (tmp_path / "fisherfield-isometry.png").read_bytes().startswith(b"\x89PNG")
    assert "by training" not in out
    assert "2 inputs" not in out


def test_isometry_json_is_complete(capsys):
    found = record(capsys, *ISOMETRY, "--eps", "0.5", "--activation", "shifted_relu", "--dtype", "float32",
                   "--batch", "3", "--boundary", "--no-picture", "--seeds", "7,4")  # fmt: skip
    point = ff.isometry_point("shifted_relu", 4, 0.5)
    expected = compare_conditional(point.architecture(60), point.second_moment, (7, 4), batch=3, dtype="float32")
    assert found["rows"] == report.plain(expected.comparison().as_dict())
    assert found["point"]["q"] == point.q
    assert (found["seeds"], found["dtype"], found["picture"]) == ([7, 4], "float32", None)
    np.testing.assert_array_equal(np.array(found["eigenvalues"], np.float32), expected.eigenvalues)
    np.testing.assert_array_equal(np.array(found["batch_eigenvalues"], np.float32), expected.batch_eigenvalues)
    assert found["boundary"] == pytest.approx(2 / expected.top[0], rel=0.01)
    assert found["atoms"]["masses"][-1] == pytest.approx(point.top_mass)


def test_isometry_of_other_slopes_with_batches_and_boundary(capsys):
    code, out, err = run(
        capsys, *ISOMETRY, "--activation", "tanh", "--q-range", "0.01,1", "--batch", "2", "--boundary",
        "--output", "p.svg",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "top mass" not in out
    for line in ("Slopes other than 0 and 1", "one input  2 inputs", "by training     seed 0", "picture: p.svg"):
        assert line in out


def test_isometry_defaults(monkeypatch, capsys):
    seen = {}

    def fake(architecture, qhat0, seeds, **options):
        seen.update(architecture=architecture, qhat0=qhat0, seeds=seeds, **options)
        raise ValueError("enough")

    monkeypatch.setattr(cli.isometry, "compare_conditional", fake)
    assert run(capsys, "isometry")[0] == 2
    point = ff.isometry_point("hard_tanh", 10, 0.25)
    assert (seen["architecture"], seen["qhat0"]) == (point.architecture(500), point.second_moment)
    assert (seen["seeds"], seen["dtype"], seen["batch"]) == ((0, 1, 2), "float64", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "0"], "--depth: expected an integer >= 1"),
        (["--eps", "-1"], "--eps: expected a number > 0"),
        (["--eps", "4"], "--eps: expected less than 4 for shifted_relu"),
        (["--width", "0"], "--width: expected an integer >= 1"),
        (["--activation", "relu"], "--activation: expected slopes whose spread"),
        (["--activation", "none"], "--activation: "),
        (["--q-range", "1,0.1"], "--q-range: expected low < high"),
        (["--batch", "0"], "--batch: expected an integer >= 1"),
        (["--dtype", "float16"], "--dtype: "),
        (["--seeds", "0"], "--seeds: expected at least one seed"),
        (["--output", "picture.xyz"], "--output: .*png"),
    ],
)
def test_isometry_errors_name_the_option(capsys, arguments, message):
    code, out, err = run(capsys, *ISOMETRY, "--activation", "shifted_relu", *arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"fisherfield: error: {message}.*\n", err)


def test_info(capsys):
    code, out, _ = run(capsys, "info")
    assert code == 0
    assert "instruction set" in out
    found = record(capsys, "info")
    assert found["versions"]["numpy"] == np.__version__
    assert found["instruction set"]["in use"] in found["instruction set"]["usable"]
    assert ff.show_config() is None
    assert capsys.readouterr().out == out


def test_data_sets_give_the_input_width_and_the_pairwise_theory(capsys, tmp_path):
    X = np.random.default_rng(0).gamma(2.0, size=(30, 12))
    np.save(tmp_path / "x.npy", X)
    found = record(capsys, "theory", "--data", "x.npy", "-T", "30", "--no-standardize")
    assert found["network"]["widths"] == [12, 1000, 1000, 1]
    assert found["order_parameters"]["qhat"][0] == pytest.approx(np.mean(X**2), rel=1e-12)
    assert "as stored" in found["inputs"]["scaling"]
    scaled = record(capsys, "theory", "--data", "x.npy", "-T", "30")
    assert scaled["order_parameters"]["qhat"][0] == pytest.approx(1.0, rel=1e-12)
    once, again, other = (
        record(capsys, "theory", "--data", "x.npy", "-T", "10", "--seed", seed)["statistics"]["maximum"]
        for seed in ("3", "3", "4")
    )
    assert once == again != other


def test_digits(capsys):
    code, out, _ = run(capsys, "spectrum", "--data", "digits", "--widths", "64,80,80,10", "-T", "20", "--seeds", "2")
    assert code == 0
    assert "digits (1797 images of 8 x 8 pixels)" in out
    assert "all entries to mean 0, variance 1" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--activation", "tahn"], "did you mean 'tanh'"),
        (["--widths", "5"], "at least two entries"),
        (["--widths", "5,1"], "hidden layer"),
        (["--widths", "5,0,1"], r"error: --widths\[1\]: expected an integer >= 1"),
        (["--weight-var", "0"], r"error: --weight-var\[?.*expected a number > 0"),
        (["--weight-var", "1,2"], "one number per layer"),
        (["--bias-var", "-1"], "expected a number >= 0"),
        (["--bias-var", "nan"], "finite"),
        (["--init", "xavier"], "'gaussian', 'orthogonal'"),
        (["--samples", "0"], "error: --samples: expected an integer >= 1"),
        (["--data", "digits", "--samples", "0"], "error: --samples: expected an integer >= 1"),
        (["--momentum", "-0.5"], "error: --momentum: expected a number >= 0"),
        (["--momentum", "1"], "error: --momentum: expected 0 <= momentum < 1"),
        (["--data", "nothing"], "'digits', 'fashion-mnist' or a file"),
        (["--data", "nothing.csv"], "no such file"),
        (["--data", "digits", "-T", "2000"], "error: --samples: expected at most 1797"),
        (["--data", "digits", "--widths", "63,10,1"], "expected 64 first"),
        (["--data-dir", "."], "--data fashion-mnist"),
        (["--data-dir", ".", "--data", "digits"], "error: --data-dir: expected only with 'fashion-mnist'"),
        (["--no-standardize"], "error: --no-standardize: expected together with --data"),
        (["--data", "fashion-mnist", "--data-dir", "."], "dataset-fashion-mnist"),
    ],
)
@pytest.mark.parametrize("command", ["theory", "spectrum"])
def test_user_errors_are_one_line_and_code_2(capsys, command, arguments, message):
    code, out, err = run(capsys, command, *arguments)
    assert code == 2
    assert out == ""
    assert re.fullmatch(r"fisherfield: error: .*\n", err)
    assert re.search(message, err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "float16"], "--dtype: .*float32"),
        (["--seeds", "0"], "--seeds: .*at least one seed"),
        (["--seeds=-3,"], "--seeds: "),
        (["--seeds", "3,3"], "--seeds: expected different seeds"),
        (["--output", "picture.xyz"], "--output: .*png"),
        (["--output", "missing/picture.png"], "no such folder"),
    ],
)
def test_errors_of_measurement_options(capsys, arguments, message):
    code, _, err = run(capsys, "spectrum", *SMALL, *arguments)
    assert code == 2
    assert re.fullmatch(rf"fisherfield: error: .*{message}.*\n", err)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["spectra"],
        ["spectrum", "--widths", "a"],
        ["spectrum", "--seeds", ""],
        ["spectrum", "--seed", "3"],
        ["theory", "--vers"],
        ["theory", "-T", "1.5"],
        ["theory", "--bias-var", "0.64", "--no-bias"],
        ["spectrum", "--output", "fisherfield-spectrum.png", "--no-picture"],
    ],
)
def test_option_errors_are_one_line_and_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert re.fullmatch(r"fisherfield.*: error: .*--help\)\n", capsys.readouterr().err)


def test_a_seed_that_draws_nothing_is_refused(capsys):
    code, _, err = run(capsys, "theory", "--seed", "3")
    assert code == 2
    assert "--seed: expected together with --data" in err


def test_momentum_is_checked_before_the_measurement(capsys, monkeypatch):
    monkeypatch.setattr(cli.spectrum, "compare", lambda *_, **__: pytest.fail("measured"))
    assert run(capsys, "learning-rate", "--momentum", "1")[0] == 2


@pytest.mark.parametrize("command", ["spectrum", "theory", "learning-rate", "isometry", "info"])
def test_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"example: fisherfield {command}" in capsys.readouterr().out


def test_interrupt(capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.spectrum, "compare", interrupt)
    assert run(capsys, "spectrum")[0] == 130


def test_without_matplotlib_the_table_is_printed(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = run(capsys, "spectrum", *SMALL)
    assert code == 0
    assert "second moment" in out
    assert "picture:" not in out
    assert "pip install 'fisherfield[plot]'" in err
    assert not list(tmp_path.iterdir())


def test_warnings_are_one_line(capsys, monkeypatch):
    def warn(*_, **__):
        warnings.warn("not converged", ff.QuadratureWarning)
        raise ValueError("enough")

    monkeypatch.setattr(cli.spectrum, "mean_field", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        _, _, err = run(capsys, "theory")
    assert err == "fisherfield: warning: not converged\nfisherfield: error: enough\n"


def test_progress_needs_tqdm_and_says_so(capsys, monkeypatch):
    assert run(capsys, "learning-rate", *SMALL, "--progress")[0] == 0
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    code, _, err = run(capsys, "learning-rate", *SMALL, "--progress")
    assert code == 2
    assert "fisherfield[progress]" in err


def test_module_and_closed_pipe():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "fisherfield"]
    version = subprocess.run([*command, "--version"], env=environment, capture_output=True, text=True, check=True)
    assert version.stdout.startswith("fisherfield ")
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run([*command, "theory"], env=environment, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (closed.returncode, closed.stderr) == (0, b"")
