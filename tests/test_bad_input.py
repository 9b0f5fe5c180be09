"""Wrong input is refused before any kernel runs, naming the argument, what was expected and what came."""

import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fisherfield as ff

W1, W2, B1, B2 = np.ones((4, 3)), np.ones((2, 4)), np.zeros(4), np.zeros(2)
X = np.ones((5, 3))
NET = ff.Network([W1, W2], [B1, B2], activation="tanh")


def with_entry(array, value):
    changed = array.copy()
    changed.flat[-1] = value
    return changed


def refused(error, message, call, *args, **kwargs):
    with pytest.raises(error, match=re.escape(message)):
        call(*args, **kwargs)


ARRAYS = [
    (TypeError, "expected a float32 or float64 array, got dtype int64; convert", lambda a: a.astype("int64")),
    (TypeError, "expected a float32 or float64 array, got dtype bool", lambda a: a > 0),
    (TypeError, "expected a float32 or float64 array, got dtype complex128", lambda a: a + 0j),
    (TypeError, "expected a float32 or float64 array, got dtype float16", lambda a: a.astype("float16")),
    (TypeError, "expected a float32 or float64 array, got dtype >f8", lambda a: a.astype(">f8")),
    (TypeError, "expected a float32 or float64 array, got dtype object", lambda a: a.astype(object)),
    (TypeError, "expected a float32 or float64 array, got dtype object", lambda a: None),
    (ValueError, "expected finite numbers, got nan at index", lambda a: with_entry(a, np.nan)),
    (ValueError, "expected finite numbers, got -inf at index", lambda a: with_entry(a, -np.inf)),
    (ValueError, "dimension", lambda a: a[None]),
    (ValueError, "expected", lambda a: a[..., :0]),
    (ValueError, "got masked entries", lambda a: np.ma.masked_greater(a, -1)),
]


@pytest.mark.parametrize(("error", "message", "change"), ARRAYS)
def test_arrays(error, message, change):
    places = [
        ("weights[1]", lambda bad: ff.Network([W1, bad], [B1, B2])),
        ("biases[0]", lambda bad: ff.Network([W1, W2], [bad, B2])),
        ("X", NET),
        ("X", lambda bad: ff.Fisher(NET, bad)),
    ]
    for (name, call), good in zip(places, (W2, B1, X, X), strict=True):
        with pytest.raises(error) as caught:
            call(change(good))
        assert str(caught.value).startswith(f"{name}: ")
        assert message in str(caught.value)


def test_shapes():
    refused(
        ValueError,
        "weights[1]: expected shape (any, 4) to follow weights[0] of shape (4, 3), got (2, 3)",
        ff.Network,
        [W1, np.ones((2, 3))],
    )
    refused(ValueError, "biases[1]: expected shape (2), got (3,)", ff.Network, [W1, W2], [B1, np.zeros(3)])
    refused(ValueError, "X: expected shape (any, 3), got (5, 4)", NET, np.ones((5, 4)))
    refused(ValueError, "X: expected 2 dimensions, got shape (3,)", NET, X[0])
    refused(ValueError, "X: expected at least one entry", NET, np.ones((0, 3)))
    refused(ValueError, "weights[0]: expected 2 dimensions, got rows of", ff.Network, [[[1.0, 2.0], [3.0]]])


def test_mixed_precision():
    refused(
        TypeError,
        "weights[1]: expected float64 like weights[0], got float32",
        ff.Network,
        [W1, W2.astype("f4")],
    )
    refused(TypeError, "biases[0]: expected float64 like", ff.Network, [W1, W2], [B1.astype("f4"), B2])
    refused(TypeError, "X: expected float64 like weights[0], got float32", NET, X.astype("f4"))
    refused(TypeError, "X: expected float64 like weights[0], got float32", ff.Fisher, NET, X.astype("f4"))


