"""The stand-in for CuPy refuses what CuPy refuses, and answers as it does."""

import ast
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

HOST = np.arange(12.0).reshape(3, 4)


@pytest.fixture(scope="module")
def cupy(cuda):
    if not hasattr(cuda, "simulation"):
        pytest.skip("CuPy itself is imported, it needs no stand-in")
    return cuda


@pytest.fixture
def x(cupy):
    return cupy.asarray(HOST)


@pytest.fixture
def settings(cupy, monkeypatch):
    """Settings of the simulation, to be changed for one test."""

    class Changed:
        def __setattr__(self, name, value):
            monkeypatch.setattr(cupy.simulation.settings, name, value)

    return Changed()


# --- the table ----------------------------------------------------------------------------------------------


def test_the_table_is_that_of_the_installed_cupy():
    """Which functions there are, and their parameters, in order; CuPy says so without a GPU."""
    tests = Path(__file__).parent
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # may name the stand-in
    result = subprocess.run(
        [sys.executable, str(tests / "cupy_table.py")], capture_output=True, text=True, env=environment
    )
    if "No module named 'cupy'" in result.stderr:
        pytest.skip("needs CuPy: pip install fisherfield[cuda13]")
    assert result.returncode == 0, result.stderr
    written = (tests / "simulated" / "cupy" / "signatures.pyi").read_text(encoding="utf-8")
    assert ast.dump(ast.parse(written)) == ast.dump(ast.parse(result.stdout))


def test_functions_of_our_own_are_called_as_the_table_says(cupy):
    from cupy import _table
    from cupyx.scipy.linalg import solve_triangular
    from cupyx.scipy.sparse.linalg import eigsh

    own = {
        "functions": [cupy.array, cupy.asarray, cupy.asnumpy, cupy.take, cupy.get_array_module],
        "linalg": [cupy.linalg.eigh, cupy.linalg.eigvalsh],
        "ndarray": [cupy.ndarray.get, cupy.ndarray.set, cupy.ndarray.astype, cupy.ndarray.copy, cupy.ndarray.view],
        "cublas": [cupy.cublas.gemm, cupy.cublas.gemv, cupy.cublas.syrk],
        "scipy_linalg": [solve_triangular],
        "sparse_linalg": [eigsh],
    }
    for section, functions in own.items():
        for function in functions:
            expected = _table.SIGNATURES[section][function.__name__]
            parameters = inspect.signature(function).parameters.values()
            assert [(p.name, p.kind) for p in parameters] == [(p.name, p.kind) for p in expected.parameters.values()]


# --- no mixing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x + HOST,
        lambda x: HOST + x,
        lambda x: x * np.array(2.0),
        lambda x: x @ HOST.T,
        lambda x: HOST.T @ x,
        lambda x: np.add(x, [1.0, 2.0, 3.0, 4.0]),
        lambda x: np.add(x, HOST),
        lambda x: np.sqrt(x, out=HOST.copy()),
        lambda x: np.add(HOST, HOST, out=x),
        lambda x: np.where(HOST > 1, x, 0.0),
        lambda x: np.concatenate([x, HOST]),
        lambda x: np.einsum("ij,ij->i", x, HOST),
        lambda x: np.searchsorted(x[0], HOST[0]),
    ],
)
def test_arrays_of_the_host_are_refused(x, use):
    with pytest.raises(TypeError):
        use(x)


@pytest.mark.parametrize("use", [np.asarray, np.ascontiguousarray, lambda x: np.array([x[0, 0], x[0, 1]])])
def test_nothing_comes_to_the_host_implicitly(x, use):
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        use(x)


def test_assignment_refuses_arrays_of_the_host(x):
    with pytest.raises(ValueError, match="non-scalar"):
        x[...] = HOST
    with pytest.raises(ValueError, match="non-scalar"):
        x[0] = [1.0, 2.0, 3.0, 4.0]
    x[0], x[1:] = 5.0, x[:2]
    np.testing.assert_array_equal(x.get()[:2], [[5.0] * 4, [5.0] * 4])


def test_scalars_mix(x):
    for scalar in (2, 2.0, np.float64(2.0)):
        np.testing.assert_array_equal((scalar * x).get(), 2 * HOST)
    assert (np.float32(2) * x.astype(np.float32)).dtype == np.float32


