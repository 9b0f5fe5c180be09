"""The repository around the tests, which an installed package does not bring: tests that need it are skipped there."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def needed(*paths):
    """Skip the module, or the test, that calls this where a path of the repository is missing; return its root."""
    for path in paths:
        if not (ROOT / path).exists():
            pytest.skip(f"needs {path} of the repository", allow_module_level=True)
    return ROOT
