"""The documentation site: its examples run, every public name is described, and no link in it leads nowhere."""

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from repository import needed

ROOT = needed("docs", "bench", "python/fisherfield")
DOCS = ROOT / "docs"
NEEDED = ("sphinx", "myst_parser", "furo", "numpydoc")

PRINTED = {  # what each example of a page has to print
    "index": ["131.08610105"],
    "installation": ["instruction set:"],
    "tour": [
        "rate 0.0149624634", "rank at most 100", "mean 0.994", "measured over theory [0.", "2.0 diverged",
        "EigenPairs(", "lambda_max is",
    ],
    "conventions": ["'W2': slice(16, 24, None)", "X: expected float64 like weights[0], got float32"],
    "dual": ["same dual True\nsame eigenvalues True"],
    "mean-field": ["kappa 0.9555219 0.11861537 alpha 2.0"],
    "limits": [
        "M = 100: over leading order +0.104, refined +0.028, spread 0.087",
        "L = 40: median 0.66",
        "M = 400: mean 1.00, largest 1.08, over largest_outlier 1.01",
        "bias_var 0.01: leading 7.8, refined 10.0, measured 13.7",
        "as if Gaussian 122.2",
        "after: measured 0.0089, theory at its own outputs 0.008, at the start 9.1",
    ],
    "own-activation": ["measured over theory 0.98", "first: expected 0.00126", "1.5748"],
    "report": ["The 9 largest eigenvalues hold 32.3 %", "maximum         start 10.8  trained 0.673"],
    "own-likelihood": ["a third of the Gaussian one True\ndrawn over exact 0.99", "3.85 3.85"],
}  # fmt: skip


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.M | re.S)


EXAMPLES = [
    pytest.param(code, text, id=f"{page}-{number}")
    for page, texts in PRINTED.items()
    for number, (code, text) in enumerate(zip(blocks(page), texts, strict=True))
]


@pytest.mark.parametrize(("code", "text"), EXAMPLES)
def test_examples_run(code, text):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert text in done.stdout


def test_every_example_is_tested():
    """Here or in test_readme.py and its like, which name the page."""
    elsewhere = "".join(
        path.read_text(encoding="utf-8") for path in ROOT.glob("tests/test_*.py") if path.name != "test_docs.py"
    )
    pages = {page.stem for page in DOCS.glob("*.md") if blocks(page.stem)}
    assert {page for page in pages - set(PRINTED) if f"{page}.md" not in elsewhere} == set()


# --- reference ------------------------------------------------------------------------------------------

NOT_PUBLIC = {"cli", "devices"}  # the command line is described by --help, devices by pages


def public_modules():
    spec = importlib.util.spec_from_file_location("public", DOCS / "_ext" / "public.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MODULES


def described_modules():
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    return set(re.findall(r"automodule:: ([\w.]+)", pages))


def test_every_package_is_in_the_reference():
    folders = {path.parent.name for path in (ROOT / "python" / "fisherfield").glob("*/__init__.py")}
    assert {f"fisherfield.{name}" for name in folders - NOT_PUBLIC} <= set(public_modules())


def test_every_public_module_has_a_page():
    """What its ``__all__`` holds is then described; building the site warns of the rest."""
    assert set(public_modules()) - {"fisherfield"} <= described_modules()


def public_functions():
    """Public functions, the constructors of public classes, and their public methods, with the docstring of each."""
    for module in map(importlib.import_module, public_modules()):
        for name in module.__all__:
            value = getattr(module, name)
            label = f"{module.__name__}.{name}"
            if inspect.isfunction(value):
                yield label, value, value.__doc__
            elif inspect.isclass(value):
                yield label, value, value.__doc__
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    if not method.startswith("_") and function.__module__.startswith("fisherfield"):
                        yield f"{label}.{method}", function, function.__doc__


def names_in_section(docstring, title):
    """Names before the colons of one section of a NumPy docstring; None without the section."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", inspect.cleandoc(docstring), re.M | re.S)
    if found is None:
        return None
    return [
        name.strip("* ") for line in re.findall(r"^(\S.*)$", found[1], re.M) for name in line.split(" :")[0].split(",")
    ]


def test_docstrings_describe_the_arguments_that_there_are():
    """Where arguments are described, all are, in the order of the signature."""
    wrong = {}
    for label, function, docstring in public_functions():
        described = names_in_section(docstring, "Parameters")
        if described is None:
            continue
        arguments = [name for name in inspect.signature(function).parameters if name != "self"]
        if described != arguments:
            wrong[label] = (described, arguments)
    assert wrong == {}


def test_sections_of_docstrings_are_read():
    docstring = """Do.

    Parameters
    ----------
    a, b : int
        Two.
    c

    Returns
    -------
    d
    """
    assert names_in_section(docstring, "Parameters") == ["a", "b", "c"]
    assert names_in_section(docstring, "Returns") == ["d"]
    assert names_in_section(docstring, "Raises") is None


# --- the site -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed (extra 'docs'): {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("site")
    options = ["-b", "html", "-W", "--keep-going", "-q", "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(folder / "html")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


class Page(HTMLParser):
    """Anchors of a page, and what it refers to."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.targets, self.remote = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors.add(attributes.get("id") or attributes.get("name"))
        target = attributes.get("src") or attributes.get("href")
        if target:
            (self.targets if not urlsplit(target).scheme else self.remote).append((tag, target))


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_no_link_leads_nowhere(pages):
    broken = []
    for path, page in pages.items():
        for _, target in page.targets:
            parts = urlsplit(target)
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[file].anchors if file in pages else None
            if not file.is_file() or (parts.fragment and known is not None and unquote(parts.fragment) not in known):
                broken.append((path.name, target))
    assert len(pages) > 25
    assert broken == []


@pytest.mark.slow
def test_the_site_needs_no_network(pages):
    """Links may lead elsewhere; scripts, styles and pictures are here."""
    loaded = {target for page in pages.values() for tag, target in page.remote if tag != "a" and target[:5] != "data:"}
    assert loaded == set()


@pytest.mark.slow
def test_formulas_are_translated(site):
    text = (site / "mean-field.html").read_text(encoding="utf-8")
    assert text.count("<math") > 30
    assert "\\kappa" not in text


@pytest.mark.slow
def test_benchmarks_are_tables(site):
    text = (site / "benchmarks.html").read_text(encoding="utf-8")
    results = list((ROOT / "bench" / "results").glob("*.json"))
    assert results
    assert text.count("<table") >= len(results)
    assert "BackPACK" in text
