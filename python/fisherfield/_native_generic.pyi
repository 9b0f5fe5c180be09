# Signatures of the compiled kernels, the same in every build; each function takes float64 or float32, never both.
from collections.abc import Sequence

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
