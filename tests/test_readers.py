"""Networks read from other libraries: the same outputs, the same Fisher information, and clear refusals.

What a library's own forward pass gives is compared where the library is installed. The rest runs on stand-ins too:
classes of the same names and attributes, and parameters written out by hand.
"""

import importlib.util
import itertools
import json
import os
import re
import struct
import sys
import types
import warnings
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import fisherfield as ff
from fisherfield import readers
from fisherfield.readers import from_flax, from_keras, from_sklearn, from_torch, load
from fisherfield.readers.stack import read_array
from repository import needed
from tolerances import assert_close

pytestmark = [  # of the libraries themselves
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning"),
]

X = np.random.default_rng(5).standard_normal((7, 3))
PAGE = needed("docs") / "docs" / "own-model.md"


def refused(error, message, call, *args, **kwargs):
    with pytest.raises(error, match=re.escape(message)):
        call(*args, **kwargs)


# --- parameters as libraries store them, written by hand ------------------------------------------------


@st.composite
def networks(draw):
    """Networks of all depths, with and without biases, of both precisions."""
    widths = draw(st.lists(st.integers(1, 6), min_size=2, max_size=13))
    dtype = draw(st.sampled_from(["float64", "float32"]))
    bias_var = draw(st.sampled_from([None, 0.3]))
    arch = ff.MLP(widths, draw(st.sampled_from(["tanh", "relu", "gelu"])), bias_var=bias_var)
    return arch.sample(seed=draw(st.integers(0, 99)), dtype=dtype)


def parts(net):
    """(l, W, b or None) from 0."""
    return [(l, W, net.biases[l] if net.has_biases else None) for l, W in enumerate(net.weights)]


def flax_tree(net, name="Dense_{}"):
    """As JAX leaves it after any map over the tree: sorted by the alphabet."""
    tree = {
        name.format(l): {"kernel": W.T} if b is None else {"bias": b, "kernel": np.ascontiguousarray(W.T)}
        for l, W, b in parts(net)
    }
    return dict(sorted(tree.items()))


def keras_weights(net):
    return [array for _, W, b in parts(net) for array in ([W.T] if b is None else [W.T, b])]


def state_dict(net, name="net.{}", weight=".weight", bias=".bias", first=0):
    named = {f"{name.format(l + first)}{weight}": W for l, W, _ in parts(net)}
    named |= {f"{name.format(l + first)}{bias}": b for l, _, b in parts(net) if b is not None}
    return dict(sorted(named.items()))


CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "int8": "I8", "bfloat16": "BF16"}


