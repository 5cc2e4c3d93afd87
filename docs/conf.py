"""The documentation site: ``sphinx-build -W --keep-going -b html docs site``."""

import inspect
import json
import re
from html import escape
from importlib import import_module
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

import xpnet

INDEXED = {
    "training": (
        "learning rate",
        "mini-batch",
        "dropout",
        "early stopping",
        "data augmentation",
        "class weight",
        "imbalanced",
    ),
    "data": ("missing values", "regression"),
    "devices": ("GPU", "CUDA", "Mac"),
    "reproducibility": ("reproducible", "reproducibility", "deterministic"),
    "arithmetic": ("bitwise reproducible", "batch-invariant"),
}
"""Terms that readers search for, by the page that the search shows first for them; the index lists them."""

ONE_RESULT_A_PAGE = """\
document.addEventListener("DOMContentLoaded", () => {
  const search = Search._performSearch;
  Search._performSearch = (...words) => {
    const seen = new Set();
    const isNew = ([page, title]) => seen.size < seen.add(`${page} ${title}`).size;
    return search(...words).reverse().filter(isNew).reverse();
  };
});
"""
"""Of search results with the same page and title, one by the index and one by the text, the better one."""

project = "xpnet"
version = release = xpnet.__version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
root_doc = "index"

myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
smartquotes = False  # which turn -- into a dash
highlight_language = "none"  # a block without a language is output

INHERITED = "BaseEstimator, BaseException, XPNetError, dict, tuple"  # the bases whose members are left out
autodoc_default_options = {"members": True, "inherited-members": INHERITED}
autodoc_typehints_format = "short"
autosummary_generate = False
default_role = "py:obj"
numpydoc_show_class_members = False  # autodoc shows them
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"xpnet {version}"
html_static_path = html_css_files = ["site.css"]
html_extra_path = ["../examples/browser/xpnet.html"]
html_copy_source = False
html_show_copyright = False


def adapt_page(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Remove the marks of the tests, add the terms of the index, and make links out of docs downloads."""
    text = re.sub(r"^<!-- .* -->$", "", source[0], flags=re.MULTILINE)
    # A page to be used there, not one to download.
    text = re.sub(r"\[([^]]*)\]\(../examples/browser/xpnet\.html\)", r'<a href="xpnet.html">\1</a>', text)
    outside = re.escape("../" * (docname.count("/") + 1))
    text = re.sub(rf"\]\(({outside}[^)#\s]*)(#[^)\s]*)?\)", r"](path:\1)", text)
    if docname in INDEXED:
        entries = ", ".join(f"! {words}" for words in INDEXED[docname])
        text = text.replace("\n", f"\n\n```{{index}} {entries}\n```\n", 1)  # below the title
    source[0] = text


def add_navigation(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Make each section of the index a part of the navigation, with the pages that it links to."""
    if docname == root_doc:
        for section in source[0].split("\n## ")[1:]:
            pages = "\n".join(re.findall(r"\]\(([\w/-]+)\.md\)", section))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {section.splitlines()[0]}\n\n{pages}\n```\n"


class PublicNames(SphinxDirective):
    """A table of names of a module, by default those in its ``__all__``, and their docstrings."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return functions first, then classes, errors and constants."""
        module = import_module(self.arguments[0])
        kinds: dict[str, list[str]] = {"function": [], "class": [], "exception": [], "data": []}
        for name in self.content or module.__all__:
            value = getattr(module, name)
            is_error = inspect.isclass(value) and issubclass(value, Exception)
            kind = "exception" if is_error else "class" if inspect.isclass(value) else "function"
            kinds[kind if callable(value) else "data"].append(name)
        constants = kinds.pop("data")
        lines = [f".. module:: {module.__name__}", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {name}" for names in kinds.values() for name in names]
        for kind, names in kinds.items():
            options = ["   :show-inheritance:"] if kind == "exception" else []
            lines += [line for name in names for line in ("", f".. auto{kind}:: {name}", *options)]
        for name in constants:
            lines += ["", f".. data:: {name}", f"   :value: {getattr(module, name)!r}"]
        return self.parse_text_to_nodes("\n".join(lines))


def skip_member(_app: Sphinx, _what: str, name: str, obj: object, *_: object) -> bool | None:
    """Leave out the methods that scikit-learn adds, and fields of named tuples, which have no docstrings."""
    is_routing = re.fullmatch(r"set_\w+_request|get_metadata_routing", name)
    return True if is_routing or type(obj).__name__ == "_tuplegetter" else None


def shorten_arrays(*event: Any) -> list[str | None]:
    """Return signature and result of a function with NDArray[...] as it is written in the source."""
    expanded = r"~?numpy\.ndarray\[tuple\[.*?\], ~?numpy\.dtype\[~?numpy\.(\w+)\]\]"
    return [text and re.sub(expanded, r"NDArray[\1]", text) for text in event[-2:]]


def write_mathml(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers show without scripts."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    tex = re.sub(r"\\[lr]Vert\b", r"\\|", node.astext().replace(":=", r"\coloneqq "))
    tex = re.sub(r"(\\(?:log|tanh|cos|sin))\b(?!\()", r"\1\\,", tex)
    try:
        formula = convert(tex, display=display)
        problems = re.findall(r"\\\w+", formula)  # unknown commands are left as they are
    except Exception as error:  # noqa: BLE001 - latex2mathml's errors have no class in common
        formula, problems = "", [error]
    for problem in problems:
        logging.getLogger(__name__).warning("%r in the formula %s", problem, tex, location=node)
    # A minus after an operator, but a closing bracket, is a sign.
    formula = re.sub(r"(<mo[^>]*>(?!\]|&#x00029;)[^<]*</mo><mo)(?=>&#x02212;)", r'\1 form="prefix"', formula)
    translator.body.append(f'<div class="math">{formula}</div>' if display == "block" else formula)
    raise nodes.SkipNode


def write_excerpts(app: Sphinx, _error: Exception | None) -> None:
    """Write the texts of all pages for the search, which may not fetch them if it is opened from a file."""
    pages = {name: app.env.get_doctree(name) for name in app.env.found_docs}
    for tags in [node for page in pages.values() for node in page.findall(nodes.raw)]:
        tags.parent.remove(tags)
    texts = {name: to_sections(page) for name, page in pages.items()}
    answer = "window.fetch = async (url) => ({ text: async () => TEXTS[url.slice(2, -5)] });"
    content = f"const TEXTS = {json.dumps(texts)};\n{answer}\n{ONE_RESULT_A_PAGE}"
    (app.outdir / "_static" / "texts.js").write_text(content, encoding="utf-8")


def to_sections(node: nodes.Node) -> str:
    """Return the text of a page as the search reads it, with the anchors of sections and of index terms."""
    if not isinstance(node, nodes.section | nodes.document):
        return f"{escape(node.astext())}\n"
    text = "".join(map(to_sections, node.children))
    if isinstance(node, nodes.document):
        return f'<div role="main"><div id="index-0">{text}</div></div>'
    return f'<section id="{node["ids"][0]}">{text}</section>'


def add_excerpts(app: Sphinx, page: str, *_: object) -> None:
    """Load the texts of all pages in the page of the search."""
    if page == "search":
        app.add_js_file("texts.js")


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("source-read", adapt_page)
    app.connect("source-read", add_navigation)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-signature", shorten_arrays)
    app.connect("html-page-context", add_excerpts)
    app.connect("build-finished", write_excerpts)
    app.add_directive("public-names", PublicNames)
    app.add_html_math_renderer("mathml", (write_mathml, None), (write_mathml, None))
