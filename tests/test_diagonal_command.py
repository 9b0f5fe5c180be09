"""The command ``fisherfield diagonal`` and its picture."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

import fisherfield as ff
from fisherfield import cli, plot

SMALL = ["diagonal", "--widths", "8,20,15,3", "--samples", "12"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


def run(capsys, *arguments):
    code = cli.main([*SMALL, *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def same_run(likelihood="categorical", dtype="float64", seed=0):
    """What the command computes, by hand."""
    net = ff.MLP((8, 20, 15, 3), "tanh", weight_var=3.0, bias_var=0.64).sample(seed, dtype)
    X = np.random.default_rng(seed).standard_normal((12, 8)).astype(dtype)
    return net, X, ff.diagonal_variance(net, X, likelihood, bounds=True)


def test_table(capsys, tmp_path):
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    _, _, found = same_run()
    rows = [line.split() for line in out.splitlines() if re.match(r"\d ", line)]
    for row, layer, one, two in zip(
        rows, found.layers(), found.samples_for(0.1, "score"), found.samples_for(0.1, "hessian"), strict=True
    ):
        numbers = [layer.mean, layer.score_deviation, layer.score_bound, layer.hessian_deviation, *layer.hessian_bounds]
        numbers += [layer.ratio, layer.input_deviation]
        assert row == [
            str(layer.layer),
            f"{layer.num_parameters:,}",
            *(f"{x:.4g}" for x in numbers),
            f"{one:,}",
            f"{two:,}",
        ]
    assert "categorical likelihood" in out
    assert "relative error of 10 %" in out
    assert (tmp_path / "fisherfield-diagonal.png").stat().st_size > 5000


@pytest.mark.parametrize(("likelihood", "dtype"), [("poisson", "float64"), ("gaussian", "float32")])
def test_record_with_draws(capsys, likelihood, dtype):
    options = ["--likelihood", likelihood, "--draws", "400", "--error", "0.05", "--seed", "3", "--dtype", dtype]
    code, out, err = run(capsys, *options, "--no-picture", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    _, _, found = same_run(likelihood, dtype, 3)
    assert record["picture"] is None
    assert (record["dtype"], record["seed"], record["draws"], record["relative_error"]) == (dtype, 3, 400, 0.05)
    assert record["matrix"]["likelihood"] == likelihood
    for row, layer, draws in zip(record["layers"], found.layers(), found.samples_for(0.05, "hessian"), strict=True):
        assert row["score_deviation"] == layer.score_deviation
        assert row["hessian_bounds"] == list(layer.hessian_bounds)
        assert (row["ratio"], row["better"], row["hessian_draws"]) == (layer.ratio, layer.better, draws)
        for method in ("score", "hessian"):
            exact = row[f"{method}_deviation"]
            assert row[f"{method}_deviation_measured"] == pytest.approx(exact, rel=0.15)


def test_draws_are_set_beside_the_exact_deviations(capsys):
    out = run(capsys, "--draws", "5", "--no-picture", "--activation", "relu")[1]
    table = out[out.index("measured  dev I_2  measured") :].splitlines()[2:5]
    assert [line.split()[3:] for line in table] == [["0", "0"]] * 3  # piecewise linear: nothing varies


def test_data_and_residual_networks(capsys):
    code, out, err = run(
        capsys, "--data", "digits", "--widths", "64,20,20,20,10", "--residual", "--output", "p.svg", "--no-bias"
    )
    assert (code, err) == (0, "")
    assert "residual tanh" in out
    assert "digits" in out
    assert "picture: p.svg" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--error", "0"], "--error: expected a number > 0"),
        (["--draws", "1"], "--draws: expected an integer >= 2"),
        (["--seed", "-1"], "--seed: expected an integer >= 0"),
        (["--likelihood", "cauchy"], "--likelihood: expected one of"),
        (["--dtype", "int8"], "--dtype: "),
        (["--output", "p.xyz"], "--output: .*png"),
        (["--widths", "8,3,1"], "outputs: expected at least 2 for the categorical"),
    ],
)
def test_errors_name_the_option(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"fisherfield: error: {message}.*\n", err)


# --- picture ------------------------------------------------------------------------------------------------


def marks(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}


def test_picture():
    _, _, found = same_run()
    ax = plot.diagonal_variance(found, title="a title")
    layers, drawn = found.layers(), marks(ax)
    low = ax.get_ylim()[0]
    np.testing.assert_allclose([bar.get_height() for bar in ax.containers[0]], [layer.mean for layer in layers])
    score = drawn[r"squared scores $\hat I_1$"]
    np.testing.assert_allclose(score[:, 1], [layer.score_deviation for layer in layers])
    hessian = drawn[r"second derivatives $\hat I_2$"]
    np.testing.assert_allclose(hessian[:, 1], [layer.hessian_deviation for layer in layers[:-1]])
    np.testing.assert_allclose(drawn["no variance"], [[3.14, low]])
    bounds = [line.get_ydata() for line in ax.lines if line.get_label() == "_bound"]  # lower and upper of each
    np.testing.assert_allclose(bounds[1], [layer.score_bound for layer in layers])
    np.testing.assert_allclose(bounds[3], [layer.hessian_bounds[1] for layer in layers[:-1]])
    assert [len(bounds[0]), len(bounds[2])] == [0, 0]  # none below of the scores, zero of a softmax
    assert ax.get_title(loc="left") == "a title"


def test_picture_without_bounds(tmp_path):
    net, X, _ = same_run()
    found = ff.diagonal_variance(net, X)
    ax = plt.figure().subplots()
    assert plot.diagonal_variance(found, ax=ax) is ax
    assert len(ax.containers) == 1
    assert plot.save_diagonal_variance(tmp_path / "p.svg", found).stat().st_size > 1000


def test_picture_refuses():
    with pytest.raises(TypeError, match="variance: expected a DiagonalVariance, got int"):
        plot.diagonal_variance(3)
    dead = ff.Network([np.zeros((3, 2)), np.zeros((1, 3))], None, activation="relu")
    with pytest.raises(ValueError, match="variance: expected a diagonal that is not zero"):
        plot.diagonal_variance(ff.diagonal_variance(dead, np.ones((2, 2))))