def write_safetensors(path, tensors, kind=None):
    """The format: length of the header, header in JSON, the bytes of all tensors."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        values = np.asarray(array).tobytes()  # row by row, whatever the layout
        code = kind or CODES[array.dtype.name]
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def stand_in_for_safetensors():
    """A module with the two names of safetensors that are used."""
    module = types.ModuleType("safetensors")
    module.SafetensorError = type("SafetensorError", (Exception,), {})

    def deserialize(content):
        (length,) = struct.unpack("<Q", content[:8])
        if length > len(content):
            raise module.SafetensorError("header too large")
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
        return [
            (name, {"dtype": entry["dtype"], "shape": entry["shape"], "data": data[slice(*entry["data_offsets"])]})
            for name, entry in header.items()
            if name != "__metadata__"
        ]

    module.deserialize = deserialize
    return module


@pytest.fixture(params=["stand-in", "safetensors"])
def safetensors(request, monkeypatch):
    if request.param == "stand-in":
        monkeypatch.setitem(sys.modules, "safetensors", stand_in_for_safetensors())
        return
    pytest.importorskip("safetensors", reason="safetensors is not installed (extra 'safetensors')")


def assert_same(got, expected):
    assert got.dtype == expected.dtype
    assert got.activations == expected.activations
    assert got.architecture is None
    np.testing.assert_array_equal(got.parameters(), expected.parameters())
    assert got.widths == expected.widths
    assert got.has_biases == expected.has_biases


def activation_of(net):
    return net.activations if net.activations else "tanh"


@given(networks())
def test_flax_parameters(net):
    tree = flax_tree(net)
    assert_same(from_flax(tree, activation=activation_of(net)), net)
    assert_same(from_flax({"params": {"MLP_0": tree}}, activation=activation_of(net)), net)
    names = sorted(tree, key=lambda name: int(name.partition("_")[2]))
    renamed = {f"{'zyxwvutsrqpo'[l]}": tree[name] for l, name in enumerate(names)}  # against the alphabet
    order = None if len(names) == 1 else list(renamed)
    assert_same(from_flax(dict(sorted(renamed.items())), activation=activation_of(net), layers=order), net)


@given(networks())
def test_flax_lists_of_layers_have_integers_for_names(net):
    tree = {int(name[1:]): leaf for name, leaf in flax_tree(net, "l{}").items()}
    assert_same(from_flax({"layers": tree}, activation=activation_of(net)), net)


@given(networks())
def test_keras_weights(net):
    assert_same(from_keras(keras_weights(net), activation=activation_of(net)), net)


@given(networks())
def test_files(safetensors, tmp_path, net):
    for suffix in (".safetensors", ".npz"):
        for naming in ({}, {"name": "{}", "weight": ".weight"}, {"name": "block.{}.dense"}):
            tensors = state_dict(net, **naming)
            path = tmp_path / f"net{suffix}"
            write_safetensors(path, tensors) if suffix == ".safetensors" else np.savez(path, **tensors)
            assert_same(load(path, activation=activation_of(net)), net)
    named = {f"W{l + 1}": W for l, W, _ in parts(net)} | {f"b{l + 1}": b for l, _, b in parts(net) if b is not None}
    np.savez(tmp_path / "ours.npz", **named)
    assert_same(load(str(tmp_path / "ours.npz"), activation=activation_of(net)), net)


def test_what_was_read_does_not_change_with_what_it_was_read_from():
    net = ff.MLP((3, 4, 2)).sample(seed=0)
    tree = {"Dense_0": {"kernel": net.weights[0].T.copy()}, "Dense_1": {"kernel": net.weights[1].T.copy()}}
    weights = keras_weights(ff.Network(net.weights))
    read = [from_flax(tree, activation="tanh"), from_keras(weights, activation="tanh")]
    before = net.weights[0].copy()
    tree["Dense_0"]["kernel"] += 1
    weights[0] += 1
    for one in read:
        np.testing.assert_array_equal(one.weights[0], before)


def test_precision_is_converted_only_on_demand(safetensors, tmp_path):
    net = ff.MLP((3, 4, 2), bias_var=0.1).sample(seed=0)
    half = {name: array.astype("float16") for name, array in state_dict(net).items()}
    bits = {name: (array.astype("f4").view("u4") >> 16).astype("u2") for name, array in state_dict(net).items()}
    write_safetensors(tmp_path / "half.safetensors", half)
    write_safetensors(tmp_path / "brain.safetensors", bits, kind="BF16")
    for file, precision, digits in (("half", "float16", 11), ("brain", "bfloat16", 8)):
        path = tmp_path / f"{file}.safetensors"
        refused(TypeError, f"got {precision}; give dtype='float32' to convert it", load, path, activation="tanh")
        for dtype in ("float32", "float64"):
            got = load(path, activation="tanh", dtype=dtype)
            assert got.dtype == dtype
            error = np.abs(got.parameters() - net.parameters())
            assert 0 < (error / np.abs(net.parameters())).max() < 2.0 ** (1 - digits)
    tree = flax_tree(ff.MLP((3, 4, 2)).sample(seed=0, dtype="float32"))
    assert from_flax(tree, activation="tanh", dtype="float64").dtype == np.float64
    refused(TypeError, "dtype: expected 'float32' or 'float64', got 'float16'", from_flax, tree, activation="tanh",
            dtype="float16")  # fmt: skip
    tree["Dense_1"]["kernel"] = tree["Dense_1"]["kernel"].astype("float64")
    refused(TypeError, "Dense_1: expected float32 like Dense_0, got float64; give dtype=", from_flax, tree,
            activation="tanh")  # fmt: skip


D = {"kernel": np.ones((3, 3)), "bias": np.zeros(3)}
FLAX = [
    (TypeError, "params: expected nested mappings of parameters, got an object of list", [D], {}),
    (ValueError, "got batch_stats beside them", {"params": {"Dense_0": D}, "batch_stats": {}}, {}),
    (ValueError, "Norm_0/scale: expected the kernel or bias of a dense layer", {"Norm_0": {"scale": np.ones(3)}}, {}),
    (ValueError, "kernel: expected the kernel or bias of a dense layer in a mapping of its own", D, {}),
    (
        ValueError,
        "Conv_0/kernel: expected the matrix of a dense layer, got shape (3, 3, 1, 8); convolutions",
        {"Conv_0": {"kernel": np.ones((3, 3, 1, 8))}},
        {},
    ),
    (ValueError, "Dense_0/bias: expected the weight of a dense layer beside", {"Dense_0": {"bias": np.ones(3)}}, {}),
    (ValueError, "expected the parameters of at least one dense layer, got none", {"params": {}}, {}),
    (ValueError, "give layers=('hidden', 'out') in the right order", {"hidden": D, "out": D}, {}),
    (
        ValueError,
        "layers: expected each of 'hidden', 'out' once, got 'hidden', 'hidden'",
        {"hidden": D, "out": D},
        {"layers": ("hidden", "hidden")},
    ),
    (TypeError, "layers: expected the names of the layers", {"hidden": D, "out": D}, {"layers": "hidden"}),
    (
        ValueError,
        "Dense_1: expected 3 inputs, the outputs of Dense_0, got 4; the layers are read in the order Dense_0, Dense_1;",
        {"Dense_0": D, "Dense_1": {"kernel": np.ones((4, 2)), "bias": np.zeros(2)}},
        {},
    ),
    (
        ValueError,
        "read in the order Dense_0, Dense_1; give layers= for another order",
        {"Dense_0": D, "Dense_1": {"kernel": np.ones((4, 2)), "bias": np.zeros(2)}},
        {},
    ),
    (
        ValueError,
        "Dense_1: expected a bias, which Dense_0 has, got none; biases are parameters",
        {"Dense_0": D, "Dense_1": {"kernel": np.ones((3, 2))}},
        {},
    ),
    (
        ValueError,
        "Dense_0: expected a bias, which Dense_1 has, got none; biases are parameters",
        {"Dense_0": {"kernel": np.ones((3, 3))}, "Dense_1": D},
        {},
    ),
    (
        ValueError,
        "Dense_0: expected a bias of shape (3,) beside a weight of 3 outputs, got (2,)",
        {"Dense_0": {"kernel": np.ones((3, 3)), "bias": np.zeros(2)}},
        {},
    ),
    (
        TypeError,
        "Dense_0/kernel: expected float32 or float64, got int8; quantised",
        {"Dense_0": {"kernel": np.ones((3, 3), "int8")}},
        {"dtype": "float32"},
    ),
    (ValueError, "expected finite numbers, got nan", {"Dense_0": {"kernel": np.full((3, 3), np.nan)}}, {}),
    (
        ValueError,
        "expected finite numbers, got inf",
        {"Dense_0": {"kernel": np.full((3, 3), 1e60)}},
        {"dtype": "float32"},
    ),
    (ValueError, "did you mean 'tanh'", {"Dense_0": D, "Dense_1": D}, {"activation": "tnah"}),
]


@pytest.mark.parametrize(("error", "message", "params", "options"), FLAX, ids=[message for _, message, _, _ in FLAX])
def test_flax_refusals(error, message, params, options):
    refused(error, message, from_flax, params, **{"activation": "tanh"} | options)


KERNEL, BIAS = np.ones((3, 3)), np.zeros(3)
KERAS_WEIGHTS = [
    (TypeError, "activation: expected the activation of the hidden layers", [KERNEL, BIAS], {"activation": None}),
    (ValueError, "weights: expected [kernel, bias, kernel, bias, ...], got none; build the model first", [], {}),
    (ValueError, "weights[0]: expected the matrix of a dense layer, got shape (3,)", [BIAS, KERNEL], {}),
    (ValueError, "weights[2]: expected the matrix of a dense layer, got shape (3,)", [KERNEL, BIAS, BIAS], {}),
    (ValueError, "weights[2]: expected a bias, which weights[0] has, got none", [KERNEL, BIAS, KERNEL], {}),
    (TypeError, "model_or_weights: expected a keras.Sequential or its get_weights(), got an object of str", "x", {}),
]


@pytest.mark.parametrize(("error", "message", "weights", "options"), KERAS_WEIGHTS)
def test_keras_refusals_of_weights(error, message, weights, options):
    refused(error, message, from_keras, weights, **{"activation": "tanh"} | options)


def test_file_refusals(safetensors, tmp_path):
    def reading(name, tensors=None, content=None, **options):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        elif tensors is not None:
            write_safetensors(path, tensors) if path.suffix == ".safetensors" else np.savez(path, **tensors)
        return lambda: load(path, **{"activation": "tanh"} | options)

    W, norm = np.ones((3, 3)), np.ones(3)
    for name in ("net.safetensors", "net.npz"):
        running = {"0.weight": W, "1.running_mean": norm}
        refused(ValueError, "1.running_mean: expected a tensor named like '0.weight'", reading(name, running))
        refused(ValueError, "1.weight: expected the matrix of a dense layer", reading(name, {"1.weight": norm}))
        mixed = {"body.0.weight": W, "head.weight": W}
        refused(ValueError, "give layers=('body.0', 'head') in the right order", reading(name, mixed))
        assert reading(name, mixed, layers=("body.0", "head"))().depth == 2
        refused(TypeError, "0.weight: expected float32 or float64, got", reading(name, {"0.weight": W.astype("int8")}))
        refused(FileNotFoundError, "path: no such file", reading(f"missing-{name}"))
    refused(ValueError, "broken.npz: cannot be read as a NumPy file", reading("broken.npz", content=b"PK\x03\x04 no"))
    refused(ValueError, "cut.safetensors: cannot be read", reading("cut.safetensors", content=b"\xff" * 20))
    np.save(tmp_path / "one.npy", W)
    renamed = reading("one.npz", content=(tmp_path / "one.npy").read_bytes())
    refused(ValueError, "expected named arrays, got a single one", renamed)
    refused(ValueError, "expected a file ending in .safetensors, .npz, got 'net.h5'", reading("net.h5"))
    refused(ValueError, "give the model to from_torch", reading("net.pt"))


def test_the_extra_is_named_where_safetensors_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    write_safetensors(tmp_path / "net.safetensors", {"0.weight": np.ones((2, 2))})
    refused(ImportError, "fisherfield[safetensors]", load, tmp_path / "net.safetensors", activation="tanh")


# --- PyTorch, and a stand-in for it ---------------------------------------------------------------------


class Tensor:
    """What a reader asks of a tensor of PyTorch."""

    def __init__(self, array, place="cpu"):
        self.array, self.device = array, types.SimpleNamespace(type=place)
        self.dtype = f"torch.{array.dtype}"
        if place == "cuda":
            self.__cuda_array_interface__ = array.__cuda_array_interface__

    def detach(self):
        return self

    def is_floating_point(self):
        return self.array.dtype.kind == "f"

    def float(self):
        return Tensor(self.array.astype("float32"), self.device.type)

    def double(self):
        return Tensor(self.array.astype("float64"), self.device.type)

    def numpy(self):
        return self.array


def torch_class(name, where="activation", **defaults):
    """A class of torch.nn whose arguments are attributes."""

    def __init__(self, *args, **kwargs):
        self.__dict__.update(defaults | {"training": True} | dict(zip(defaults, args, strict=False)) | kwargs)

    body = {
        "__init__": __init__,
        "__module__": f"torch.nn.modules.{where}",
        "forward": lambda self, x: x,
        "named_parameters": lambda self, recurse=True: list(getattr(self, "own", {}).items()),
    }
    return type(name, (), body)


class Linear(torch_class("Linear", "linear")):
    __module__ = "torch.nn.modules.linear"

    def __init__(self, fan_in, fan_out, bias=True, dtype="float32"):
        super().__init__()
        rng = np.random.default_rng([fan_in, fan_out])
        self.own = {"weight": Tensor(rng.standard_normal((fan_out, fan_in)).astype(dtype))}
        if bias:
            self.own["bias"] = Tensor(rng.standard_normal(fan_out).astype(dtype))


class Sequential(torch_class("Sequential", "container")):
    __module__ = "torch.nn.modules.container"

    def __init__(self, *modules):
        super().__init__()
        self.modules = list(modules[0].values()) if isinstance(modules[0], OrderedDict) else list(modules)

    def __iter__(self):
        return iter(self.modules)


class Module:
    __module__ = "torch.nn.modules.module"
    forward = None

    def named_parameters(self, recurse=True):
        return []


def stand_in_for_torch():
    plain = ["ReLU", "Tanh", "Sigmoid", "SiLU", "SELU", "Identity", "Softmax", "LogSoftmax", "Conv2d", "LayerNorm",
             "Softsign"]  # fmt: skip
    nn = types.SimpleNamespace(**{name: torch_class(name) for name in plain})
    nn.Linear, nn.Sequential, nn.Module = Linear, Sequential, Module
    nn.LeakyReLU = torch_class("LeakyReLU", negative_slope=0.01)
    nn.ELU = torch_class("ELU", alpha=1.0)
    nn.GELU = torch_class("GELU", approximate="none")
    nn.Softplus = torch_class("Softplus", beta=1.0, threshold=20.0)
    nn.Hardtanh = torch_class("Hardtanh", min_val=-1.0, max_val=1.0)
    nn.Flatten = torch_class("Flatten", start_dim=1, end_dim=-1)
    nn.Dropout = torch_class("Dropout", p=0.5)
    nn.BatchNorm1d = torch_class("BatchNorm1d", num_features=0)
    nn.LazyLinear = torch_class("LazyLinear", out_features=0)
    return nn


def installed_torch():
    """PyTorch on one thread: its own wait for each other on processors that are shared."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'peers')")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="module")
