"""Runs to report on, and what their pages hold."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from xpnet import train

VOID = {"meta", "link", "img", "br"}
NO_TEXT = re.compile(r"<(script|style)\b.*?</\1>|data:image[^\"]*", re.DOTALL)
UNFILLED = re.compile(r".{0,40}(?:\{\{|\{%|\b(?:None|nan|inf|Undefined)\b(?![.:]))")


def blobs(path, seed=0):
    generator = np.random.default_rng(seed)
    patterns, y = generator.uniform(0, 255, (3, 144)), np.arange(600) % 3
    x = (0.15 * patterns[y] + 0.85 * generator.uniform(0, 255, (600, 144))).astype(np.uint8)
    np.savez(path, x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return path


def trained(folder, *flags):
    words = ["--out", folder.parent, "--name", folder.name, "--quiet", "--no-report", *flags]
    assert train.main([*map(str, words)]) == 0
    return folder


class Element:
    def __init__(self, name, attributes):
        self.name, self.attributes, self.parts = name, dict(attributes), []

    @property
    def text(self):
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    def all(self, name=None, class_=None, **attributes):
        """Every element within this one, in order, of that name and class and with these attributes."""
        for child in (part for part in self.parts if isinstance(part, Element)):
            classes = child.attributes.get("class", "").split()
            if name in (None, child.name) and class_ in (None, *classes):
                yield from [child] * (attributes.items() <= child.attributes.items())
            yield from child.all(name, class_, **attributes)

    def one(self, name=None, class_=None, **attributes):
        (element,) = self.all(name, class_, **attributes)
        return element


class Page(HTMLParser):
    """A page as a tree of elements; every element must be closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, name, attributes):
        self.open[-1].parts.append(element := Element(name, attributes))
        if name not in VOID:
            self.open.append(element)

    def handle_endtag(self, name):
        assert name == self.open.pop().name

    def handle_data(self, text):
        self.open[-1].parts.append(text)


def parsed(path):
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    (document,) = page.open
    return document


def checked(path):
    """A page, which has no text of a template and no missing value."""
    assert UNFILLED.findall(NO_TEXT.sub("", path.read_text("utf-8"))) == []
    return parsed(path)


def section(page, identifier):
    return page.one("section", id=identifier)


def image_of(element):
    data = element.attributes["src"].removeprefix("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(data)))
