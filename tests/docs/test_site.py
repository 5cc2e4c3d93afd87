"""The documentation site: it is built without warnings, and works in a browser without a network."""

import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import xpnet

pytestmark = [pytest.mark.tooling, pytest.mark.slow, pytest.mark.needs("site")]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def build(source, target):
    """Build a site with the settings of docs; warnings are errors."""
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-c", DOCS, source, target]
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "site"
    result = build(DOCS, folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_the_reference_has_every_public_name(site):
    reference = (site / "api.html").read_text()
    assert "fit" in xpnet.__all__
    assert [name for name in xpnet.__all__ if f'id="xpnet.{name}"' not in reference] == []


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


def test_the_marks_of_the_tests_are_not_in_the_pages(site):
    mark = re.compile(r"<!-- *(skip|run with|exit|varies|within|prepare):")
    assert mark.search((DOCS / "training.md").read_text())
    assert [page.name for page in site.rglob("*.html") if mark.search(page.read_text())] == []


@pytest.mark.parametrize(
    ("formula", "code", "text"), [(r"\frac{a}{b}", 0, "<mfrac>"), (r"\unheardof{a}", 1, "unheardof")]
)
def test_formulas_become_mathml_and_wrong_ones_are_errors(tmp_path, formula, code, text):
    (tmp_path / "index.md").write_text(f"# Page\n\nInline ${formula}$, and\n\n$$\n{formula}\n$$\n")
    result = build(tmp_path, tmp_path / "site")
    shown = result.stderr if code else (tmp_path / "site" / "index.html").read_text()
    assert result.returncode == code, result.stderr
    assert text in shown
    assert ("index.md:3: WARNING:" in result.stderr) == bool(code)


@pytest.fixture
def opened(browser, site):
    """A function that opens a page of the site; afterwards there must be no message, error or request."""
    trouble = []

    def open_page(address, **options):
        page = browser.new_page(**options)
        page.context.set_offline(True)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: trouble.append(request.url))
        page.goto(f"{site.as_uri()}/{address}")
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert [text for text in trouble if not text.startswith(("file:", "data:"))] == []


@pytest.mark.needs("browser")
def test_pages_have_the_colours_of_the_system_and_do_not_scroll_sideways_on_a_phone(opened, site):
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    for scheme, order in (("light", 1), ("dark", -1)):
        page = opened("index.html", color_scheme=scheme, viewport={"width": 390, "height": 800})
        ground, text = (
            sum(map(float, re.findall(r"[\d.]+", colour)[:3])) for colour in page.evaluate(colours)
        )
        assert order * (ground - text) > 300
    wide = {}
    for file in site.rglob("*.html"):
        page.goto(file.as_uri())
        excess = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        wide[str(file.relative_to(site))] = max(0, excess)
    assert len(wide) > 20
    assert {name: pixels for name, pixels in wide.items() if pixels} == {}


TOPICS = {"learning rate": "training", "reproducible": "reproducibility", "GPU": "devices"}


@pytest.mark.needs("browser")
def test_the_search_shows_the_page_of_a_topic_first(opened):
    for words, first in TOPICS.items():
        page = opened("index.html")
        page.locator("input[name=q]").first.fill(words)
        page.keyboard.press("Enter")
        page.locator("#search-results p", has_text="Search finished").wait_for()
        assert page.locator("#search-results li a").first.get_attribute("href").startswith(f"{first}.html")
