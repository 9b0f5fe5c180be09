# Signatures of the compiled kernels, the same in every build; each function takes float64 or float32, never both.
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._validate import FloatArray

isa: str
compiler: str
eigen: str
activation_names: tuple[str, ...]

class Activation:
    def __init__(self, name: str, parameter: float = ...) -> None: ...
    @property
    def kinks(self) -> tuple[float, ...]: ...
    @property
    def is_odd(self) -> bool: ...
    @property
    def kind(self) -> int: ...
    @property
    def parameter(self) -> float: ...
    def evaluate(self, u: FloatArray, order: int = ...) -> tuple[FloatArray, ...]: ...

_Layer = tuple[FloatArray, FloatArray, bool]
_Range = tuple[int, int]

def layer_forward(
    h: FloatArray,
    W: FloatArray,
    b: FloatArray | None,
    phi: Activation | None,
    out: FloatArray,
    slope: FloatArray | None,
    begin: int,
    end: int,
    skip: FloatArray | None = ...,
    pre: FloatArray | None = ...,
    bend: FloatArray | None = ...,
) -> None: ...
def layer_tangent(
    h: FloatArray | None,
    dW: FloatArray | None,
    db: FloatArray | None,
    dh: FloatArray | None,
    W: FloatArray,
    slope: FloatArray | None,
    out: FloatArray,
    begin: int,
    end: int,
    dskip: FloatArray | None = ...,
    dpre: FloatArray | None = ...,
) -> None: ...
def layer_backward(
    next: FloatArray,
    W: FloatArray,
    slope: FloatArray,
    out: FloatArray,
    begin: int,
    end: int,
    skip: bool = ...,
    bend: FloatArray | None = ...,
    bend_out: FloatArray | None = ...,
) -> None: ...
def gram_tile(layers: Sequence[_Layer], scale: float, out: FloatArray, rows: _Range, columns: _Range) -> None: ...
def kernel_tile(
    row_layers: Sequence[_Layer],
    column_layers: Sequence[_Layer],
    scale: float,
    out: FloatArray,
    rows: _Range,
    columns: _Range,
) -> None: ...
def layer_jacobian(A: FloatArray, B: FloatArray, bias: bool, out: FloatArray, offset: int) -> None: ...
def layer_gradient(
    A: FloatArray,
    B: FloatArray,
    bias: bool,
    seed: int,
    scale: float,
    out: FloatArray,
    rows: _Range,
    columns: _Range,
) -> None: ...
def layer_product(
    A: FloatArray, B: FloatArray, bias: bool, v: FloatArray, out: FloatArray, begin: int, end: int
) -> None: ...
def layer_transposed_product(
    A: FloatArray, B: FloatArray, bias: bool, u: FloatArray, out: FloatArray, rows: _Range, columns: _Range
) -> None: ...
def sum_of_squares(B: FloatArray, out: FloatArray, begin: int, end: int) -> None: ...
def layer_power_sum(
    A: FloatArray, weights: FloatArray, bias: bool, power: int, out: FloatArray, rows: _Range, columns: _Range
) -> None: ...
def add_upper_curvature(
    steps: Sequence[tuple[FloatArray, FloatArray, FloatArray, bool]], out: FloatArray, begin: int, end: int
) -> None: ...
def symmetric_eigenvalues(A: npt.NDArray[np.float64], out: npt.NDArray[np.float64]) -> None: ...

_Labels = npt.NDArray[np.int64]
_DescentLayer = tuple[
    FloatArray,
    FloatArray | None,
    FloatArray,
    FloatArray | None,
    Activation | None,
    bool,
    FloatArray,
    FloatArray | None,
    FloatArray | None,
    FloatArray,
]

class Team:
    def __init__(self) -> None: ...
    def help(self) -> None: ...
    def dismiss(self) -> None: ...

def descend(
    layers: Sequence[_DescentLayer],
    workspace: tuple[FloatArray | None, npt.NDArray[np.float64], FloatArray, FloatArray],
    X: FloatArray,
    targets: FloatArray | None,
    labels: _Labels | None,
    rows: _Labels | None,
    rates: npt.NDArray[np.float64],
    momentum: float,
    limit: float,
    losses: npt.NDArray[np.float64],
    threads: int,
    team: Team,
) -> int: ...

_Float64 = npt.NDArray[np.float64]
_Accuracy = tuple[float, int]  # error reached, points of the rule

def gauss_hermite(n: int) -> tuple[_Float64, _Float64]: ...
def gauss_legendre(n: int) -> tuple[_Float64, _Float64]: ...
def moments(
    activation: object, q: float, tol: float
) -> tuple[float, float, float, float, float, float, float, int]: ...
def pair_moments(
    activation: object, a: float, b: float, c: float, tol: float, direct: bool = False
) -> tuple[float, float, float, int]: ...
def mean_squares(x: FloatArray) -> _Float64: ...

class DepthRecursion:
    def __init__(
        self,
        activations: list[Any],
        weight_vars: Sequence[float],
        bias_vars: Sequence[float],
        skips: Sequence[bool],
        qhat0: Sequence[float],
        tol: float,
    ) -> None: ...
    @property
    def single(self) -> tuple[_Float64, _Float64, _Float64]: ...
    @property
    def accuracy(self) -> _Accuracy: ...
    def equicorrelated(self, overlap: float) -> tuple[_Float64, _Float64, _Float64, float, int]: ...
    def dual_tile(
        self,
        x: FloatArray,
        out: FloatArray,
        row: int,
        rows: int,
        column: int,
        columns: int,
        width: Sequence[float],
        bias: Sequence[float],
    ) -> tuple[_Float64, float, int]: ...
    def series(self, layer: int) -> tuple[_Float64, ...] | None: ...
    def layer_pairs(
        self,
        layer: int,
        s: npt.NDArray[np.int64],
        t: npt.NDArray[np.int64],
        cov: FloatArray,
        value: FloatArray,
        first: FloatArray,
        begin: int,
        end: int,
    ) -> _Accuracy: ...
    def fisher_rao_norms(self) -> tuple[_Float64, float, int]: ...

_Complex128 = npt.NDArray[np.complex128]
_Operation = tuple[str, float, Sequence[float], Sequence[float]]

class Subordination:
    def __init__(self, point: float, operations: Sequence[_Operation]) -> None: ...
    @property
    def bound(self) -> float: ...
    def solve(
        self,
        z: _Complex128,
        stieltjes: _Complex128,
        log_potential: _Complex128,
        report: _Float64,
        begin: int,
        end: int,
    ) -> None: ...
