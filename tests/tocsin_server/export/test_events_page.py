"""``docs/events.md`` is what the catalogue and the columns say today."""

from __future__ import annotations

from pathlib import Path

from tocsin.events import ALIASES, EVENTS
from tocsin_server.columns import COLUMNS
from tocsin_server.export.events_page import events_page

PAGE = Path(__file__).parents[3] / "docs" / "events.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == events_page(), (
        "docs/events.md is stale: run python -m tocsin_server.export.events_page docs/events.md"
    )


def test_it_names_every_event_field_column_and_alias() -> None:
    page = events_page()
    fields = {field.name for event in EVENTS.values() for field in event.fields}
    missing = [name for name in (*EVENTS, *fields, *COLUMNS, *ALIASES) if f"`{name}`" not in page]
    assert missing == []


def test_every_table_row_has_as_many_cells_as_its_head() -> None:
    widths: list[int] = []
    for line in events_page().splitlines():
        if not line.startswith("| "):
            widths = []
            continue
        widths.append(line.count(" | "))
        assert widths[-1] == widths[0], line