def test_sequences():
    for wrong in (None, 5, "W", iter([W1]), np.float64(1)):
        refused(TypeError, "weights: expected a sequence", ff.Network, wrong)
    refused(ValueError, "weights: expected at least one matrix", ff.Network, [])
    refused(ValueError, "biases: expected one vector per weight matrix (2)", ff.Network, [W1, W2], [B1])
    refused(TypeError, "biases: expected a sequence", ff.Network, [W1, W2], 0.0)


def test_architecture():
    for wrong in (None, 5, "34", b"34", np.array(3), {3, 4}):
        refused(TypeError, "widths: expected a sequence (M_0, ..., M_L), got", ff.MLP, widths=wrong)
    refused(ValueError, "widths: expected (M_0, ..., M_L) with at least two", ff.MLP, widths=(3,))
    refused(ValueError, "widths[1]: expected an integer >= 1, got 0", ff.MLP, widths=(3, 0))
    for wrong in (3.0, True, "3", None):
        refused(TypeError, "widths[0]: expected an integer, got", ff.MLP, widths=(wrong, 2))
    refused(ValueError, "init: expected one of 'gaussian', 'orthogonal', got", ff.MLP, (3, 4), init="normal")
    refused(TypeError, "init: expected one of", ff.MLP, (3, 4), init=None)


@pytest.mark.parametrize("widths", [(3, 1), (3, 4, 1), (3, 4, 5, 1), (3, 4, 4, 5, 4, 1)])
def test_widths_without_room_for_skips(widths):
    message = (
        "expected widths (M_0, M, ..., M, C) of a residual network, at least two hidden widths and all of them equal"
    )
    refused(ValueError, f"widths: {message}, got {widths}", ff.ResidualMLP, widths)
    weights = ff.MLP(widths).sample(seed=0).weights
    refused(ValueError, f"weights: {message}, got {widths}", ff.Network, weights, residual=True)


def test_residual_networks():
    for wrong in (1, None, "yes", [True]):
        refused(TypeError, "residual: expected True or False, got", ff.Network, [W1, W2], residual=wrong)
    message = "activation: expected one activation or one per residual block (2), got 3"
    refused(ValueError, message, ff.ResidualMLP, (3, 4, 4, 4, 1), ["tanh"] * 3)
    weights = ff.MLP((3, 4, 4, 4, 1)).sample(seed=0).weights
    refused(ValueError, message, ff.Network, weights, activation=["tanh"] * 3, residual=True)
    refused(ValueError, "weight_var: expected a number or one", ff.ResidualMLP, (3, 4, 4, 1), weight_var=[1.0, 1.0])


@pytest.mark.parametrize("name", ["weight_var", "bias_var"])
def test_variances(name):
    def make(value):
        return ff.MLP(widths=(3, 4, 1), **{name: value})

    refused(ValueError, f"{name}: expected a number >", make, -1.0)
    for wrong in (np.nan, np.inf, -np.inf):
        refused(ValueError, f"{name}: expected a finite number, got {wrong}", make, wrong)
    refused(ValueError, f"{name}: expected a number that a float64 can hold", make, 10**400)
    refused(ValueError, f"{name}: expected a number or one number per layer (2), got 3", make, [1.0] * 3)
    refused(ValueError, f"{name}[1]: expected a number >", make, [1.0, -2.0])
    for wrong in ("1", True, 1j, object()):
        refused(TypeError, f"{name}: expected a number, got", make, wrong)
    refused(TypeError, f"{name}[0]: expected a number, got", make, [[1.0], [2.0]])
    for right in (np.float32(2), np.array(2.0), [2, 2], np.array([2.0, 2.0]), (2.0, np.float32(2))):
        assert getattr(make(right), f"{name}s") == (2.0, 2.0)


def test_zero_variances():
    refused(ValueError, "weight_var: expected a number > 0, got 0.0", ff.MLP, (3, 4), weight_var=0)
    refused(TypeError, "weight_var: expected a number, got None", ff.MLP, (3, 4), weight_var=None)
    assert ff.MLP(widths=(3, 4), bias_var=0).bias_vars == (0.0,)
    assert not ff.MLP(widths=(3, 4), bias_var=None).has_biases