def torch():
    return installed_torch()


@pytest.fixture(params=["stand-in", "torch"])
def nn(request):
    return stand_in_for_torch() if request.param == "stand-in" else request.getfixturevalue("torch").nn


FUNCTIONS = [
    ("ReLU", (), lambda u: np.maximum(u, 0)),
    ("LeakyReLU", (0.3,), lambda u: np.where(u > 0, u, 0.3 * u)),
    ("Tanh", (), np.tanh),
    ("Sigmoid", (), special.expit),
    ("GELU", (), lambda u: u * special.ndtr(u)),
    ("SiLU", (), lambda u: u * special.expit(u)),
    ("Softplus", (), lambda u: np.logaddexp(0, u)),
    ("ELU", (0.7,), lambda u: np.where(u > 0, u, 0.7 * np.expm1(u))),
    ("SELU", (), lambda u: 1.0507009873554805 * np.where(u > 0, u, 1.6732632423543772 * np.expm1(u))),
    ("Hardtanh", (), lambda u: np.clip(u, -1, 1)),
    ("Identity", (), lambda u: u),
]


def numpy_of(parameter):
    return parameter.detach().numpy()


@pytest.mark.parametrize(("name", "arguments", "function"), FUNCTIONS, ids=[name for name, *_ in FUNCTIONS])
def test_torch_activations(nn, name, arguments, function):
    model = nn.Sequential(nn.Linear(3, 5), getattr(nn, name)(*arguments), nn.Linear(5, 2))
    net = from_torch(model, dtype="float64")
    first, _, last = ({key: numpy_of(value).astype(float) for key, value in m.named_parameters()} for m in model)
    expected = function(X @ first["weight"].T + first["bias"]) @ last["weight"].T + last["bias"]
    assert_close(net(X), expected)


