"""Write down which functions CuPy has and how they are called: what signatures.pyi holds, from an installed CuPy.

``python tests/cupy_table.py > tests/simulated/cupy/signatures.pyi`` and format it.
"""

import inspect
import re
from collections.abc import Iterator

import numpy as np

HEADER = '"""What CuPy 14 has of NumPy\'s and SciPy\'s functions, and how they are called; made by cupy_table.py."""'
# they hand arrays to functions of the caller, or are no functions of arrays
LEFT_OUT = {"apply_along_axis", "apply_over_axes", "fromfunction", "get_printoptions", "piecewise", "show_config"}
OWN = ("asnumpy", "get_array_module")  # of CuPy alone
CUBLAS = ("gemm", "gemv", "syrk")


def table() -> str:
    """The file, from the CuPy that is installed."""
    import cupy
    import cupy.cublas
    import cupyx.scipy.linalg
    import cupyx.scipy.sparse.linalg
    import cupyx.scipy.special
    from cupyx.scipy import special

    ufuncs = sorted(name for name in shared(cupy, np) if isinstance(getattr(cupy, name), cupy.ufunc))
    functions = sorted([*set(shared(cupy, np)).difference(ufuncs, LEFT_OUT), *OWN])
    special_ufuncs = sorted(name for name in public(special) if isinstance(getattr(special, name), cupy.ufunc))
    methods = sorted(name for name in public(cupy.ndarray) if inspect.isroutine(getattr(cupy.ndarray, name)))
    sections = {
        "ufuncs": [f"def {name}{ufunc(getattr(cupy, name))}: ..." for name in ufuncs],
        "functions": [of(getattr(cupy, name), name) for name in functions],
        "linalg": [of(getattr(cupy.linalg, name), name) for name in sorted(shared(cupy.linalg, np.linalg))],
        "special": [f"def {name}{ufunc(getattr(special, name))}: ..." for name in special_ufuncs],
        "ndarray": [of(getattr(cupy.ndarray, name), name) for name in methods],
        "cublas": [of(getattr(cupy.cublas, name), name) for name in CUBLAS],
        "scipy_linalg": [of(cupyx.scipy.linalg.solve_triangular, "solve_triangular")],
        "sparse_linalg": [of(cupyx.scipy.sparse.linalg.eigsh, "eigsh")],
    }
    text = [HEADER]
    for section, lines in sections.items():
        text += ["", f"class {section}:", *(f"    {line}" for line in lines)]
    return "\n".join(text) + "\n"


def public(module) -> Iterator[str]:
    return (name for name in dir(module) if not name.startswith("_"))


def shared(module, other) -> list[str]:
    """Functions that both have, each its own."""
    return [
        name
        for name in public(module)
        if callable(getattr(module, name))
        and not isinstance(getattr(module, name), type)
        and getattr(module, name) is not getattr(other, name, getattr(module, name))
    ]


def ufunc(function) -> str:
    """How a ufunc is called: positional inputs, outputs by position or name, and what CuPy takes besides."""
    inputs = ", ".join(f"x{i}" for i in range(1, function.nin + 1))
    return f"({inputs}, /, out=..., *, dtype=..., casting=...)"


def of(function, name: str) -> str:
    """How a function is called, from its signature or, where it is compiled, from its documentation."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        return f"def {name}({documented(function.__doc__)}): ..."
    plain = [p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else ...) for p in parameters]
    return f"def {name}{str(inspect.Signature(plain)).replace('=Ellipsis', '=...')}: ..."


def documented(text: str) -> str:
    """``_ndarray_base.sum(self, axis=None, int n=0) -> x`` to ``self, axis=..., n=...``."""
    found = re.match(r"[\w.]+\((.*)\)(?: -> .*)?$", text.strip().splitlines()[0])
    assert found, text
    parameters = []
    for parameter in re.split(r",\s*", found[1]):
        name, has_default, _ = parameter.partition("=")
        parameters.append(name.split()[-1] + ("=..." if has_default else ""))
    return ", ".join(parameters)


if __name__ == "__main__":
    print(table(), end="")
