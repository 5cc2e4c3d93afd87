"""docs/arrays.md: the table of names, and the errors."""

import re

import array_names
from function_bounds import BOUNDS

import xpnet.reproducible as rp

PAGE = array_names.PAGE.read_text("utf-8")


def test_the_table_has_every_name_under_one_rule():
    assert array_names.table() in PAGE
    names = [name for group in array_names.rules().values() for name in group]
    assert len(names) == len({*names})
    computed = {name for name in names if not re.match(r"complex|fft\.|linalg\.", name)}
    assert computed <= {*dir(rp.namespace("numpy"))}


def test_the_errors_are_within_the_bounds_that_are_tested():
    errors = PAGE.partition("## Errors")[2].partition("##")[0]
    shown = {}
    for names, error in re.findall(r"\| ([^|]*`[^|]*) \| ([\d.]+) (?=\|)", errors):
        shown |= dict.fromkeys(re.findall(r"`(\w+)`", names), float(error))
    assert shown.keys() == BOUNDS.keys()
    assert {name for name in shown if not shown[name] <= BOUNDS[name] <= 2.1} == set()
