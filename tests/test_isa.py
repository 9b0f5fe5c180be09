"""Every build of the kernels that this processor can run gives right answers."""

import json

import pytest

import fisherfield
from child import HERE, output_of, run_python
from fisherfield import _cpu, _native

LEVELS = _native.usable_levels()
# Against the twin: Jacobian, dual, float32, kernel edges; and that no bit depends on how the work is cut.
SUBSET = (
    "test_everything_follows or test_float32 or test_block_edges or test_many_blocks or test_any_case "
    "or test_activations_do_not"
)


def test_the_best_level_is_in_use(request):
    wanted = output_of("import os; print(os.environ.get('FISHERFIELD_ISA', ''))").strip()
    assert _native.level == (wanted or LEVELS[-1])
    assert _native.kernels.isa == _native.level
    assert _native.kernels.__name__ == f"fisherfield._native_{_native.level}"
    assert set(LEVELS) <= set(_cpu.supported_levels())


@pytest.mark.parametrize("level", LEVELS)
def test_level(level):
    assert (
        output_of("from fisherfield import _native; print(_native.kernels.isa)", FISHERFIELD_ISA=level) == f"{level}\n"
    )
    if level == _native.level:
        return  # the rest of the suite runs on it
    done = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-W", "error", "--rootdir", HERE,
        "-k", SUBSET, f"{HERE}/test_fisher.py", f"{HERE}/test_gram.py", f"{HERE}/test_threads.py",
        FISHERFIELD_ISA=level,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


def test_levels_agree():
    """The same numbers to rounding, whatever the vector width."""
    code = (
        "import json, numpy as np, fisherfield as ff;"
        "net = ff.MLP(widths=(20, 30, 25, 2), bias_var=0.5).sample(seed=0);"
        "X = np.random.default_rng(0).standard_normal((15, 20));"
        "print(json.dumps(ff.Fisher(net, X).eigenvalues().tolist()))"
    )
    first, *others = (json.loads(output_of(code, FISHERFIELD_ISA=level)) for level in LEVELS)
    for other in others:
        assert other == pytest.approx(first, rel=1e-11)


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
