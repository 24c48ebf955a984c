"""The published table of derivatives is the registry's."""

from pathlib import Path

import pytest

from symgraph.testing.table import derivatives_table

PUBLISHED = Path(__file__).parent.parent / "docs" / "derivatives.md"


@pytest.mark.golden
def test_is_up_to_date(request: pytest.FixtureRequest) -> None:
    text = derivatives_table()
    if request.config.getoption("--update-golden"):
        PUBLISHED.write_text(text, encoding="utf-8")
    assert PUBLISHED.read_text(encoding="utf-8") == text, "docs/derivatives.md is not the registry's: make golden"
