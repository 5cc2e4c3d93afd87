"""scripts/misreadings.py: a vector notices each wrong reading of the specification."""

import misreadings
import pytest

pytestmark = pytest.mark.tooling


@pytest.mark.nightly
def test_the_vector_that_the_table_names_notices_each_wrong_reading(capsys):
    assert misreadings.main([]) == 0
    *lines, summary = capsys.readouterr().out.splitlines()
    assert len(lines) > 100
    assert summary == "not noticed: 0"