def test_torch_outputs(torch):
    """Every activation in one model of each precision: what its own forward pass gives."""
    nn = torch.nn
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(0)
        body = [m for name, args, _ in FUNCTIONS for m in (nn.Linear(8, 8, dtype=dtype), getattr(nn, name)(*args))]
        model = nn.Sequential(
            nn.Flatten(),
            nn.Sequential(OrderedDict(first=nn.Linear(6, 8, dtype=dtype), phi=nn.Tanh())),
            nn.Dropout(),
            nn.Sequential(*body, nn.Identity()),
            nn.Linear(8, 4, dtype=dtype),
        ).eval()
        images = torch.randn(20, 2, 3, dtype=dtype)
        net = from_torch(model)
        assert net.dtype == str(dtype).removeprefix("torch.")
        assert net.depth == len(FUNCTIONS) + 2
        assert_close(net(images.reshape(20, 6).numpy()), model(images).detach().numpy())


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5), st.booleans(), st.sampled_from(["float32", "float64"]))
def test_torch_outputs_of_any_widths(torch, widths, bias, dtype):
    torch.manual_seed(0)
    layers = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [torch.nn.Linear(fan_in, fan_out, bias=bias, dtype=getattr(torch, dtype)), torch.nn.SiLU()]
    model = torch.nn.Sequential(*layers[:-1])
    inputs = torch.randn(4, widths[0], dtype=getattr(torch, dtype))
    expected = model(inputs).detach().numpy()
    assert_close(from_torch(model)(inputs.numpy()), expected, scale=max(np.abs(expected).max(), 0.1))


def test_torch_dual_is_that_of_its_jacobian(torch):
    from torch_twin import jacobian

    torch.manual_seed(1)
    nn, options = torch.nn, {"dtype": torch.float64}
    model = nn.Sequential(nn.Linear(3, 6, **options), nn.GELU(), nn.Linear(6, 5, **options), nn.Linear(5, 2, **options))
    J = jacobian(model, torch.tensor(X)).transpose(1, 0, 2).reshape(2 * len(X), -1)  # output before sample
    net = from_torch(model)
    assert [phi.name for phi in net.activations] == ["gelu", "linear"]
    assert net.num_parameters == J.shape[1]
    assert_close(ff.Fisher(net, X).dual(), J @ J.T / len(X), tolerance=1e-12)


def test_torch_layers_that_change_nothing(nn):
    frozen = nn.Dropout(0.5)
    frozen.training = False
    dense = [nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)]
    model = nn.Sequential(
        nn.Flatten(), frozen, nn.Sequential(dense[0], nn.Identity()), nn.Tanh(), nn.Dropout(0.0), dense[1], frozen
    )
    net = from_torch(model)
    assert net.biases is None
    assert net.dtype == np.float32
    assert net.architecture is None
    assert [phi.name for phi in net.activations] == ["tanh"]
    for W, layer in zip(net.weights, dense, strict=True):
        np.testing.assert_array_equal(W, numpy_of(dict(layer.named_parameters())["weight"]))
    assert from_torch(dense[0]).widths == (3, 4)


def test_torch_parameters_are_copied(nn):
    layer = nn.Linear(2, 2)
    net = from_torch(layer)
    numpy_of(dict(layer.named_parameters())["weight"])[...] = 7
    assert (net.weights[0] != 7).all()


def test_torch_subclasses_count_while_their_forward_pass_is_inherited(nn):
    class Deep(nn.Sequential):
        pass

    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    assert from_torch(Deep(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))).widths == (3, 4, 1)
    refused(ValueError, "model[0]: expected a module of torch.nn", from_torch, nn.Sequential(Doubled(2, 2)))


def own_module(nn):
    class Net(nn.Module):
        def forward(self, x):
            return x

    return Net()


def shared_weights(nn):
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer)


D_, H_, T_ = ("Linear", 3, 3), ("Linear", 3, 3, False), ("Tanh",)
MODELS = [
    ("model[1]: expected a module of torch.nn, one of Linear,", [D_, ("BatchNorm1d", 3), T_, D_]),
    ("got BatchNorm1d; in evaluation mode fold it into the layer before", [D_, ("BatchNorm1d", 3), T_, D_]),
    ("got LayerNorm; normalisation layers are not supported", [D_, ("LayerNorm", 3), D_]),
    ("got Conv2d; convolutions are not supported", [("Conv2d", 1, 1, 3), D_]),
    ("got LazyLinear; run the model once", [("LazyLinear", 3), T_, D_]),
    ("got Softsign; for another order of layers or function write Network(", [D_, ("Softsign",), D_]),
    ("model[2]: expected the network to end with a dense layer, got Softmax; leave it out", [D_, T_, ("Softmax", 1)]),
    ("(for instance model[:-1]) and choose likelihood='categorical'", [D_, T_, ("Softmax", 1)]),
    ("model[1]: expected the network to end with a dense layer, got LogSoftmax; leave it out", [D_, ("LogSoftmax", 1)]),
    ("got Sigmoid; leave it out (for instance model[:-1]) and choose likelihood='bernoulli'", [D_, ("Sigmoid",)]),
    ("got Tanh; leave it out (for instance model[:-1]): outputs are those before it", [D_, T_]),
    ("model[0]: expected a dense layer first, got Tanh; apply it to the inputs X instead", [T_, D_]),
    ("model[2]: expected a dense layer after model[1] (Tanh), got a second activation in a row, ReLU",
     [D_, T_, ("ReLU",), D_]),
    ("model[1]: expected evaluation mode, got Dropout in training mode; call model.eval() first",
     [D_, ("Dropout", 0.1), D_]),
    ("model[1]: expected GELU with approximate='none'", [D_, ("GELU", "tanh"), D_]),
    ("model[1]: expected Softplus with beta=1, threshold>=20", [D_, ("Softplus", 2.0), D_]),
    ("model[1]: expected Softplus with beta=1, threshold>=20", [D_, ("Softplus", 1.0, 5.0), D_]),
    ("model[1]: expected Hardtanh with (-1, 1)", [D_, ("Hardtanh", -2.0, 2.0), D_]),
    ("model[0]: expected Flatten(1, -1), which makes a row of each sample, got Flatten(0, -1)",
     [("Flatten", 0, -1), D_]),
    ("model[2]: expected a bias, which model[0] has, got none", [D_, T_, H_]),
    ("model[0]: expected a bias, which model[1] has, got none", [H_, D_]),
    ("model[1]: expected 3 inputs, the outputs of model[0], got 4", [D_, ("Linear", 4, 2)]),
    ("model: expected at least one dense layer, got none", [("Identity",)]),
]  # fmt: skip


