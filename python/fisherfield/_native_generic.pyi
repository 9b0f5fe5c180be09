# Signatures of the compiled kernels, the same in every build; each function takes float64 or float32, never both.
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ._validate import FloatArray
from .activations import Activation as _Activation

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
) -> None: ...
def layer_backward(
    next: FloatArray, W: FloatArray, slope: FloatArray, out: FloatArray, begin: int, end: int
) -> None: ...
def gram_tile(layers: Sequence[_Layer], scale: float, out: FloatArray, rows: _Range, columns: _Range) -> None: ...
def layer_jacobian(A: FloatArray, B: FloatArray, bias: bool, out: FloatArray, offset: int) -> None: ...
def layer_diagonal(
    A: FloatArray, B: FloatArray, bias: bool, scale: float, out: FloatArray, begin: int, end: int
) -> None: ...

_Float64Array = npt.NDArray[np.float64]

def gauss_hermite(n: int) -> tuple[_Float64Array, _Float64Array]: ...
def gauss_legendre(n: int) -> tuple[_Float64Array, _Float64Array]: ...
def moments(
    activation: _Activation, q: float, tol: float
) -> tuple[float, float, float, float, float, float, float, int]: ...
def pair_moments(
    activation: _Activation, a: float, b: float, c: float, tol: float, direct: bool = ...
) -> tuple[float, float, float, int]: ...
def mean_squares(x: _Float64Array) -> _Float64Array: ...

class DepthRecursion:
    def __init__(
        self,
        activations: list[_Activation],
        weight_vars: Sequence[float],
        bias_vars: Sequence[float],
        qhat0: Sequence[float],
        tol: float,
    ) -> None: ...
    @property
    def single(self) -> tuple[_Float64Array, _Float64Array, _Float64Array]: ...
    @property
    def accuracy(self) -> tuple[float, int]: ...
    def equicorrelated(self, overlap: float) -> tuple[_Float64Array, _Float64Array, _Float64Array, float, int]: ...
    def dual_tile(
        self,
        x: _Float64Array,
        out: _Float64Array,
        row: int,
        rows: int,
        column: int,
        columns: int,
        width: Sequence[float],
        bias: Sequence[float],
    ) -> tuple[_Float64Array, float, int]: ...
    def fisher_rao_norms(self) -> tuple[_Float64Array, float, int]: ...
