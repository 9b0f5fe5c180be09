"""The code itself: types, stubs, style, who may import whom, the cost of an import, the examples."""

import ast
import doctest
import importlib
import importlib.util
import pkgutil
import re
import sys

import pytest

import fisherfield
from child import output_of, run_python
from fisherfield import _native
from repository import needed

ROOT = needed("python/fisherfield", "pyproject.toml", "bench")
SOURCES = ROOT / "python" / "fisherfield"
BUILDS = {f"_native_{level}" for level in ("generic", "v2", "v3", "v4")}


def module_names():
    """Every Python module of the package, without the package's own name."""
    found = (path.relative_to(SOURCES).with_suffix("") for path in sorted(SOURCES.rglob("*.py")))
    names = (".".join(part for part in path.parts if part != "__init__") for path in found)
    return [name for name in names if name]


MODULES = module_names()

# --- tools ----------------------------------------------------------------------------------------------


def tool(name, *arguments):
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed (extra 'lint')")
    return run_python("-m", name, *arguments)


def test_ruff():
    for mode in (["check"], ["format", "--check"]):
        done = tool(
            "ruff", *mode, "--no-cache", *(str(ROOT / folder) for folder in ("python", "tests", "bench", "docs"))
        )
        assert done.returncode == 0, done.stdout


def test_types():
    done = tool("mypy", "--config-file", str(ROOT / "pyproject.toml"), str(SOURCES))
    assert done.returncode == 0, done.stdout


def test_stubs_name_what_the_compiled_modules_hold():
    modules = [f"fisherfield.{name}" for name in ("_cpu", f"_native_{_native.level}")]
    done = tool("mypy.stubtest", "--mypy-config-file", str(ROOT / "pyproject.toml"), *modules)
    assert done.returncode == 0, done.stdout


def functions_of(tree):
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_stubs_name_the_parameters_of_the_compiled_functions():
    """What stubtest cannot see: pybind11 gives the parameters in the docstring alone."""
    stub = functions_of(ast.parse((SOURCES / "_native_generic.pyi").read_text()))
    compiled = [name for name in dir(_native.kernels) if type(getattr(_native.kernels, name)).__name__ in
                ("builtin_function_or_method", "pybind11_detail_function")]  # fmt: skip
    assert len(compiled) >= 5
    for name in compiled:
        signature = re.search(rf"{name}\((.*)\) -> ", getattr(_native.kernels, name).__doc__)[1]
        names = re.findall(r"(?:^|, )(\w+):", signature)
        assert [argument.arg for argument in stub[name].args.args] == names, name


def test_every_build_has_a_stub():
    assert {path.stem for path in SOURCES.glob("_native_*.pyi")} == BUILDS


# --- rooms ----------------------------------------------------------------------------------------------

GROUND = {
    "_config", "_engines", "_executor", "_memory", "_native", "_cpu", "_validate", "activations", "devices",
    "eigenpairs", "estimators", "lanczos", "likelihoods", "spectrum", "statistics", *BUILDS,
}  # fmt: skip
ENSEMBLE = {"architecture"}  # drawn from by the measuring side, averaged over by the theory
MEASURING = {
    "network", "factors", "curvature", "unitwise", "linearized", "products", "costs", "gram", "gramfile", "panels",
    "top_eigenpairs", "metric", "matrixfree", "network_metric", "centered", "conditional", "fisher", "features",
    "tangent", "diagonal", "losses", "solve",
}  # fmt: skip
THEORY = {"theory"}
LEARNING = {"learning"}
TOP = {"__main__", "cli", "data", "experiments", "figures", "plot", "readers", "report"}
ALLOWED = [
    (GROUND, GROUND),
    (ENSEMBLE, GROUND | ENSEMBLE | MEASURING),
    (MEASURING, GROUND | ENSEMBLE | MEASURING),
    (THEORY, GROUND | ENSEMBLE | THEORY),
    (LEARNING, GROUND | ENSEMBLE | MEASURING | LEARNING),
    (TOP, GROUND | ENSEMBLE | MEASURING | THEORY | LEARNING | TOP),
]


def path_of(name):
    path = SOURCES.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported_rooms(name):
    """First component, inside the package, of everything a module imports, wherever in its code."""
    path = path_of(name)
    package = ["fisherfield", *name.split(".")][: None if path.name == "__init__.py" else -1]
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            targets = [[*base, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        else:
            continue
        rooms |= {target[1] for target in targets if target[0] == "fisherfield" and len(target) > 1}
    return rooms


@pytest.mark.parametrize("name", MODULES)
def test_imports_stay_in_their_rooms(name):
    own = name.partition(".")[0]
    rules = [allowed for rooms, allowed in ALLOWED if own in rooms]
    assert len(rules) == 1, f"{own}: give the new module a room in this test"
    assert imported_rooms(name) <= rules[0]


def test_imports_are_seen():
    assert {"_validate", "architecture"} <= imported_rooms("network")
    assert "network" in imported_rooms("architecture")  # inside a function


def module_level_imports(path):
    """Top names imported when a module is loaded (not inside functions, not for type checkers only)."""
    statements = list(ast.parse(path.read_text()).body)
    for statement in statements:
        if isinstance(statement, ast.Try):
            statements += statement.body
        if isinstance(statement, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
            yield statement.module.partition(".")[0]


@pytest.mark.parametrize("name", ["__init__", *MODULES])
def test_optional_packages_are_imported_where_used(name):
    outside = set(module_level_imports(path_of(name))) - {"fisherfield", "numpy", "scipy", "__future__"}
    assert outside <= sys.stdlib_module_names


# --- import ---------------------------------------------------------------------------------------------

OPTIONAL = [
    *(
        "cupy",
        "dask",
        "flax",
        "jax",
        "keras",
        "matplotlib",
        "mpi4py",
        "pandas",
        "safetensors",
        "sklearn",
        "tqdm",
        "torch",
    )
]


def test_import_is_light():
    """Beyond NumPy and SciPy, 0.3 s: the best of five, for other work on the machine is not the package's."""
    code = (
        "import time, numpy, scipy.linalg, scipy.sparse.linalg, scipy.special; start = time.perf_counter();"
        "import fisherfield; print(time.perf_counter() - start)"
    )
    assert min(float(output_of(code)) for _ in range(5)) < 0.3


def test_import_loads_no_optional_package():
    loaded = output_of(f"import fisherfield, sys; print(sorted(set({OPTIONAL}) & set(sys.modules)))")
    assert loaded == "[]\n"


# --- names and examples ---------------------------------------------------------------------------------


def public_modules():
    return [
        info.name
        for info in pkgutil.walk_packages(fisherfield.__path__, "fisherfield.")
        if not any(part.startswith("_") for part in info.name.split("."))
    ]


@pytest.mark.parametrize("name", ["fisherfield", *public_modules()])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    for owner in (
        fisherfield.MLP,
        fisherfield.ResidualMLP,
        fisherfield.Network,
        fisherfield.Fisher,
        fisherfield.Activation,
    ):
        assert any(test.examples for test in finder.find(owner)), owner.__name__


@pytest.mark.parametrize("name", ["fisherfield", *public_modules()])
def test_all_names_exist(name):
    module = importlib.import_module(name)
    assert sorted(set(module.__all__)) == sorted(module.__all__)
    for exported in module.__all__:
        assert getattr(module, exported).__doc__, f"{name}.{exported} has no docstring"
