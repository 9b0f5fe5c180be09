"""HTML: every text is escaped, the style is inside the page, pictures are inside as SVG."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["CSS", "code", "data_block", "definitions", "document", "items", "paragraph", "picture", "section", "table"]

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --rule: #c8c8c8; --soft: #f3f3f1; --dim: #555555 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #161616; --rule: #4a4a4a; --soft: #232323; --dim: #b0b0b0 }
}
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0 auto; max-width: 58rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: break-word }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid var(--rule); padding-bottom: .2rem }
p, ul { margin: .5rem 0 } li { margin: .3rem 0 }
.dim, figcaption, footer { color: var(--dim); font-size: .9rem }
.scroll { overflow-x: auto; margin: .6rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .28rem .8rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule) }
thead th { border-bottom: 2px solid var(--ink) }
.number { text-align: right; white-space: nowrap }
.plain th { font-weight: normal; color: var(--dim); white-space: nowrap }
.figures { display: flex; flex-wrap: wrap; gap: 0 1.5rem }
.figures figure { flex: 1 1 20rem; min-width: 0; max-width: 40rem }
figure { margin: .8rem 0 }
figure img { display: block; width: 100%; height: auto; background: #ffffff }
section > figure img { max-width: 44rem }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .88rem; line-height: 1.4 }
code { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }
@media print {
  :root { --ink: #000000; --paper: #ffffff; --rule: #bbbbbb; --soft: #f3f3f1; --dim: #333333 }
  body { max-width: none; padding: 0; font-size: 10pt }
  .scroll, pre { overflow: visible } pre { white-space: pre-wrap }
  figure, tr, pre { break-inside: avoid } h2 { break-after: avoid }
}
"""
"""Style of the page: for screens of any width, dark ones and paper."""


def document(title: str, body: Iterable[str]) -> str:
    """Return a page.

    Parameters
    ----------
    title : str
        Text.
    body : iterable of str
        Markup.

    Returns
    -------
    str
        Markup, with the style inside.
    """
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>{CSS}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        )
    )


def section(name: str, title: str, *parts: str) -> str:
    """Return a section with a heading.

    Parameters
    ----------
    name : str
        Its id.
    title : str
        Text of the heading.
    *parts : str
        Markup; empty ones are left out.

    Returns
    -------
    str
        Markup.
    """
    heading = f'<h2 id="{escape(name)}-title">{escape(title)}</h2>'
    opening = f'<section id="{escape(name)}" aria-labelledby="{escape(name)}-title">'
    return "\n".join((opening, heading, *filter(None, parts), "</section>"))


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of text.

    Parameters
    ----------
    text : str
    kind : str
        Its class of the style sheet (default: none).

    Returns
    -------
    str
        Markup.
    """
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def items(texts: Iterable[str]) -> str:
    """Return a list of texts."""
    return "\n".join(("<ul>", *(f"<li>{escape(text)}</li>" for text in texts), "</ul>"))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table of texts, the first ``left`` columns to the left, the others, numbers, to the right.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence of str
        As long as the header.
    left : int
        Columns to the left (default 1).

    Returns
    -------
    str
        Markup.
    """

    def cells(row: Sequence[str], kind: str, more: str = "") -> str:
        numbers = [' class="number"' if place >= left else "" for place in range(len(row))]
        return "".join(
            f"<{kind}{more}{number}>{escape(cell)}</{kind}>" for cell, number in zip(row, numbers, strict=True)
        )

    body = (f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    titles = cells(header, "th", ' scope="col"')
    head = f"<thead><tr>{titles}</tr></thead>"
    return "\n".join(('<div class="scroll"><table>', head, "<tbody>", *body, "</tbody></table></div>"))


def definitions(entries: Mapping[str, str]) -> str:
    """Return a table of names and what they are."""
    rows = (f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in entries.items())
    return "\n".join(('<div class="scroll"><table class="plain"><tbody>', *rows, "</tbody></table></div>"))


def code(text: str) -> str:
    """Return a block of code."""
    return f"<pre><code>{escape(text)}</code></pre>"


def picture(svg: bytes, alternative: str, caption: str) -> str:
    """Return a picture.

    Parameters
    ----------
    svg : bytes
        An SVG file.
    alternative : str
        What it shows, in words.
    caption : str

    Returns
    -------
    str
        Markup that holds the picture.
    """
    source = base64.b64encode(svg).decode("ascii")
    return (
        f'<figure><img src="data:image/svg+xml;base64,{source}" alt="{escape(alternative)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def data_block(name: str, record: Mapping[str, Any]) -> str:
    """Return JSON that a program can read back; no text in it ends the block.

    Parameters
    ----------
    name : str
        The id of the block.
    record : mapping
        Of what JSON can hold.

    Returns
    -------
    str
        Markup.

    Raises
    ------
    ValueError, TypeError
        For NaN, infinity, or what JSON cannot hold.
    """
    text = json.dumps(record, indent=1, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")
    return f'<script type="application/json" id="{escape(name)}">{text.replace("&", chr(92) + "u0026")}</script>'
