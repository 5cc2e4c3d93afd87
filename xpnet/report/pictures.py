"""The sections with images: the most confident mistakes, and the weights of the first layer."""

from xpnet.report.facts import ReportData
from xpnet.report.images import image_side, ink_image, no_image, weight_image
from xpnet.report.markup import Markup, element, note, percent, section
from xpnet.report.network import full_ink

MOST_UNITS = 40
"""Units of the first layer whose weights are shown."""


def mistakes(facts: ReportData) -> Markup:
    """Return the section with the mistakes of which the network is surest."""
    title, rows = "The most confident mistakes", facts.mistakes()
    if not rows:
        return section("mistakes", title, note("None: every test sample is read right."))
    reason: Markup | None = None
    if image_side(facts.data.features) is None:
        reason = note(f"There are no images: {no_image(facts.data.features)}.")
    lead = (
        "Test samples that the network gets wrong, the surest first: the label \u2192 what it read, "
        "and the probabilities it gives to both."
    )
    tiles = element("div", *(_mistake(facts, row) for row in rows), class_="tiles ink")
    return section("mistakes", title, element("p", lead, class_="lead"), reason, tiles)


def _mistake(facts: ReportData, row: int) -> Markup:
    data, sample = facts.data, f"test sample {row}"
    label, read = int(data.y_test[row]), int(facts.evaluation.predicted[row])
    shares = facts.evaluation.probabilities[row]
    image: Markup | None = None
    if image_side(data.features) is not None:
        image = element("img", src=ink_image(data.x_test[row], full_ink(data)), alt=f"{sample}, a {label}")
    caption = element(
        "figcaption",
        element("b", f"{label} \u2192 {read}"),
        element("br"),
        f"{read}: {percent(shares[read], 1)}",
        element("br"),
        f"{label}: {percent(shares[label], 1)}",
        title=sample,
    )
    return element("figure", image, caption)


def weights(facts: ReportData) -> Markup:
    """Return the section with what each unit of the first layer weighs the features with."""
    title, model = "First-layer weights", facts.predictor.model
    if image_side(facts.data.features) is None:
        text = f"The weights are no images: {no_image(facts.data.features)}."
        return section("weights", title, note(text))
    weight = model.layers[0]["weight"]
    unit = "unit" if len(model.layers) > 1 else "class"
    count = f" The first {MOST_UNITS} of {len(weight)}." if len(weight) > MOST_UNITS else ""
    tiles = [
        element(
            "figure",
            element("img", src=weight_image(row), alt=f"weights of {unit} {index}"),
            element("figcaption", f"{unit} {index}"),
        )
        for index, row in enumerate(weight[:MOST_UNITS])
    ]
    lead = element(
        "p",
        f"What each {unit} weighs the pixels with: ",
        element("span", class_="swatch positive"),
        " positive, ",
        element("span", class_="swatch negative"),
        f" negative; each image by its own largest weight.{count}",
        class_="lead",
    )
    return section("weights", title, lead, element("div", *tiles, class_="tiles"))
