"""Says what is wrong with what a server left behind; an empty list is the only good verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.oracle import Batch, is_broken, is_genuine, payload, tail_line
from tocsin_server.spool import segments
from tocsin_server.store import Store

_TEXT = "CASE name WHEN 'log' THEN message ELSE request_id || ' ' || (attrs->>'rest') END"
_SHOWN = 3


@dataclass(slots=True)
class Due:
    """What one source must hold: texts of events, refused lines, and what else its books count.

    ``in_order``: all its lines, events and refused ones, must also be in this order (texts).
    """

    stored: list[str] = field(default_factory=list)
    dead: list[bytes] = field(default_factory=list)
    duplicates: int = 0
    blank: int = 0
    in_order: list[str] | None = None


def due_of_batches(batches: Iterable[Batch]) -> Due:
    """What acknowledged batches must have left."""
    due = Due()
    for batch in batches:
        due.stored += batch.stored
        due.dead += batch.dead
        due.duplicates += batch.answer["duplicates"]
        due.blank += 1
    return due


def due_of_log(name: str, written: int) -> Due:
    """What a followed log must have left: every line, in the order in which it was written."""
    due = Due(in_order=[payload(f"{name}-{number}") for number in range(written)])
    for number in range(written):
        line = tail_line(number, name).rstrip(b"\n")
        if is_broken(line):
            due.dead.append(line)
        else:
            due.stored.append(payload(f"{name}-{number}"))
    return due


def judge(data: Path, dues: Mapping[str, Due]) -> list[str]:
    """Rows D1, D18, T1 and T2 over a data folder that no server holds: what is missing, there more than once,
    forged or changed, out of order, or counted wrongly.
    """
    store = Store.open(data)
    try:
        found, letters = _events(store), _letters(store)
        books = store.manifest.books()
        faults = [f"{path.name} is still in the spool" for path in segments(store.spool)]
        faults += [f"{path.name} is in quarantine" for path in store.quarantine.iterdir()]
    finally:
        store.close()
    for source, due in dues.items():
        events, dead = found.get(source, []), letters.get(source, [])
        told = _differences(due.stored, [text for _, text in events])
        told += _differences([*map(_as_text, due.dead)], [_as_text(line) for _, line in dead])
        told += _order(due, events, dead) if not told else []
        told += _books(due, books.get(source, {}))
        faults += [f"{source}: {fault}" for fault in told]
    return faults


def text_of(broken: bytes) -> str:
    """The text in a line that is refused."""
    return broken.removeprefix(b'{"broken":"').decode()


def _as_text(broken: bytes) -> str:
    return broken.decode("utf-8", "backslashreplace")


def _events(store: Store) -> dict[str, list[tuple[str, str]]]:
    """Source -> (event id, text), in the order of the ids."""
    found: dict[str, list[tuple[str, str]]] = {}
    with store.connect(threads=2) as connection:
        for source, *row in connection.execute(
            f"SELECT source, event_id, {_TEXT} FROM events ORDER BY source, event_id"
        ).fetchall():
            found.setdefault(source, []).append((row[0], row[1]))
    return found


def _letters(store: Store) -> dict[str, list[tuple[int, bytes]]]:
    letters: dict[str, list[tuple[int, bytes]]] = {}
    for letter in store.manifest.dead_letters(limit=10_000_000):
        letters.setdefault(letter.source, []).append((letter.position, letter.line))
    return letters


def _differences(expected: list[str], found: list[str]) -> list[str]:
    there, wanted = Counter(found), Counter(expected)
    strangers = [text for text in there if text not in wanted]
    named = {
        "missing": [text for text in wanted if text not in there],
        "more than once": [text for text in wanted if there[text] > wanted[text]],
        "changed": [text for text in strangers if not is_genuine(_inner(text))],
        "forged": [text for text in strangers if is_genuine(_inner(text))],
    }
    return [f"{len(texts)} {what}: {texts[:_SHOWN]}" for what, texts in named.items() if texts]


def _inner(text: str) -> str:
    return text.removeprefix('{"broken":"')


def _order(due: Due, events: list[tuple[str, str]], dead: list[tuple[int, bytes]]) -> list[str]:
    if due.in_order is None:
        return []
    placed = [(int(event_id.rpartition(":")[2]), text) for event_id, text in events]
    placed += [(position, text_of(line)) for position, line in dead]
    texts = [text for _, text in sorted(placed)]
    wrong = [after for after, expected in zip(texts, due.in_order, strict=True) if after != expected]
    return [f"{len(wrong)} out of order: {wrong[:_SHOWN]}"] if wrong else []


def _books(due: Due, books: Mapping[str, object]) -> list[str]:
    """Row D18: received = stored + dead-lettered + duplicates + blank, and each as it was sent."""
    events = books.get("events", {})
    assert isinstance(events, dict)
    counted = {name: books.get(name, 0) for name in ("lines", "rejected", "duplicates", "blank")}
    counted["stored"] = sum(events.values()) + int(str(books.get("logs", 0)))
    wanted = {"stored": len(due.stored), "rejected": len(due.dead)}
    wanted |= {"duplicates": due.duplicates, "blank": due.blank}
    wanted["lines"] = sum(wanted.values())
    return [f"the books say {counted}, sent was {wanted}"] if counted != wanted else []