@pytest.mark.parametrize(("message", "modules"), MODELS, ids=[message for message, _ in MODELS])
def test_torch_refusals(nn, message, modules):
    model = nn.Sequential(*(getattr(nn, name)(*arguments) for name, *arguments in modules))
    refused(ValueError, message, from_torch, model)


def test_torch_refusals_of_models(nn):
    message = "model[2].weight: expected parameters of its own, got those of model[0].weight"
    refused(ValueError, message, from_torch, shared_weights(nn))
    refused(ValueError, "model: expected a module of torch.nn", from_torch, own_module(nn))
    nested = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Tanh(), nn.Sequential(nn.ReLU(), nn.Linear(3, 3))))
    refused(ValueError, "model[1][1][0]: expected a dense layer after model[1][0] (Tanh)", from_torch, nested)
    state = OrderedDict({"0.weight": np.ones((2, 2))})
    refused(TypeError, "got an object of OrderedDict; load a state dict into the model", from_torch, state)
    refused(TypeError, "model: expected a torch.nn.Sequential", from_torch, ff.MLP((2, 2)).sample(seed=0))


def test_torch_parameters_that_share_a_tensor(nn):
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    first, _, last = model
    if isinstance(first, Linear):
        last.own["weight"] = first.own["weight"]
    else:
        last.weight = first.weight
    refused(ValueError, "got those of model[0].weight; shared parameters count once in P", from_torch, model)


def test_torch_precisions_and_devices():
    layer = Linear(2, 2, dtype="float16")
    message = "model.weight: expected float32 or float64, got float16; give dtype='float32'"
    refused(TypeError, message, from_torch, layer)
    assert from_torch(layer, dtype="float64").dtype == np.float64
    refused(TypeError, "got int8; quantised", from_torch, Linear(2, 2, dtype="int8"))
    refused(TypeError, "got int8; quantised", from_torch, Linear(2, 2, dtype="int8"), dtype="float32")
    layer.own["weight"].device.type = "meta"
    refused(ValueError, "model.weight: expected a parameter on the CPU or a CUDA GPU, got one on 'meta'", from_torch,
            layer)  # fmt: skip


def test_torch_half_precision(torch):
    for dtype in (torch.bfloat16, torch.float16):
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).to(dtype)
        refused(TypeError, f"got {str(dtype)[6:]}; give dtype='float32'", from_torch, model)
        net = from_torch(model, dtype="float32")
        assert_close(net(X.astype("f4")), model.float()(torch.tensor(X.astype("f4"))).detach().numpy())


def test_torch_reparametrised_layers(torch):
    from torch.nn.utils import parametrizations, parametrize, prune

    def two(make):
        return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), make(torch.nn.Linear(3, 2)))

    message = "model[2]: expected plain parameters, got parametrizations of weight; remove them"
    model = two(parametrizations.weight_norm)
    refused(ValueError, message, from_torch, model)
    parametrize.remove_parametrizations(model[2], "weight")
    assert_close(from_torch(model)(X.astype("f4")), model(torch.tensor(X.astype("f4"))).detach().numpy())

    message = "model[2]: expected the parameters weight and bias, got bias, weight_orig; make a reparametrised layer"
    model = two(lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5))
    refused(ValueError, message, from_torch, model)
    prune.remove(model[2], "weight")
    assert (from_torch(model).weights[1] == 0).sum() == 3


def test_torch_wrappers(torch):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    refused(ValueError, "got DataParallel; give model.module", from_torch, torch.nn.DataParallel(model))
    refused(ValueError, "before torch.compile", from_torch, torch.compile(model))
    lazy = torch.nn.Sequential(torch.nn.LazyLinear(2))
    refused(ValueError, "got LazyLinear; run the model once", from_torch, lazy)
    lazy(torch.ones(1, 3))
    assert from_torch(lazy).widths == (3, 2)


def test_torch_folded_batch_normalisation(torch):
    """What the refusal advises gives the outputs of the evaluation mode."""
    torch.manual_seed(0)
    first, norm, last = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    for _ in range(3):
        norm(first(torch.randn(50, 3)))
    model = torch.nn.Sequential(first, norm, torch.nn.Tanh(), last).eval()
    folded = torch.nn.Sequential(torch.nn.utils.fuse_linear_bn_eval(first, norm), torch.nn.Tanh(), last)
    assert_close(from_torch(folded)(X.astype("f4")), model(torch.tensor(X.astype("f4"))).detach().numpy())


def test_torch_on_a_gpu(cuda):
    first, last = Linear(3, 4, dtype="float64"), Linear(4, 2, dtype="float64")
    expected = from_torch(Sequential(first, stand_in_for_torch().Tanh(), last))
    for layer in (first, last):
        layer.own = {name: Tensor(cuda.asarray(p.array), "cuda") for name, p in layer.own.items()}
    net = from_torch(Sequential(first, stand_in_for_torch().Tanh(), last))
    assert net.device == "cuda:0"
    assert_close(cuda.asnumpy(net(cuda.asarray(X))), expected(X))
    if cuda.cuda.runtime.getDeviceCount() > 1:
        with cuda.cuda.Device(1):
            message = "W: expected an array on CuPy's current GPU, cuda:1"
            refused(ValueError, message, read_array, net.weights[0], "W", 2, None)


# --- scikit-learn ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sklearn():
    return pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed (extra 'data')")


