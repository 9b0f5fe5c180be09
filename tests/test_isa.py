"""Every build of the kernels that this processor can run gives right answers."""

import json
import re
from pathlib import Path

import pytest

import fisherfield
from child import HERE, output_of, run_python
from fisherfield import _cpu, _native

LEVELS = _native.usable_levels()
# Measured, against the twin: Jacobian, dual, float32, kernel edges, likelihoods, tangent kernel; and that no bit
# depends on how the work is cut.
# Theory, against closed forms and double integrals: Gauss rules, moments, pairs, the recursion over depth, data.
# (test_activations.py itself goes through the levels.)
SUBSET = {
    "test_fisher.py": (
        "test_everything_follows_from_the_jacobian",
        "test_float32",
        "test_block_edges_of_the_kernels",
    ),
    "test_gram.py": ("test_many_blocks", "test_many_blocks_between_two_sets"),
    "test_kinds.py": ("test_exact",),
    "test_metrics.py": ("test_ntk", "test_ntk_parametrisation"),
    "test_threads.py": (
        "test_any_case",
        "test_steps_of_a_residual_block_do_not_depend_on_the_cut",
        "test_activations_do_not_depend_on_the_cut",
    ),
    "test_quadrature.py": (
        "test_gauss_legendre",
        "test_moments_against_closed_forms",
        "test_pairs_of_smooth_functions_against_brute_force",
        "test_pairs_up_to_full_correlation",
    ),
    "test_theory.py": (
        "test_relu_in_closed_form",
        "test_data_against_the_recursion_of_each_pair",
        "test_fisher_rao_norm_of_homogeneous_networks",
        "test_data_in_a_residual_network",
    ),
}


def test_the_best_level_is_in_use(request):
    wanted = output_of("import os; print(os.environ.get('FISHERFIELD_ISA', ''))").strip()
    assert _native.level == (wanted or LEVELS[-1])
    assert _native.kernels.isa == _native.level
    assert _native.kernels.__name__ == f"fisherfield._native_{_native.level}"
    assert set(LEVELS) <= set(_cpu.supported_levels())


def test_every_feature_a_build_may_use_is_detected():
    """The v3 builds may hold instructions of each of these extensions (the kernel calls lzcnt abm)."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(re.findall(r"^flags\s*:(.*)", cpuinfo.read_text(), re.M)[0].split()) if cpuinfo.exists() else set()
    if "sse2" not in flags:
        pytest.skip("needs Linux on x86-64")
    v3 = {"avx2", "fma", "bmi1", "bmi2", "abm", "f16c", "movbe"} <= flags
    assert ("v3" in _cpu.supported_levels()) == v3


@pytest.mark.parametrize("level", LEVELS)
def test_level(level):
    assert (
        output_of("from fisherfield import _native; print(_native.kernels.isa)", FISHERFIELD_ISA=level) == f"{level}\n"
    )
    if level == _native.level:
        return  # the rest of the suite runs on it
    done = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-W", "error", "--rootdir", HERE,
        *(f"{HERE}/{file}::{name}" for file, names in SUBSET.items() for name in names),
        FISHERFIELD_ISA=level,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


def test_levels_agree():
    """The same numbers to rounding, whatever the vector width, measured and predicted."""
    code = (
        "import json, numpy as np, fisherfield as ff;"
        "arch = ff.MLP(widths=(20, 30, 25, 2), bias_var=0.5);"
        "X = np.random.default_rng(0).standard_normal((15, 20));"
        "matrices = ff.Fisher(arch.sample(seed=0), X).dual(), ff.mean_field(arch, X).dual();"
        "print(json.dumps([np.linalg.eigvalsh(matrix).tolist() for matrix in matrices]))"
    )
    first, *others = (json.loads(output_of(code, FISHERFIELD_ISA=level)) for level in LEVELS)
    for other in others:
        for values, expected in zip(other, first, strict=True):
            assert values == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("wrong", ["v9", "V3", "avx2", " "])
def test_unknown_level(wrong):
    done = run_python("-c", "import fisherfield", FISHERFIELD_ISA=wrong)
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"ImportError: FISHERFIELD_ISA={wrong!r}: expected one of {', '.join(LEVELS)}")
    assert "Unset the variable" in message


def test_unsupported_level(monkeypatch):
    monkeypatch.setattr(_cpu, "supported_levels", lambda: ["v2"])
    monkeypatch.setattr(_native, "_built_levels", lambda: ["v2", "v3"])
    monkeypatch.setenv("FISHERFIELD_ISA", "v3")
    with pytest.raises(ImportError, match="FISHERFIELD_ISA='v3': expected one of v2 "):
        _native._choose()
    monkeypatch.setattr(_cpu, "supported_levels", list)
    with pytest.raises(ImportError, match=r"none of the installed kernel builds \(v2, v3\) runs on this"):
        _native._choose()


def test_empty_means_choose():
    assert output_of("from fisherfield import _native; print(_native.level)", FISHERFIELD_ISA="") == f"{LEVELS[-1]}\n"
    assert fisherfield.__name__ == "fisherfield"