def test_sampling():
    arch = ff.MLP(widths=(3, 4))
    refused(ValueError, "seed: expected an integer >= 0, got -1", arch.sample, seed=-1)
    for wrong in (1.5, "a", True, [1]):
        refused(TypeError, "seed: expected an integer, got", arch.sample, seed=wrong)
    for wrong in ("float16", int, complex, "single precision", ">f8", 5):
        refused(TypeError, "dtype: expected 'float32' or 'float64', got", arch.sample, seed=0, dtype=wrong)


def test_activations():
    refused(ValueError, "got 'tahn'; did you mean 'tanh'?", ff.Network, [W1, W2], activation="tahn")
    refused(ValueError, "got 'tahn'", ff.MLP, (3, 4, 1), activation="tahn")
    for wrong in (None, 3, np.array(["tanh"])):
        refused(TypeError, "activation: expected a name, an Activation or a call", ff.MLP, (3, 4, 1), wrong)
    refused(
        ValueError,
        "activation: expected one activation or one per hidden layer (1), got 2",
        ff.Network,
        [W1, W2],
        activation=["tanh", "tanh"],
    )


def test_options_are_given_by_name():
    with pytest.raises(TypeError, match="positional argument"):
        ff.MLP((3, 4, 1), "tanh", 2.0)
    with pytest.raises(TypeError, match="positional argument"):
        ff.Network([W1, W2], [B1, B2], "tanh")
    with pytest.raises(TypeError, match="positional argument"):
        ff.Fisher(NET, X, "gaussian")


def custom_network(function):
    return ff.Network([W1, W2], None, activation=ff.activations.custom(function, name="mine"))


def test_custom_activations_keep_shape_dtype_and_argument():
    def scribble(u):
        u *= 2
        return np.tanh(u)

    for function, message in [
        (lambda u: u[..., :1], "expected an array of the shape and dtype of u"),
        (lambda u: u.astype("float32"), "expected an array of the shape and dtype of u"),
        (lambda u: np.float64(1), "expected an array of the shape and dtype of u"),
        (scribble, "read-only"),  # the derivative would be taken at another point
    ]:
        with pytest.raises(ValueError, match=message):
            ff.Fisher(custom_network(function), X).dual()


@pytest.mark.parametrize(
    "layout",
    [np.asfortranarray, lambda a: np.stack([a, a], axis=-1)[..., 0], lambda a: a[::-1][::-1]],
)
def test_custom_activations_may_return_any_layout(layout):
    phi = ff.activations.custom(lambda u: layout(np.tanh(u)), lambda u: layout(1 - np.tanh(u) ** 2))
    fim = ff.Fisher(ff.Network([W1 / 3, W2], [B1, B2], activation=phi), X)
    expected = ff.Fisher(ff.Network([W1 / 3, W2], [B1, B2], activation="tanh"), X).dual()
    np.testing.assert_allclose(fim.dual(), expected, rtol=1e-12)


def test_fisher_arguments():
    refused(TypeError, "net: expected a fisherfield.Network", ff.Fisher, ff.MLP(widths=(3, 1)), X)
    refused(ValueError, "likelihood: expected one of 'gaussian'", ff.Fisher, NET, X, likelihood="normal")
    refused(TypeError, "likelihood: expected one of 'gaussian'", ff.Fisher, NET, X, likelihood=None)
    refused(ValueError, "kind: expected one of 'exact'", ff.Fisher, NET, X, kind="exactly")
    fim = ff.Fisher(NET, X)
    for _ in range(2):  # also when the answer is already there
        refused(ValueError, "tile: expected an integer >= 1, got 0", fim.dual, tile=0)
        refused(TypeError, "tile: expected an integer, got 2.5", fim.dual, tile=2.5)
        fim.dual()
    for wrong in (5, "yes", [1]):
        refused(TypeError, "progress: expected None, True or a callable", ff.Fisher(NET, X).dual, progress=wrong)