def fitted(estimator, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        return estimator.fit(X, y)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sklearn_regressors(sklearn, activation, dtype):
    inputs = X.astype(dtype)
    model = sklearn.MLPRegressor(hidden_layer_sizes=(5, 4), activation=activation, max_iter=5, random_state=0)
    model = fitted(model, inputs, np.stack([X[:, 0], X[:, 1] ** 2], axis=1).astype(dtype))
    net = from_sklearn(model)
    assert net.dtype == dtype
    assert_close(net(inputs), model.predict(inputs))


def test_sklearn_classifiers(sklearn):
    labels = np.arange(7) % 3
    options = {"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0}
    several = fitted(sklearn.MLPClassifier(**options), X, labels)
    assert_close(special.softmax(from_sklearn(several)(X), axis=1), several.predict_proba(X))
    two = fitted(sklearn.MLPClassifier(**options), X, labels > 0)
    assert from_sklearn(two).num_outputs == 1
    assert_close(special.expit(from_sklearn(two)(X))[:, 0], two.predict_proba(X)[:, 1])
    many = fitted(sklearn.MLPClassifier(**options), X, np.eye(3, dtype=int)[labels])
    assert_close(special.expit(from_sklearn(many)(X)), many.predict_proba(X))


def test_sklearn_likelihoods_score_as_the_estimators_gradients(sklearn):
    """Its gradient of the loss is minus the mean score that goes back through the network."""
    labels = np.arange(7) % 3
    model = fitted(sklearn.MLPClassifier(hidden_layer_sizes=(5,), max_iter=5, random_state=0), X, labels)
    net = from_sklearn(model)
    likelihood = ff.likelihoods.get("categorical")
    score = likelihood.score(net(X), labels)
    assert_close(score, np.eye(3)[labels] - model.predict_proba(X))


def test_sklearn_counts(sklearn):
    model = sklearn.MLPRegressor(hidden_layer_sizes=(5,), max_iter=5, random_state=0)
    if "loss" not in model.get_params():
        pytest.skip("this scikit-learn has no loss='poisson'")
    model = fitted(model.set_params(loss="poisson"), X, np.arange(7.0))
    assert_close(np.exp(from_sklearn(model)(X))[:, 0], model.predict(X))


def test_sklearn_refusals(sklearn):
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    model = sklearn.MLPRegressor(hidden_layer_sizes=(4,), max_iter=5)
    refused(ValueError, "expected a fitted estimator, got MLPRegressor before fit", from_sklearn, model)
    pipeline = fitted(make_pipeline(model), X, X[:, 0])
    refused(TypeError, "got Pipeline; give its last step, pipeline[-1]", from_sklearn, pipeline)
    search = fitted(GridSearchCV(model, {"alpha": [0.1]}, cv=2), X, X[:, 0])
    refused(TypeError, "got GridSearchCV; give its best_estimator_", from_sklearn, search)
    other = LinearRegression().fit(X, X[:, 0])
    refused(TypeError, "expected an MLPClassifier or MLPRegressor, got LinearRegression", from_sklearn, other)
    assert from_sklearn(pipeline[-1]).widths == (3, 4, 1)


def test_sklearn_unknown_functions():
    estimator = types.SimpleNamespace(
        coefs_=[KERNEL], intercepts_=[BIAS], activation="relu", out_activation_="identity"
    )
    assert from_sklearn(estimator).widths == (3, 3)
    for attribute in ("activation", "out_activation_"):
        changed = types.SimpleNamespace(**vars(estimator) | {attribute: "sine"})
        refused(ValueError, f"estimator.{attribute}: expected one of 'identity'", from_sklearn, changed)


# --- Keras, and a stand-in for it -----------------------------------------------------------------------


def keras_class(name, where="layers", **defaults):
    def __init__(self, *args, **kwargs):
        self.__dict__.update(defaults | dict(zip(defaults, args, strict=False)) | kwargs)

    module = f"keras.src.{where}"
    body = {"__init__": __init__, "__module__": module, "call": lambda self, x: x, "get_weights": lambda self: []}
    return type(name, (), body)


class KerasDense(keras_class("Dense")):
    __module__ = "keras.src.layers.core.dense"

    def __init__(self, units, activation="linear", use_bias=True):
        self.units, self.use_bias, self.kernel = units, use_bias, None
        self.activation = keras_function(activation) if isinstance(activation, str) else activation

    def get_weights(self):
        rng = np.random.default_rng(self.units)
        bias = [rng.standard_normal(self.units).astype("f4")] * self.use_bias
        return [] if self.kernel is None else [self.kernel, *bias]


KerasDense.__name__ = "Dense"


class KerasSequential(keras_class("Sequential")):
    __module__ = "keras.src.models.sequential"

    def __init__(self, layers):
        self.layers = layers

    def build(self, shape):
        width = shape[-1]
        for layer in self.layers:
            if isinstance(layer, KerasSequential):
                layer.build((None, width))
                width = layer.layers[-1].units
            elif isinstance(layer, KerasDense):
                layer.kernel = np.random.default_rng(width).standard_normal((width, layer.units)).astype("f4")
                width = layer.units

    def get_weights(self):
        return [array for layer in self.layers for array in layer.get_weights()]


KerasSequential.__name__ = "Sequential"


def keras_function(name):
    def function(x):
        return x

    function.__name__, function.__module__ = name, "keras.src.activations.activations"
    return function


class KerasActivation(keras_class("Activation")):
    __module__ = "keras.src.layers.activations.activation"

    def __init__(self, activation):
        self.activation = keras_function(activation)


KerasActivation.__name__ = "Activation"


def stand_in_for_keras():
    names = ("Flatten", "Dropout", "BatchNormalization", "Softmax")
    layers = types.SimpleNamespace(**{name: keras_class(name) for name in names})
    layers.Dense, layers.Activation = KerasDense, KerasActivation
    layers.LeakyReLU = keras_class("LeakyReLU", negative_slope=0.3)
    layers.ELU = keras_class("ELU", alpha=1.0)
    layers.ReLU = keras_class("ReLU", max_value=None, negative_slope=0.0, threshold=0.0)
    return types.SimpleNamespace(Sequential=KerasSequential, layers=layers)


def installed_keras():
    """Keras on whatever backend is installed."""
    backends = {"jax": "jax", "torch": "torch", "tensorflow": "tensorflow"}
    found = [name for name, package in backends.items() if importlib.util.find_spec(package)]
    if not found or not importlib.util.find_spec("keras"):
        pytest.skip("keras and a backend are not installed")
    os.environ.setdefault("KERAS_BACKEND", found[0])
    return importlib.import_module("keras")


@pytest.fixture(params=["stand-in", "keras"])
def keras(request):
    return stand_in_for_keras() if request.param == "stand-in" else installed_keras()


def built(keras, *layers):
    model = keras.Sequential(list(layers))
    model.build((None, 3))
    return model


def test_keras_outputs():
    keras = installed_keras()
    layers = keras.layers
    inputs = X.astype("float32")
    names = ["relu", "tanh", "sigmoid", "elu", "selu", "softplus", "silu", "gelu", "leaky_relu", "hard_tanh", "linear"]
    body = [layers.Dense(8, name) for name in names]
    modules = [layers.ReLU(), layers.ReLU(negative_slope=0.2), layers.LeakyReLU(), layers.ELU(0.5)]
    body += [layer for phi in modules for layer in (layers.Dense(8), phi)]
    model = keras.Sequential(
        [layers.Input((3, 1)), layers.Flatten(), *body, layers.Dropout(0.5), keras.Sequential([layers.Dense(4)])]
    )
    net = from_keras(model)
    assert net.depth == len(names) + len(modules) + 1
    assert_close(net(inputs), np.asarray(model(inputs[..., None])))


def test_keras_outputs_before_the_softmax():
    keras = installed_keras()
    layers, inputs = keras.layers, X.astype("float32")
    model = keras.Sequential([layers.Input((3,)), layers.Dense(5, "tanh"), layers.Dense(4, "softmax")])
    net = from_keras(model.get_weights(), activation="tanh")
    assert_close(special.softmax(net(inputs), axis=1), np.asarray(model(inputs)))


@pytest.mark.parametrize(("name", "ours"), [("relu", "relu"), ("hard_tanh", "hard_tanh"), ("gelu", "gelu")])
def test_keras_activations(keras, name, ours):
    layers = keras.layers
    separate = built(keras, layers.Dense(5), layers.Activation(name), layers.Dense(2))
    assert from_keras(separate).activations == (ff.activations.get(ours),)
    model = built(keras, layers.Dense(5, name), layers.Dropout(0.2), layers.Dense(4), layers.Dense(2))
    net = from_keras(model)
    assert net.activations == (ff.activations.get(ours), ff.activations.get("linear"))
    for W, kernel in zip(net.weights, model.get_weights()[::2], strict=True):
        np.testing.assert_array_equal(W, kernel.T)


def test_keras_slopes(keras):
    layers = keras.layers
    model = built(
        keras,
        *(layers.Dense(3, "leaky_relu"), layers.Dense(3), layers.LeakyReLU(negative_slope=0.1)),
        *(layers.Dense(3), layers.ELU(alpha=0.5), layers.Dense(3), layers.ReLU(negative_slope=0.4)),
        *(layers.Dense(3), layers.ReLU(), layers.Dense(2)),
    )
    phi = ff.activations
    expected = [phi.leaky_relu(0.2), phi.leaky_relu(0.1), phi.elu(0.5), phi.leaky_relu(0.4), phi.get("relu")]
    assert list(from_keras(model).activations) == expected


def test_keras_without_biases(keras):
    layers = keras.layers
    model = built(keras, layers.Dense(5, "tanh", use_bias=False), layers.Dense(2, use_bias=False))
    assert from_keras(model).biases is None
    assert from_keras(model, dtype="float64").dtype == np.float64
    mixed = built(keras, layers.Dense(5, "tanh", use_bias=False), layers.Dense(2))
    refused(ValueError, "model.layers[0]: expected a bias, which model.layers[1] has", from_keras, mixed)


def own_function(u):
    return u


def gelu(u):
    """Of the name of an activation of Keras."""
    return u


def test_keras_refusals(keras):
    layers = keras.layers
    dense = layers.Dense
    cases = [
        ("model.layers[1]: expected the network to end with a dense layer, got softmax; leave it out",
         [dense(4, "relu"), dense(2, "softmax")]),
        ("(or give model.get_weights() and activation=) and choose likelihood='categorical'", [dense(2, "softmax")]),
        ("model.layers[0]: expected the network to end with a dense layer, got sigmoid; leave it out",
         [dense(2, "sigmoid")]),
        ("got Softmax; leave it out", [dense(2), layers.Softmax()]),
        ("model.layers[1]: expected a layer of Keras", [dense(3), layers.BatchNormalization(), dense(2)]),
        ("got BatchNormalization", [dense(3), layers.BatchNormalization(), dense(2)]),
        ("model.layers[1]: expected a layer of Keras", [dense(3), layers.ReLU(max_value=6.0), dense(2)]),
        ("model.layers[0]: expected an activation of Keras, one of linear", [dense(3, "softsign"), dense(2)]),
        ("got gelu; give model.get_weights() and activation=", [dense(3, gelu), dense(2)]),
        ("got own_function; give model.get_weights() and activation=", [dense(3, own_function), dense(2)]),
        ("model.layers[1]: expected a dense layer after model.layers[0] (tanh), got a second activation in a row, relu",
         [dense(3, "tanh"), layers.Activation("relu"), dense(2)]),
        ("model.layers[0]: expected a dense layer first, got tanh", [layers.Activation("tanh"), dense(2)]),
    ]  # fmt: skip
    for message, modules in cases:
        refused(ValueError, message, from_keras, built(keras, *modules))
    unbuilt = keras.Sequential([dense(2)])
    refused(ValueError, "expected a model that is built, got no weights", from_keras, unbuilt)
    model = built(keras, dense(2))
    refused(TypeError, "activation: expected None with a model, which knows its own", from_keras, model,
            activation="tanh")  # fmt: skip


def test_keras_layers_with_more_than_a_kernel_and_a_bias(keras):
    model = built(keras, keras.layers.Dense(4))
    (layer,) = model.layers
    if isinstance(layer, KerasDense):
        layer.get_weights = lambda: [KERNEL, BIAS, KERNEL, KERNEL]
    else:
        layer.enable_lora(2)
    refused(ValueError, "expected a kernel and at most a bias, got 4 arrays; adapted (LoRA)", from_keras, model)


def test_keras_models_that_are_no_chain():
    keras = installed_keras()
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs) + inputs)
    refused(ValueError, "model: expected a layer of Keras", from_keras, model)


