"""Settings of Sphinx for the site that ``scripts/build_docs.py`` builds, and how ``tg.name`` becomes a link."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.inspect import stringify_signature

import tfgreen

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "tfgreen"
release = version = tfgreen.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
root_doc = "index"
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a notebook may begin with a heading of any level

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # what overrides a method of Keras says so itself, or is not for users
autosummary_generate = False  # one page a topic, not a page a name
napoleon_numpy_docstring = False
napoleon_attr_annotations = True
napoleon_preprocess_types = True
add_module_names = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"tfgreen {release}"
html_static_path = ["static"]
html_css_files = ["tfgreen.css"]
html_logo = html_favicon = "static/logo.svg"
html_show_sourcelink = html_copy_source = False
html_theme_options = {
    "sidebar_hide_name": False,
    "navigation_with_keys": True,
    "light_css_variables": {
        "color-brand-primary": "#0b6b4b",
        "color-brand-content": "#0b6b4b",
        "color-brand-visited": "#0b6b4b",
        "color-api-name": "#0b6b4b",
        "color-api-pre-name": "#5b6b64",
        "color-background-secondary": "#f6faf8",
        "color-sidebar-item-background--hover": "#e6f2ec",
        "color-sidebar-item-background--current": "#e6f2ec",
        "color-inline-code-background": "#eff5f2",
        "color-api-background": "#f6faf8",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5ed3a5",
        "color-brand-content": "#5ed3a5",
        "color-brand-visited": "#5ed3a5",
        "color-api-name": "#5ed3a5",
        "color-api-pre-name": "#9fb3aa",
        "color-background-primary": "#101513",
        "color-background-secondary": "#141b18",
        "color-sidebar-item-background--hover": "#1c2823",
        "color-sidebar-item-background--current": "#1c2823",
        "color-inline-code-background": "#1b2521",
        "color-api-background": "#141b18",
    },
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

_NAME = re.compile(r"tg((?:\.[A-Za-z]\w*)+)")
_logger = logging.getLogger(__name__)


class LinkedNames(SphinxTransform):
    """``tg.prune(...)`` in code within a sentence leads to the page of the name, in docstrings and guides alike."""

    default_priority = 200

    def apply(self, **_: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            found = _NAME.match(literal.astext())
            if found is None or isinstance(literal.parent, (addnodes.pending_xref, nodes.reference)):
                continue
            target = f"tfgreen{found[1]}"
            link = addnodes.pending_xref("", refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname)
            link["refwarn"] = False  # as a role has it: `unresolved` warns
            literal.replace_self(link)
            link += literal


def written_out(app: Sphinx, what: str, name: str, value: object, options: Any, lines: list[str]) -> None:
    """A role names what users type: :class:`tg.Data`. Sphinx knows it by its full name."""
    for number, line in enumerate(lines):
        lines[number] = re.sub(r"(:\w+:`)tg\.([\w.]+)`", r"\1~tfgreen.\2`", line)


def own_signature(app: Sphinx, what: str, name: str, value: object, options: Any, *signature: str) -> Any:
    """That of the fields, where a base's ``__new__`` takes anything and checks it."""
    if what == "class" and dataclasses.is_dataclass(value) and isinstance(value, type):
        own = inspect.signature(value.__init__)
        shown = own.replace(parameters=list(own.parameters.values())[1:], return_annotation=inspect.Signature.empty)
        return stringify_signature(shown), None
    return None


def unresolved(app: Sphinx, env: Any, node: addnodes.pending_xref, content: nodes.Node) -> None:
    """A name that a docstring or guide refers to and no page has is a warning, so an error. Types may be private."""
    if node.get("refdomain") == "py" and "refwarn" in node:
        _logger.warning("no page has %s", node["reftarget"], location=node)


def setup(app: Sphinx) -> None:
    app.add_transform(LinkedNames)
    app.connect("autodoc-process-docstring", written_out, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", own_signature)
    app.connect("missing-reference", unresolved, priority=900)