@pytest.mark.parametrize("make", [ff.Fisher, ff.feature_metric])
def test_kinds(make):
    """Options of the kinds; which goes with which is in test_kinds.py, targets in test_likelihoods.py."""
    for wrong, error, message in [
        (0, ValueError, "samples: expected an integer >= 1, got 0"),
        (2.0, TypeError, "samples: expected an integer, got 2.0"),
        (True, TypeError, "samples: expected an integer, got True"),
    ]:
        refused(error, message, make, NET, X, kind="monte_carlo", samples=wrong)
    refused(ValueError, "seed: expected an integer >= 0, got -1", make, NET, X, kind="monte_carlo", seed=-1)
    refused(TypeError, "seed: expected an integer, got 'a'", make, NET, X, kind="monte_carlo", seed="a")
    refused(ValueError, "kind: expected one of 'exact', 'monte_carlo', 'empirical', got 'mc'", make, NET, X, kind="mc")
    refused(TypeError, "kind: expected one of", make, NET, X, kind=None)
    y = np.ones((5, 2))
    for wrong, error, message in [
        (y[:4], ValueError, "targets: expected shape (5, 2), got (4, 2)"),
        (y[:, 0], ValueError, "targets: expected 2 dimensions, got shape (5,)"),
        (y.astype("f4"), TypeError, "targets: expected float64 like the outputs, got float32"),
        (with_entry(y, np.nan), ValueError, "targets: expected finite numbers, got nan at index"),
    ]:
        refused(error, message, make, NET, X, kind="empirical", targets=wrong)
    softmax = {"likelihood": "categorical", "kind": "empirical"}
    refused(TypeError, "targets: expected class indices from 0 to 1", make, NET, X, targets=y, **softmax)
    refused(ValueError, "targets: expected class indices", make, NET, X, targets=np.full(5, 2), **softmax)
    refused(TypeError, "positional argument", make, NET, X, "gaussian")


def test_ntk_arguments():
    refused(TypeError, "net: expected a fisherfield.Network", ff.ntk, ff.MLP(widths=(3, 1)), X)
    refused(TypeError, "net: expected a fisherfield.Network", ff.TangentKernel, None, X)
    refused(TypeError, "net: expected a fisherfield.Network", ff.feature_metric, None, X)
    for error, message, change in ARRAYS:
        if change(X) is None:  # as the second inputs it means the first
            continue
        refused(error, "X1: ", ff.ntk, NET, change(X))
        refused(error, "X2: ", ff.ntk, NET, X, change(X))
        refused(error, message, ff.ntk, NET, X, change(X))
    refused(TypeError, "X2: expected float64 like weights[0], got float32", ff.ntk, NET, X, X.astype("f4"))
    refused(ValueError, "X2: expected shape (any, 3), got (5, 4)", ff.ntk, NET, X, np.ones((5, 4)))
    for wrong in (1, "yes", None):
        refused(TypeError, "trace: expected True or False, got", ff.ntk, NET, X, trace=wrong)
    refused(TypeError, "executor: expected a concurrent.futures.ThreadPoolExecutor", ff.ntk, NET, X, executor=4)
    refused(TypeError, "progress: expected None, True or a callable", ff.ntk, NET, X, progress=5)
    refused(TypeError, "positional argument", ff.ntk, NET, X, X, True)


