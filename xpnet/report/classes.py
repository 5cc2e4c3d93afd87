"""The section on the classes: figures of each, and the confusion matrix."""

from xpnet.nn.metrics import ClassFigures
from xpnet.report.charts import confusion_chart
from xpnet.report.facts import ReportData
from xpnet.report.markup import Markup, element, note, percent, section

MOST_CELLS = 64
"""Classes up to which the confusion matrix is drawn."""
MOST_ROWS = 100
"""Classes of which the table shows the figures; of more, it shows those told worst."""

_HEADINGS = ("class", "samples", "precision", "recall", "F1", "misread as")


def classes(facts: ReportData) -> Markup:
    """Return the section on the test data, class by class."""
    figures, confusion = facts.evaluation.classes, facts.evaluation.confusion
    if confusion is None:
        text = f"With {len(figures):,} classes, this part is left out."
        return section("classes", "Class by class", note(text))
    counts, order = confusion.tolist(), list(range(len(figures)))
    fewer: Markup | None = None
    if len(figures) > MOST_ROWS:
        order = sorted(order, key=lambda index: figures[index].f1 or 0.0)[:MOST_ROWS]
        fewer = note(f"The {MOST_ROWS} of {len(figures)} classes that are told worst.")
    table = element(
        "table",
        element("thead", element("tr", *(element("th", text, scope="col") for text in _HEADINGS))),
        element("tbody", *(_class_row(index, figures[index], counts[index]) for index in order)),
    )
    return section(
        "classes",
        "Class by class",
        _confusions(counts),
        element("div", element("div", fewer, table, class_="scroll"), _matrix(counts), class_="pair"),
    )


def _class_row(index: int, figures: ClassFigures, counts: list[int]) -> Markup:
    shares = (figures.precision, figures.recall, figures.f1)
    most, read = max(((n, -j) for j, n in enumerate(counts) if j != index), default=(0, 0))
    return element(
        "tr",
        element("th", str(index), scope="row"),
        element("td", f"{figures.support:,}"),
        *(element("td", percent(share, 1)) for share in shares),
        element("td", f"{-read} ({most:,})" if most else "\u2013"),
    )


def _confusions(counts: list[list[int]]) -> Markup:
    """Return a sentence with the three most frequent confusions."""
    pairs = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if n and i != j]
    worst = sorted(pairs, key=lambda pair: -pair[0])[:3]
    if not worst:
        return element("p", "Every test sample is read right.", class_="lead")
    told = ", ".join(f"{label}\u00a0read\u00a0as\u00a0{read} ({n:,}\u00a0times)" for n, label, read in worst)
    return element("p", f"Most frequent mistakes on the test data: {told}.", class_="lead")


def _matrix(counts: list[list[int]]) -> Markup:
    if len(counts) > MOST_CELLS:
        return note(f"With {len(counts)} classes, there is no room for the confusion matrix.")
    hint = "Rows: the label. Columns: what the network read. Point at a cell for its count."
    return element(
        "figure",
        element("div", confusion_chart(counts), id="confusion"),
        element("figcaption", hint, class_="readout", id="readout"),
    )
