"""Runs to report on, and what their pages hold."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from xpnet import train

VOID = {"meta", "link", "img", "br"}


def save_data(path, x_train, y_train, x_test, y_test):
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def blobs(path, features=144, classes=3, samples=300, seed=0, dtype=np.uint8):
    """Write a data set of noisy patterns, one a class, which a network tells apart in part."""
    generator = np.random.default_rng(seed)
    patterns = generator.uniform(0, 255, (classes, features))
    y = np.arange(2 * samples) % classes
    noise = generator.uniform(0, 255, (2 * samples, features))
    x = (0.15 * patterns[y] + 0.85 * noise).astype(dtype)
    return save_data(path, x[:samples], y[:samples], x[samples:], y[samples:])


def trained(folder, *flags):
    """Train, and return the run's folder."""
    words = ["--out", folder.parent, "--name", folder.name, "--quiet", "--no-report", *flags]
    assert train.main([*map(str, words)]) == 0
    return folder


def rewrite(path, **changes):
    """Change keys of a JSON object in a file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Element:
    def __init__(self, name, attributes, parent):
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children, self.texts = [], []

    @property
    def text(self):
        return "".join(part if isinstance(part, str) else part.text for part in self.texts)

    def all(self, name=None, **attributes):
        """Every element within this one, in order, of that name and with these attributes."""
        for child in self.children:
            wanted = all(
                value in child.attributes.get(key.rstrip("_"), "").split()
                if key == "class_"
                else child.attributes.get(key) == value
                for key, value in attributes.items()
            )
            if name in (None, child.name) and wanted:
                yield child
            yield from child.all(name, **attributes)

    def one(self, name=None, **attributes):
        found = list(self.all(name, **attributes))
        assert len(found) == 1, (name, attributes, len(found))
        return found[0]


class Page(HTMLParser):
    """A page as a tree of elements; every element must be closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.root = self.here = Element("document", {}, None)
        self.feed(text)
        self.close()
        assert self.here is self.root, f"{self.here.name} is not closed"

    def handle_starttag(self, name, attributes):
        made = Element(name, dict(attributes), self.here)
        self.here.children.append(made)
        self.here.texts.append(made)
        if name not in VOID:
            self.here = made

    def handle_endtag(self, name):
        assert name == self.here.name, f"</{name}> within <{self.here.name}>"
        self.here = self.here.parent

    def handle_data(self, text):
        self.here.texts.append(text)


def parsed(path):
    return Page(path.read_text("utf-8")).root


def section(page, identifier):
    return page.one("section", id=identifier)


def image_of(element):
    """The decoded PNG of an img element."""
    address = element.attributes["src"]
    start = "data:image/png;base64,"
    assert address.startswith(start)
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix(start))))


def embedded_network(page):
    """What the page's script computes with, decoded."""
    value = json.loads(page.one("script", id="network").text)
    network = value["network"]

    def numbers(text, dtype):
        return np.frombuffer(base64.b64decode(text), dtype).astype(np.float64)

    network["shift"], network["scale"] = (numbers(network[name], "<f8") for name in ("shift", "scale"))
    for layer in network["layers"]:
        layer["bias"] = numbers(layer["bias"], "<f8")
        layer["weight"] = numbers(layer["weight"], "<f4").reshape(len(layer["bias"]), -1)
    return value


def outside_addresses(text):
    """Whatever in a page would load something that is not in it."""
    found = re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?([^"')\s>]+)""", text)
    return [address for address in found if not address.startswith(("data:", "#"))]