@pytest.mark.parametrize("call", [ff.ntk, ff.TangentKernel])
def test_parametrizations(call):
    rescaled = {"parametrization": "ntk"}
    refused(ValueError, "parametrization: expected one of 'standard', 'ntk', got 'n", call, NET, X, parametrization="n")
    refused(ValueError, "weight_var: expected only together with parametrization='ntk'", call, NET, X, weight_var=2.0)
    refused(ValueError, "bias_var: expected only together with parametrization='ntk'", call, NET, X, bias_var=0.0)
    refused(ValueError, "weight_var: expected the sigma_w^2 of the NTK", call, NET, X, **rescaled)
    refused(ValueError, "bias_var: expected the sigma_b^2 of the NTK", call, NET, X, weight_var=2.0, **rescaled)
    for wrong, error, message in [
        (0.0, ValueError, "weight_var: expected a number > 0, got 0.0"),
        ([1.0] * 3, ValueError, "weight_var: expected a number or one number per layer (2), got 3 numbers"),
        ([1.0, -1.0], ValueError, "weight_var[1]: expected a number > 0, got -1.0"),
        (np.nan, ValueError, "weight_var: expected a finite number, got nan"),
        ("2", TypeError, "weight_var: expected a number, got '2'"),
    ]:
        refused(error, message, call, NET, X, weight_var=wrong, bias_var=0.1, **rescaled)
    refused(ValueError, "bias_var: expected a number >= 0", call, NET, X, weight_var=2.0, bias_var=-1.0, **rescaled)
    without = ff.Network([W1, W2])
    message = "bias_var: expected 0 or None, for this network has no biases, got 0.5"
    refused(ValueError, message, call, without, X, weight_var=2.0, bias_var=0.5, **rescaled)
    for fitting in (None, 0.0, [0.0, 0.0]):
        call(without, X, weight_var=2.0, bias_var=fitting, **rescaled)


