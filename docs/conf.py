"""The documentation site: ``bash .ci/docs`` builds it."""

import importlib.util
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

project = "fisherfield"
author = "The fisherfield developers"
version = release = installed_version("fisherfield")

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "mathml", "names", "benchmarks"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nitpicky = True

# Pages of what may be missing: a file outside this folder that the page includes, a module that it documents.
_NEEDED_FILES = {"changelog.md": "../CHANGELOG.md", "contributing.md": "../CONTRIBUTING.md"}
_NEEDED_MODULES = {"api/figures.md": "fisherfield.figures", "api/readers.md": "fisherfield.readers"}
exclude_patterns = ["_ext", "_static"]
exclude_patterns += [page for page, file in _NEEDED_FILES.items() if not (HERE / file).exists()]
exclude_patterns += [page for page, module in _NEEDED_MODULES.items() if importlib.util.find_spec(module) is None]
# The index names them all the same. A page that is there and that no index names still warns.
suppress_warnings = ["toc.excluded", "toc.not_readable"]

# Docstrings: types are in their text, in words; members are listed where they are described.
autodoc_default_options = {
    "members": True,
    "inherited-members": "object, tuple, Executor",
    "exclude-members": "add_note, with_traceback",
}
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"fisherfield {release}"
html_static_path = ["_static"]
if found := importlib.util.find_spec("ziamath"):
    # a font for formulas, for systems that have none
    html_static_path.append(str(Path(found.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"))
html_css_files = ["fisherfield.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