# --- Flax and safetensors as they are -------------------------------------------------------------------


@pytest.fixture(scope="module")
def flax():
    return pytest.importorskip("flax", reason="flax is not installed")


def test_flax_outputs(flax):
    import jax
    from flax import linen

    class MLP(linen.Module):
        @linen.compact
        def __call__(self, x):
            for _ in range(11):
                x = linen.tanh(linen.Dense(5)(x))
            return linen.Dense(2)(x)

    model, inputs = MLP(), X.astype("float32")
    params = jax.tree.map(lambda leaf: leaf + 0.1, model.init(jax.random.PRNGKey(0), inputs))
    assert list(params["params"])[1] == "Dense_1"
    net = from_flax(params, activation="tanh")
    assert_close(net(inputs), np.asarray(model.apply(params, inputs)))


def test_flax_numbers_layers_as_they_are_made(flax):
    """Written inside one another, the last layer has the first number."""
    import jax
    from flax import linen

    class Nested(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2)(linen.tanh(linen.Dense(5)(x)))

    model, inputs = Nested(), X.astype("float32")
    params = model.init(jax.random.PRNGKey(0), inputs)
    refused(ValueError, "Dense_1: expected 2 inputs, the outputs of Dense_0", from_flax, params, activation="tanh")
    net = from_flax(params, activation="tanh", layers=("Dense_1", "Dense_0"))
    assert_close(net(inputs), np.asarray(model.apply(params, inputs)))


