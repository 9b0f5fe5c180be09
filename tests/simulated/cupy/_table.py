"""How CuPy's functions are called: signatures.pyi, read."""

import ast
import inspect
from pathlib import Path

KINDS = inspect.Parameter


def read() -> dict[str, dict[str, inspect.Signature]]:
    """Signatures of the functions of every section."""
    tree = ast.parse((Path(__file__).parent / "signatures.pyi").read_text(encoding="utf-8"))
    return {
        section.name: {f.name: _signature(f.args) for f in section.body if isinstance(f, ast.FunctionDef)}
        for section in tree.body
        if isinstance(section, ast.ClassDef)
    }


def _signature(args: ast.arguments) -> inspect.Signature:
    positional = [(a.arg, KINDS.POSITIONAL_ONLY) for a in args.posonlyargs]
    positional += [(a.arg, KINDS.POSITIONAL_OR_KEYWORD) for a in args.args]
    required = len(positional) - len(args.defaults)
    parameters = [
        inspect.Parameter(name, kind, default=KINDS.empty if i < required else ...)
        for i, (name, kind) in enumerate(positional)
    ]
    if args.vararg:
        parameters.append(inspect.Parameter(args.vararg.arg, KINDS.VAR_POSITIONAL))
    parameters += [
        inspect.Parameter(a.arg, KINDS.KEYWORD_ONLY, default=KINDS.empty if default is None else ...)
        for a, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    if args.kwarg:
        parameters.append(inspect.Parameter(args.kwarg.arg, KINDS.VAR_KEYWORD))
    return inspect.Signature(parameters)


SIGNATURES = read()


def check(section: str, name: str, args: tuple, kwargs: dict) -> None:
    """Raise TypeError where CuPy's function cannot be called so."""
    try:
        SIGNATURES[section][name].bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}() {error}") from None
