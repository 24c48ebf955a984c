"""The site. Its source folder is the checkout, so that links between pages are the same here and on the web."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "symgraph"
author = "The symgraph developers"
copyright = author
version = release = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/reference/*.rst", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = [".*", "build", "dist", "docs/_*"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
default_role = None
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(collections|contextlib|networkx|numpy|os)\..*"),  # another project's
    (r"py:class", r"(symgraph\.|source\.).*|[A-Z]\w*|.*\[.*"),  # in annotations: types that users never name
]

# Notebooks are shown as they were committed. Pages that draw say so themselves, and run here.
nb_execution_mode = "off"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 120
os.environ.setdefault("CI", "1")  # nobody looks on: no progress lines in what is shown
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "symgraph"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "native"

_OPERANDS = {1: "(x)", 2: "(x, y)", 3: "(c, x, y)"}


def _operands(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """The operands of an elementwise function, which takes any number as far as Python knows."""
    arity = getattr(obj, "arity", None)
    return (_OPERANDS[arity], "Variable") if arity in _OPERANDS else None


def _trimmed(app: Any, doctree: nodes.document) -> None:
    """Doctests end with an empty line, which readers need not see."""
    for block in doctree.findall(nodes.literal_block):
        block.rawsource = block.rawsource.rstrip("\n")
        block[:] = [nodes.Text(block.astext().rstrip("\n"))]


def setup(app: Any) -> None:
    """Connect the hooks above."""
    app.connect("doctree-read", _trimmed)
    app.connect("autodoc-process-signature", _operands)