def test_flax_nnx_outputs(flax):
    from flax import nnx

    rngs, inputs = nnx.Rngs(0), X.astype("float32")
    model = nnx.Sequential(nnx.Linear(3, 5, rngs=rngs), nnx.relu, nnx.Linear(5, 2, rngs=rngs))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert_close(from_flax(params, activation="relu")(inputs), np.asarray(model(inputs)))


def test_flax_half_precision(flax):
    import jax.numpy as jnp

    tree = {"Dense_0": {"kernel": jnp.ones((3, 2), jnp.bfloat16) * 1.5}}
    refused(TypeError, "Dense_0/kernel: expected float32 or float64, got bfloat16; give dtype=", from_flax, tree,
            activation="tanh")  # fmt: skip
    assert (from_flax(tree, activation="tanh", dtype="float32").weights[0] == 1.5).all()


def test_files_of_safetensors(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed (extra 'safetensors')")
    net = ff.MLP([3] * 13, "relu", bias_var=0.1).sample(seed=0)
    numpy.save_file(state_dict(net, "layers.{}"), tmp_path / "net.safetensors")
    assert_same(load(tmp_path / "net.safetensors", activation="relu"), net)


def test_files_of_torch(torch, tmp_path):
    saving = pytest.importorskip("safetensors.torch", reason="safetensors is not installed (extra 'safetensors')")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    saving.save_file(model.state_dict(), tmp_path / "net.safetensors")
    assert_same(load(tmp_path / "net.safetensors", activation="tanh"), from_torch(model))
    saving.save_file(model.bfloat16().state_dict(), tmp_path / "half.safetensors")
    expected = from_torch(model, dtype="float32")
    assert_same(load(tmp_path / "half.safetensors", activation="tanh", dtype="float32"), expected)


# --- initial weights ------------------------------------------------------------------------------------

WIDTHS = (400, 300, 500)


def initial_networks(library):
    """Networks as a library makes them, with the variances of weights and biases that the page states."""
    uneven = [2 / (m + n) for m, n in itertools.pairwise(WIDTHS)]
    glorot = [m * v for m, v in zip(WIDTHS, uneven, strict=False)]
    if library == "torch":
        nn = installed_torch().nn
        layers = [nn.Linear(m, n) for m, n in itertools.pairwise(WIDTHS)]
        yield from_torch(nn.Sequential(*layers)), [1 / 3, 1 / 3], [1 / (3 * m) for m in WIDTHS[:-1]]
    elif library == "keras":
        keras = installed_keras()
        model = keras.Sequential([keras.layers.Input(WIDTHS[:1]), *(keras.layers.Dense(n) for n in WIDTHS[1:])])
        yield from_keras(model), glorot, [0, 0]
    elif library == "flax":
        nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
        import jax
        from flax import linen

        model = linen.Sequential([linen.Dense(n) for n in WIDTHS[1:]])
        params = model.init(jax.random.PRNGKey(0), np.ones((1, WIDTHS[0]), "float32"))
        yield from_flax(params, activation="linear"), [1, 1], [0, 0]
        layers = nnx.List([nnx.Linear(m, n, rngs=nnx.Rngs(0)) for m, n in itertools.pairwise(WIDTHS)])
        params = nnx.to_pure_dict(nnx.state(layers, nnx.Param))
        yield from_flax(params, activation="linear"), [1, 1], [0, 0]
    else:
        neural = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed (extra 'data')")
        rng = np.random.default_rng(0)
        inputs, outputs = rng.standard_normal((2, WIDTHS[0])), rng.standard_normal((2, WIDTHS[-1]))
        for activation, part in (("relu", 1), ("logistic", 3)):
            options = {"solver": "sgd", "learning_rate_init": 1e-12, "max_iter": 1, "random_state": 0}
            model = neural.MLPRegressor(hidden_layer_sizes=WIDTHS[1:-1], activation=activation, **options)
            net = from_sklearn(fitted(model, inputs, outputs))
            yield net, [v / part for v in glorot], [v / part for v in uneven]


@pytest.mark.parametrize("library", ["torch", "keras", "flax", "scikit-learn"])
def test_initial_variances(library):
    for net, weight_vars, bias_vars in initial_networks(library):
        for W, b, weight_var, bias_var in zip(net.weights, net.biases, weight_vars, bias_vars, strict=True):
            assert abs(W.shape[1] * np.mean(W**2) / weight_var - 1) < 5 * np.sqrt(2 / W.size)
            assert abs(np.mean(b**2) - bias_var) <= 5 * np.sqrt(2 / b.size) * bias_var


# --- the page -------------------------------------------------------------------------------------------

BLOCKS = re.findall(r"^```python\n(.*?)^```(?:\n+```text\n(.*?)^```)?", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize(("code", "printed"), BLOCKS, ids=range(len(BLOCKS)))
def test_page(code, printed, tmp_path, monkeypatch, capsys):
    """The examples run, and print what the page says."""
    needed = set(re.findall(r"^(?:import|from) (\w+)", code, re.M))
    if missing := [name for name in sorted(needed) if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    for library, prepare in (("torch", installed_torch), ("keras", installed_keras)):
        if library in needed:
            prepare()
    monkeypatch.chdir(tmp_path)
    exec(compile(code, PAGE.name, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == printed


def test_readers_are_of_the_top_level():
    assert BLOCKS
    for name in readers.__all__:
        assert getattr(ff, name) is getattr(readers, name)
        assert name in PAGE.read_text(encoding="utf-8")
