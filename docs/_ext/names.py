"""Names in the reference: each is described in one place, found by its short name, and none is left out."""

import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from pydoc import locate
from typing import Any

from docutils import nodes
from public import MODULES
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

import fisherfield

logger = logging.getLogger(__name__)

# Names of the package itself that pages describe one by one; the modules that define them need not do so again.
ONE_BY_ONE = {
    name
    for page in (Path(__file__).resolve().parents[1] / "api").glob("*.md")
    for name in re.findall(r"^\.\. auto(?:class|exception|function):: (\w+)$", page.read_text(encoding="utf-8"), re.M)
}


def is_described(module: str, name: str, described: Iterable[str]) -> bool:
    """Whether one of the described names is this object; modules hand objects on, so that it has several names."""
    value = getattr(importlib.import_module(module), name)
    return any(locate(other) is value for other in described if other.endswith(f".{name}"))


def skip_member(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out of a module's page what has an entry of its own."""
    return True if what == "module" and name in ONE_BY_ONE and getattr(fisherfield, name, None) is value else None


def find(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.Element) -> nodes.Element | None:
    """Resolve a reference by the end of its name, where only one object has it: modules hand names on."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains.python_domain.objects
    parts = node["reftarget"].split(".")
    for first in range(len(parts)):
        ending = "." + ".".join(parts[first:])
        found = {name for name, entry in objects.items() if name.endswith(ending) and not entry.aliased}
        if len(found) == 1:
            name = found.pop()
            return make_refnode(app.builder, node["refdoc"], objects[name].docname, objects[name].node_id, text, name)
        if found:
            return None
    return None


def check_complete(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that no page describes."""
    described = set(env.domains.python_domain.objects)
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            if not is_described(module, name, described):
                logger.warning("%s.%s is described on no page of docs/api", module, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what is above."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("missing-reference", find)
    app.connect("env-check-consistency", check_complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