def test_executors():
    for call in (
        lambda e: ff.Fisher(NET, X, executor=e),
        lambda e: ff.feature_metric(NET, X, executor=e),
        lambda e: ff.TangentKernel(NET, X, executor=e),
        lambda e: NET(X, executor=e),
    ):
        refused(TypeError, "executor: expected a concurrent.futures.ThreadPoolExecutor", call, 4)
        with ProcessPoolExecutor(1) as processes:
            refused(TypeError, "share this process's memory", call, processes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_overflow(dtype):
    """The largest numbers give an error, not inf or NaN, and the hint of float64 only where it helps."""
    huge = np.sqrt(np.finfo(dtype).max) * 10
    forward = ff.Network([huge * np.ones((2, 3), dtype), huge * np.ones((1, 2), dtype)], None, activation="linear")
    inputs = X.astype(dtype)
    for name in (
        "dual",
        "trace",
        "diagonal",
        "dense",
        "jacobian",
        "statistics",
        "eigenvalues",
        "layer_blocks",
    ):
        with pytest.raises(ValueError, match=f"net\\(X\\): expected finite outputs, got inf .*{dtype}") as caught:
            getattr(ff.Fisher(forward, inputs), name)()
        assert ("use float64" in str(caught.value)) == (dtype == "float32")
    backward = ff.Network([np.ones((2, 3), dtype) / huge, huge * np.ones((1, 2), dtype)], None, activation="linear")
    names = ["dual", "diagonal", "dense", "eigenvalues", "statistics", "layer_blocks"]
    names += ["trace"] if dtype == "float64" else []  # traces are summed in float64
    for name in names:
        with pytest.raises(ValueError, match="expected finite numbers, got inf or NaN"):
            getattr(ff.Fisher(backward, inputs), name)()
        with pytest.raises(ValueError, match="expected finite numbers, got inf or NaN"):
            getattr(ff.Fisher(backward, inputs).layer(1), name.replace("layer_blocks", "dense"))()
        if name != "layer_blocks":
            with pytest.raises(ValueError, match="expected finite numbers, got inf or NaN"):
                getattr(ff.feature_metric(backward, inputs), name)()
        if name in ("dual", "diagonal", "eigenvalues", "statistics"):
            several = inputs * np.arange(1, 6, dtype=dtype)[:, None]
            with pytest.raises(ValueError, match="expected finite numbers, got inf or NaN"):
                getattr(ff.Fisher(backward, several).centered(), name)()
    for options in ({}, {"X2": inputs}, {"trace": True}):
        refused(ValueError, "ntk(): expected finite numbers, got inf or NaN", ff.ntk, backward, inputs, **options)


def test_overflow_of_the_second_moment():
    fim = ff.Fisher(ff.Network([np.ones((1, 3))]), X * 1e80)
    assert np.isfinite(fim.eigenvalues()).all()
    refused(ValueError, "second_moment: expected finite numbers", fim.statistics)


def test_answers_that_cannot_fit(monkeypatch):
    """Refused before anything of that size is allocated, with the bytes and another way."""
    rng = np.random.default_rng(0)
    net = ff.MLP(widths=(30, 40, 3)).sample(seed=0)
    inputs = rng.standard_normal((50, 30))
    P, size = net.num_parameters, 150
    needs = {
        "dual": 8 * size**2,
        "jacobian": 8 * size * P,
        "dense": 16 * P**2,
        "layer_blocks": 8 * (2 * 1240**2 + 123**2),
    }
    for name, size in needs.items():
        monkeypatch.setattr("fisherfield._memory.available_bytes", lambda size=size: size - 1)
        with pytest.raises(MemoryError) as caught:
            getattr(ff.Fisher(net, inputs), name)()
        assert f"{size / 2**10:.4g} KiB" in str(caught.value) or f"{size / 2**20:.4g} MiB" in str(caught.value)
        assert "diagonal()" in str(caught.value) or "eigenvalues()" in str(caught.value)
    monkeypatch.setattr("fisherfield._memory.available_bytes", lambda: 20000)
    refused(MemoryError, "the factored Jacobian needs", lambda: ff.Fisher(net, inputs).factors)
    assert ff.Fisher(net, inputs).trace() > 0  # what the message advises works
    assert ff.Fisher(net, inputs).diagonal().shape == (P,)
    monkeypatch.setattr("fisherfield._memory.available_bytes", lambda: None)
    assert ff.Fisher(net, inputs).dual().shape == (150, 150)


def test_a_dual_beyond_any_machine():
    """200000 samples of 10 outputs: 29 TiB, refused at once and without the factors."""
    net = ff.MLP(widths=(2, 3, 10)).sample(seed=0)
    fim = ff.Fisher(net, np.ones((200000, 2)))
    refused(MemoryError, "the 2000000 x 2000000 dual matrix (", fim.dual)
    refused(MemoryError, ") needs 29.1 TiB", fim.dual)
    assert "factors" not in fim.__dict__


any_array = hnp.arrays(
    dtype=st.sampled_from(["float64", "float32", "float16", "int64", "bool", "complex128", "U2", "object"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    fill=st.nothing(),
)
anything = (
    any_array
    | st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.floats() | st.integers() | st.text(max_size=2) | st.lists(st.floats(), max_size=3), max_size=3)
)


def message_or_none(call):
    """The message of a TypeError or ValueError; any other exception is the test's failure."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def assert_named(message, names):
    assert message is None or re.match(rf"({names})(\[\d\])?: ", message), message


@given(anything, st.lists(anything, max_size=3) | anything, st.lists(anything, max_size=3) | anything)
@settings(max_examples=150)
def test_arbitrary_arguments_never_crash(X, weights, biases):
    """Nothing but TypeError and ValueError comes out, and the message starts with the argument's name."""
    assert_named(message_or_none(lambda: ff.Network(weights, biases)), "weights|biases|activation")
    assert_named(message_or_none(lambda: ff.Fisher(NET, X)), "X")


@given(widths=anything, weight_var=anything, bias_var=anything)
@settings(max_examples=150)
def test_arbitrary_architectures_never_crash(widths, weight_var, bias_var):
    for arguments in ({"widths": widths}, {"weight_var": weight_var}, {"bias_var": bias_var}):
        name = next(iter(arguments))
        message = message_or_none(lambda arguments=arguments: ff.MLP(**({"widths": (2, 3, 1)} | arguments)))
        assert_named(message, name)
