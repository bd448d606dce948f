"""Every page about an instrumentation ends as the person who follows it needs: does it work, and if not?"""

from __future__ import annotations

import re

import pytest

from tests.tocsin.snippets import DOCS

PAGES = sorted((DOCS / "instrumentation").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_ends_in_verify_and_troubleshooting(page: object) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)  # type: ignore[attr-defined]
    assert headings[-2:] == ["Verify", "Troubleshooting"]
