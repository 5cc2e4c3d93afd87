"""The documentation site: it is built without warnings, and works in a browser without a network."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from checkout import ROOT

import xpnet

pytestmark = [pytest.mark.tooling, pytest.mark.slow, pytest.mark.needs("site")]

DOCS = ROOT / "docs"
SEARCHES = {"learning rate": "training", "class weight": "training", "imbalanced": "training"}
SEARCHES |= {"GPU": "devices", "missing values": "data", "regression": "data"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site with the settings of docs, warnings being errors, or the one that XPNET_SITE names."""
    if built := os.environ.get("XPNET_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("docs") / "site"
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, folder]
    subprocess.run([sys.executable, *words], check=True)
    return folder


def test_pages_have_every_public_name_formulas_as_mathml_and_no_marks_of_the_tests(site):
    reference, mathematics = (site / "api.html").read_text(), (site / "math.html").read_text()
    assert [name for name in xpnet.__all__ if f'id="xpnet.{name}"' not in reference] == []
    assert mathematics.count("<math") > 100
    assert "$" not in re.sub(r"<pre>.*?</pre>", "", mathematics, flags=re.DOTALL)
    mark = re.compile(r"<!-- *(skip|run with|exit|varies|within|prepare):")
    assert [page.name for page in site.rglob("*.html") if mark.search(page.read_text())] == []


def test_links_lead_to_files_of_the_site_which_has_copies_of_those_outside_of_docs(site):
    files = {
        (page.parent / unquote(address.path)).resolve()
        for page in site.rglob("*.html")
        for link in re.findall(r'(?:href|src)="([^"#]+)', page.read_text())
        if not (address := urlsplit(unescape(link))).scheme
    }
    assert [file for file in files if not file.is_file()] == []
    copies = {file.name: file.read_bytes() for file in files if "_downloads" in file.parts}
    for path in (ROOT / "examples" / "numpy_only.py", ROOT / "examples" / "notebook.ipynb"):
        assert copies[path.name] == path.read_bytes()


@pytest.mark.needs("browser")
def test_pages_do_not_scroll_sideways_on_a_phone(page, site):
    excess = {}
    for file in site.rglob("*.html"):
        page.goto(file.as_uri())
        excess[file.name] = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert {name: pixels for name, pixels in excess.items() if pixels > 0} == {}


@pytest.mark.needs("browser")
@pytest.mark.parametrize(("words", "first"), SEARCHES.items())
def test_the_search_works_without_a_network(page, site, words, first):
    page.goto((site / "search.html").as_uri() + f"?q={words}")
    page.locator("#search-results p", has_text="Search finished").wait_for()
    result = page.locator("#search-results li > a").first
    assert result.get_attribute("href").startswith(f"{first}.html")
