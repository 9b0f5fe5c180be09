"""The command line: reads options, calls the library, prints tables or JSON."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from .._config import config_text, show_config, version
from ..report import plain
from . import diagonal, isometry, learning, report, reproduce, spectrum
from .options import Answer, Run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 2 for errors of use, 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            text, record = options.run(options)
        if options.json:
            record = {"fisherfield": version(), "command": options.command, **record}
            text = json.dumps(plain(record), indent=2, allow_nan=False)
        print(text, flush=True)
    except KeyboardInterrupt:
        print("fisherfield: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, TypeError, OSError, MemoryError, ImportError) as error:
        print(f"fisherfield: error: {_as_typed(' '.join(str(error).split()), options)}", file=sys.stderr)
        return 2
    return 0


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"fisherfield: warning: {message}", file=sys.stderr)


_ARGUMENTS = {
    "folder": "data_dir",
    "inputs": "samples",
    "num_samples": "samples",
    "seed": "seeds",
    "relative_error": "error",
    "learning_rate": "rates",
}


def _as_typed(message: str, options: argparse.Namespace) -> str:
    """Put the option in the place of the argument with whose name an error begins."""

    def option(match: re.Match[str]) -> str:
        name = match[0] if match[0] in options else _ARGUMENTS.get(match[0], "")
        return f"--{name.replace('_', '-')}" if name in options else match[0]

    return re.sub(r"^\w+(?=[:\[])", option, message)


class _Parser(argparse.ArgumentParser):
    """Options spelled out, for ``--seed`` is not ``--seeds``; errors in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fisherfield",
        description="The Fisher information matrix of deep networks: mean-field theory beside measurement.",
    )
    parser.add_argument("--version", action="version", version=f"fisherfield {version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Run, summary: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example: fisherfield {name} {example}",
        )
        sub.set_defaults(run=run, command=name)
        sub.add_argument("--json", action="store_true", help="print JSON instead of tables")
        return sub

    spectrum.add_commands(command)
    isometry.add_commands(command)
    diagonal.add_commands(command)
    learning.add_commands(command)
    report.add_commands(command)
    reproduce.add_commands(command)
    command("info", _info, "versions, instruction set, threads, BLAS and CUDA", "--json")
    return parser


def _info(options: argparse.Namespace) -> Answer:
    return config_text(), show_config(as_dict=True)