# --- what CuPy lacks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x: np.sum(x, where=x > 1),
        lambda x: np.max(x, initial=0.0),
        lambda x: x.sum(initial=0.0),
        lambda x: np.einsum("ij->i", x, out=x[:, 0]),
        lambda x: np.sqrt(x, order="C"),
        lambda x: np.sort(x, stable=True),
        lambda x: np.linalg.cholesky(x[:, :3], upper=True),
        lambda x: np.full((2, 2), 1.0, like=x),  # NumPy hands on a keyword that CuPy does not know
        lambda x: np.ones(2, like=x),
        lambda x: np.eye(2, like=x),
        lambda x: x.astype(np.float32, casting="safe"),
    ],
)
def test_keywords_that_cupy_lacks(x, use):
    with pytest.raises(TypeError):
        use(x)


@pytest.mark.parametrize(
    "use", [np.geomspace, np.spacing, np.linalg.matrix_norm, np.nanquantile, lambda x: special.jv(1.0, x)]
)
def test_functions_that_cupy_lacks(x, use):
    with pytest.raises(TypeError):
        use(*([x] if use is not np.geomspace else [x[0, 1], x[1, 1]]))


@pytest.mark.parametrize("use", [np.maximum.reduce, np.logical_and.reduce, np.maximum.accumulate])
def test_reductions_of_ufuncs_that_cupy_lacks(x, use):
    with pytest.raises(NotImplementedError, match="not supported yet"):
        use(x)


def test_attributes_that_cupy_lacks(x):
    for name in ("setflags", "ctypes"):
        with pytest.raises(AttributeError):
            getattr(x, name)
    with pytest.raises(AttributeError):
        x.note = 1
    with pytest.raises(TypeError, match="indices"):
        [1, 2, 3][x[0, 1]]


# --- what it answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        np.sum,
        np.max,
        np.linalg.norm,
        np.count_nonzero,
        lambda x: x[1, 2],
        lambda x: x.mean(),
        lambda x: np.array_equal(x, x),
        lambda x: np.einsum("ij,ij->", x, x),
    ],
)
def test_numbers_are_arrays_of_no_dimensions(cupy, x, use):
    found = use(x)
    assert isinstance(found, cupy.ndarray)
    assert found.shape == ()
    assert float(found) == float(use(HOST))


def test_functions_of_numpy_answer_on_the_device(cupy, x):
    for found, expected in [
        (np.square(x, dtype=np.float32), np.square(HOST, dtype=np.float32)),
        (np.concatenate([x, x], axis=1), np.concatenate([HOST, HOST], axis=1)),
        (np.zeros((2, 3), np.float32, like=x), np.zeros((2, 3), np.float32)),
        (np.identity(3, like=x), np.eye(3)),
        (np.linalg.qr(x.T)[1], np.linalg.qr(HOST.T)[1]),
        (x[x > 3], HOST[HOST > 3]),
        (x[:, np.array([2, 0])], HOST[:, [2, 0]]),
        (special.expit(x), special.expit(HOST)),
        (np.add.reduce(x), HOST.sum(axis=0)),
    ]:
        assert isinstance(found, cupy.ndarray)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.get(), expected)


def test_views_share_memory(cupy, x):
    x[1].reshape(2, 2).T[0, 1] = 100.0
    assert float(x[1, 2]) == 100.0
    assert x[1].data.ptr == x.data.ptr + 32
    assert np.ascontiguousarray(x, like=x) is x
    assert cupy.asarray(x) is x


def test_outputs_are_written(x):
    out = np.empty_like(x)
    assert np.multiply(x, 2.0, out=out) is out
    np.testing.assert_array_equal(out.get(), 2 * HOST)


def test_fresh_memory_is_not_zero(cupy, x):
    assert np.isnan(cupy.empty((2, 3)).get()).all()
    assert np.isnan(np.empty((2, 3), like=x).get()).all()


def test_failures_of_linear_algebra_are_not_errors(cupy):
    import cupyx

    indefinite = cupy.asarray(np.diag([1.0, -1.0]))
    assert np.isnan(np.linalg.cholesky(indefinite).get()).any()
    assert np.isnan(np.linalg.solve(0 * indefinite, indefinite).get()).all()
    with cupyx.errstate(linalg="raise"), pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(indefinite)


