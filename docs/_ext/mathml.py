"""Formulas as MathML, which browsers draw themselves: no script and no network is needed to read the site.

docutils does the translation. Sphinx's own renderers load MathJax from another server, or run LaTeX.
"""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# What docutils does not know, or sets below the letter: an index of a letter with an accent and no power.
_REWRITTEN = [
    (re.compile(r"\\dots\b"), r"\\ldots"),
    (re.compile(r"(\\(?:hat|tilde|bar)\s*(?:\{[^{}]*\}|\\?[A-Za-z]+))_"), r"\1^{}_"),
]


def translate(node: nodes.Element, *, block: bool) -> str:
    """Return the MathML of a formula; one that docutils cannot translate is a warning, and stays as it is written."""
    formula = node.astext()
    for pattern, replacement in _REWRITTEN:
        formula = pattern.sub(replacement, formula)
    try:
        return str(latex2mathml.tex2mathml(formula, as_block=block))
    except MathError as error:
        logger.warning("formula %s: %s", formula, error, location=node)
        return f"<code>{formula}</code>"


def visit_inline(self: Any, node: nodes.Element) -> None:
    """Write a formula within a line."""
    self.body.append(translate(node, block=False))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.Element) -> None:
    """Write a formula on lines of its own."""
    self.body.append(f'<div class="math">{translate(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
