"""The CUDA kernels compile: by NVRTC, as CuPy does on first use, and by nvcc, as a build with FISHERFIELD_CUDA does."""

import importlib.util
import shutil
import subprocess

import pytest

from child import output_of
from fisherfield.devices import cuda_kernels

TARGETS = ["80", "90"]

WITH_NVRTC = """
from pathlib import Path
from cupy_backends.cuda.libs import nvrtc
source = Path(r"{folder}", "kernels.cu").read_text()
program = nvrtc.createProgram(source, "kernels.cu", (), ())
try:
    nvrtc.compileProgram(program, ("-std=c++17", "-arch=sm_{target}", "-I{folder}"))
finally:
    print(nvrtc.getProgramLog(program))
cubin = nvrtc.getCUBIN(program)
print(*sorted(name for name in {names} if name.encode() not in cubin), "missing")
"""


def kernel_names():
    layers = (
        "forward_epilogue tangent_epilogue backward_epilogue layer_jacobian sum_of_squares weighted_seeds seed_products"
    )
    names = [f"{name}_{dtype}" for name in layers.split() for dtype in ("float64", "float32")]
    names += ["pair_closed_float64", "pair_series_float64", "pair_dual_float64"]
    return names + [f"gram_{part}_{mode}" for part in ("whole", "inputs", "seeds") for mode in cuda_kernels.TILES]


@pytest.mark.parametrize("target", TARGETS)
def test_nvrtc(target):
    if importlib.util.find_spec("cupy_backends") is None:
        pytest.skip("CuPy is not installed (extra 'cuda13')")
    code = WITH_NVRTC.format(folder=cuda_kernels.source_folder(), target=target, names=kernel_names())
    log = output_of(code)
    assert log.split() == ["missing"], log  # no warning, no kernel that is not there


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_nvcc(target, tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not here")
    folder, out = cuda_kernels.source_folder(), tmp_path / "kernels.cubin"
    options = ["-std=c++17", "-Werror", "all-warnings", f"-I{folder}", f"-arch=sm_{target}", "-Xptxas", "-v"]
    command = [nvcc, *options, "-cubin", str(folder / "kernels.cu"), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spills = [line for line in done.stderr.splitlines() if "spill" in line and "0 bytes spill stores" not in line]
    assert spills == []  # the Gram tile's accumulators stay in registers