def test_eigenvectors_of_operators(cupy):
    from cupyx.scipy.sparse.linalg import LinearOperator, eigsh

    values = cupy.arange(1.0, 41.0)
    operator = LinearOperator((40, 40), matvec=lambda v: values * v.ravel(), dtype=np.float64)
    start = cupy.ones(40)
    found, vectors = eigsh(operator, k=3, which="LA", v0=start)
    np.testing.assert_allclose(found.get(), [38.0, 39.0, 40.0])
    np.testing.assert_allclose((operator @ vectors).get(), (found * vectors).get(), atol=1e-9)
    assert np.isnan(start.get()).all()  # CuPy works in it
    with pytest.raises(ValueError, match="which"):
        eigsh(operator, which="SM")


def test_pickling_goes_through_the_host(x):
    copy = pickle.loads(pickle.dumps(x))
    assert copy.data.ptr != x.data.ptr
    np.testing.assert_array_equal(copy.get(), HOST)


# --- devices ------------------------------------------------------------------------------------------------


def test_arrays_stay_on_their_device(cupy, x):
    with cupy.cuda.Device(1):
        y = cupy.asarray(HOST)
        assert y.device.id == 1
        with pytest.raises(ValueError, match="different from the current device"):
            np.square(x)
        cupy.simulation.transfers.clear()
        assert cupy.asarray(x).device.id == 1
        assert cupy.simulation.transfers.between_devices == [HOST.nbytes]
    for mixed in (lambda: x + y, lambda: np.concatenate([x, y]), lambda: x.__setitem__(0, y[0])):
        with pytest.raises(ValueError, match="different from the current device"):
            mixed()
    assert y[1:].device.id == 1  # a view needs no kernel


def test_devices_that_are_not_there(cupy, settings):
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="invalid device"):
        cupy.cuda.Device(2).use()
    settings.devices = 0
    assert not cupy.cuda.is_available()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="no CUDA-capable device"):
        cupy.zeros(1)


def test_memory_runs_out(cupy, settings):
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes()
    held = cupy.zeros(1000)
    view = held[10:]
    assert pool.used_bytes() == before + 8000
    settings.memory = before + 10_000
    assert cupy.cuda.Device().mem_info == (2000, before + 10_000)
    with pytest.raises(MemoryError, match="Out of memory allocating 4,000 bytes") as error:
        cupy.zeros(500)
    assert type(error.value) is cupy.cuda.memory.OutOfMemoryError
    del held
    assert pool.used_bytes() == before + 8000
    del view
    assert pool.used_bytes() == before


def test_transfers_are_counted(cupy, x):
    transfers = cupy.simulation.transfers
    transfers.clear()
    (2 * x + np.square(x)).sum(axis=0)
    assert transfers == type(transfers)()
    float(x[0, 0])
    x[1:].get()
    cupy.asarray(HOST[0])
    x[:, np.array([1, 2])]
    assert (transfers.to_host, transfers.to_device) == ([8, 64], [32, 16])


# --- kernels ------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(cupy):
    return cupy.RawModule(code="// compiled for the host").get_function("sum_of_squares_float64")


def test_a_kernel_runs(cupy, kernel, settings):
    seeds = np.random.default_rng(0).standard_normal((3, 5, 7))
    for reversed_order in (False, True):
        settings.reversed_order = reversed_order
        out = cupy.empty((5, 7))
        kernel((8,), (32,), (3, 5, 7, cupy.asarray(seeds), out))
        np.testing.assert_allclose(out.get(), np.square(seeds).sum(axis=0), rtol=1e-14)


def test_launches_that_the_driver_refuses(cupy, kernel):
    arguments = (3, 5, 7, cupy.zeros((3, 5, 7)), cupy.zeros((5, 7)))
    refused = cupy.cuda.driver.CUDADriverError
    for grid, block, shared in [((0,), (32,), 0), ((1,), (1025,), 0), ((1,), (32, 64), 0), ((1,), (32,), 2**16)]:
        with pytest.raises(refused, match="invalid argument"):
            kernel(grid, block, arguments, shared_mem=shared)
    with pytest.raises(refused, match="invalid argument"):
        kernel.max_dynamic_shared_size_bytes = 228 * 1024
    kernel.max_dynamic_shared_size_bytes = 2**16
    kernel((1,), (32,), arguments, shared_mem=2**16)
    with pytest.raises(TypeError, match="Unsupported type"):
        kernel((1,), (32,), (3, 5, 7, np.zeros((3, 5, 7)), None))
    with pytest.raises(refused, match="not found"):
        cupy.RawModule(code="//").get_function("kernel<float>")
    with pytest.raises(refused, match="no kernel"):
        cupy.RawModule(code="//").get_function("nothing")((1,), (1,), ())
    with pytest.raises(TypeError, match="Exactly one"):
        cupy.RawModule()
