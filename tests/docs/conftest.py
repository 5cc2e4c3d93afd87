import pytest


@pytest.fixture
def page(browser):
    """A page on a phone without a network, which asks for nothing but files."""
    opened, trouble = browser.new_page(viewport={"width": 390, "height": 800}), []
    opened.context.set_offline(True)
    for event in ("console", "pageerror", "request"):
        opened.on(event, lambda value: trouble.append(getattr(value, "url", str(value))))
    yield opened
    opened.context.close()
    assert [text for text in trouble if not text.startswith(("file:", "data:", "blob:"))] == []
