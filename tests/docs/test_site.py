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
SEARCHES = {
    "learning rate": "training",
    "GPU": "devices",
    "class weight": "training",
    "imbalanced": "training",
}
SEARCHES |= {"missing values": "data", "regression": "data"}
ACROSS_LINES = """
[...document.querySelectorAll("h1")].flatMap((heading) => {
  const range = document.createRange();
  return [...heading.firstChild.data.matchAll(/[^ -]+/g)].filter((word) => {
    range.setStart(heading.firstChild, word.index);
    range.setEnd(heading.firstChild, word.index + word[0].length);
    return range.getClientRects().length > 1;
  });
}).map(String)
"""
"""The words of titles that are broken."""
"""The page that the search shows first, by what is searched for."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site with the settings of docs, warnings being errors, or the one that XPNET_SITE names."""
    if built := os.environ.get("XPNET_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("docs") / "site"
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, folder]
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


def test_pages_have_every_public_name_formulas_as_mathml_and_no_marks_of_the_tests(site):
    reference = (site / "api.html").read_text()
    assert [name for name in xpnet.__all__ if f'id="xpnet.{name}"' not in reference] == []
    mathematics = (site / "math.html").read_text()
    assert mathematics.count("<math") > 100
    assert "$" not in re.sub(r"<pre>.*?</pre>", "", mathematics, flags=re.DOTALL)
    mark = re.compile(r"<!-- *(skip|run with|exit|varies|within|prepare):")
    assert mark.search((DOCS / "training.md").read_text())
    assert [page.name for page in site.rglob("*.html") if mark.search(page.read_text())] == []


def test_links_lead_to_files_of_the_site_which_has_copies_of_those_outside_of_docs(site):
    broken, copies = [], {}
    for page in site.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#]+)', page.read_text()):
            address = urlsplit(unescape(link))
            file = page.parent / unquote(address.path)
            if not address.scheme:
                broken += [(page.name, link)] * (not file.is_file())
                copies |= {file.name: file} if "_downloads" in file.parts else {}
    assert broken == []
    for name in ("README.md", "examples/notebook.ipynb", "examples/numpy_only.py"):
        assert copies[Path(name).name].read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.needs("browser")
def test_pages_do_not_scroll_sideways_on_a_phone_and_the_search_works_without_a_network(browser, site):
    trouble = []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.context.set_offline(True)
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: trouble.append(request.url))
    wide = {}
    for file in site.rglob("*.html"):
        page.goto(file.as_uri())
        excess = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        wide[str(file.relative_to(site))] = max(0, excess)
        assert (page.evaluate(ACROSS_LINES), file.name) == ([], file.name)
    assert len(wide) > 20
    assert {name: pixels for name, pixels in wide.items() if pixels} == {}
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto((site / "index.html").as_uri())
    assert page.evaluate("[...document.querySelectorAll('pre')].every((x) => x.scrollWidth <= x.clientWidth)")
    for words, first in SEARCHES.items():
        page.goto((site / "search.html").as_uri() + f"?q={words}")
        page.locator("#search-results p", has_text="Search finished").wait_for()
        result = page.locator("#search-results li").first
        titles = page.locator("#search-results li > a").all_inner_texts()
        assert len(titles) == len(set(titles)) > 0
        assert result.locator("a").first.get_attribute("href").startswith(f"{first}.html"), words
        assert (
            words.split()[-1].lower() in page.locator("#search-results .context").first.inner_text().lower()
        )
    page.context.close()
    assert [text for text in trouble if not text.startswith(("file:", "data:"))] == []


@pytest.mark.needs("browser")
def test_each_slide_of_the_course_is_a_printed_page_in_landscape(browser, site):
    page = browser.new_page()
    page.goto((site / "course" / "slides.html").as_uri())
    printed = page.pdf(prefer_css_page_size=True)
    sizes = re.findall(rb"/MediaBox ?\[0 0 (\d+)\S* (\d+)", printed)
    assert len(sizes) == page.locator("#slides > section").count() == 11
    assert all(int(width) > int(height) for width, height in sizes)
    page.context.close()
