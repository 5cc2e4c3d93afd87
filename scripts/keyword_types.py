"""Writes xpnet/config/keyword_types.pyi: the keywords of ``fit`` and ``XPNetClassifier`` for type checkers.

Their names and types are those of the settings. ``python scripts/keyword_types.py`` writes the file.
"""

import inspect
import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from checkout import ROOT
from shared import write_generated

from xpnet.config.keywords import ClassifierSettings, FitSettings

FILE = ROOT / "xpnet" / "config" / "keyword_types.pyi"

START = """\
# Written by scripts/keyword_types.py from the settings.

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict
"""


def content() -> str:
    """Return the content of the file."""
    shared = ClassifierSettings.__annotations__
    own = {name: kind for name, kind in FitSettings.__annotations__.items() if name not in shared}
    lines = [START, *show_class("ClassifierSettings(TypedDict, total=False)", shared), ""]
    return "\n".join([*lines, *show_class("FitSettings(ClassifierSettings, total=False)", own), ""])


def show_class(name: str, fields: Mapping[str, object]) -> list[str]:
    """Return the lines of a class with these annotations."""
    return [f"class {name}:", *(f"    {field}: {show_type(kind)}" for field, kind in fields.items())]


def show_type(kind: Any) -> str:
    """Return a type as text, without the modules of its names."""
    if get_origin(kind) in (Union, UnionType):
        return " | ".join(map(show_type, get_args(kind)))
    text = "None" if kind is NoneType else inspect.formatannotation(kind)
    return re.sub(r"\b(?:[a-z_]+\.)+", "", text).replace("'", '"')


if __name__ == "__main__":
    write_generated(FILE, content())
    print(FILE)
