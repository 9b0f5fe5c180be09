"""Running code in a fresh interpreter, for what depends on the environment or on the history of a process."""

import os
import subprocess
import sys
from pathlib import Path

import fisherfield

PACKAGE_PARENT = str(Path(fisherfield.__file__).resolve().parents[1])
HERE = str(Path(__file__).resolve().parent)


def run_python(*arguments, **environment):
    """Run the interpreter with the package and the tests importable; None removes a variable."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([PACKAGE_PARENT, HERE])}
    for name, value in environment.items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    return subprocess.run(
        [sys.executable, *arguments], env=variables, capture_output=True, text=True, timeout=300, check=False
    )


def output_of(code, **environment):
    """What a piece of code prints; its failure is the test's failure."""
    done = run_python("-W", "error", "-c", code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start_python(code, **environment):
    """Start a piece of code and return its process; lines that it prints come one by one."""
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([PACKAGE_PARENT, HERE]), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env=variables | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
