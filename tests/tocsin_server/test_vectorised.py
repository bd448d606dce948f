"""The vectorised path and the reference are equal on every line that the vectorised path takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tocsin.events import EVENTS
from tocsin_server import vectorised
from tocsin_server.dialects import Context, Parsed, parse_line
from tocsin_server.privacy import Pseudonyms
from tocsin_server.store import duckdb_connection
from tocsin_server.store.rows import BATCH, ROWS_SELECT, arrow_rows

DATA = Path(__file__).parent.parent / "data"
NOW = 1_795_507_200_000_000  # 2026-11-24T08:00:00Z
TIMESTAMP = "2026-11-23T07:55:12.345Z"

DB = duckdb_connection(threads=1)
PSEUDONYMS = Pseudonyms(lambda tenant: (tenant or "installation").encode().ljust(32, b"k"))
CONTEXT = Context(
    received_at=NOW, pseudonym=PSEUDONYMS, network=PSEUDONYMS.network, service="default-service"
)

#: A longer run: EXAMPLES=5000 python -m pytest tests/tocsin_server/test_vectorised.py
EXAMPLES = int(os.environ.get("EXAMPLES", "60"))


def rows(select: str) -> dict[int, dict[str, Any]]:
    found = DB.execute(f"SELECT {', '.join(BATCH)} FROM ({select})").fetchall()
    return {row[0]: dict(zip(BATCH, row, strict=True)) for row in found}


def compare(lines: list[bytes]) -> int:
    """Asserts equality line by line; answers how many lines were ordinary."""
    split = vectorised.Lines.split(b"".join(line + b"\n" for line in lines))
    assert [split[i] for i in range(len(split))] == lines
    ordinary = vectorised.parse(DB, split, CONTEXT, base=0)
    fast: dict[int, dict[str, Any]] = {}
    for select in ordinary.selects:
        fast |= rows(select)
    taken = np.flatnonzero(ordinary.is_ordinary).tolist()
    assert sorted(fast) == [int(split.starts[i]) for i in taken]
    parsed = {i: parse_line(split[i], CONTEXT) for i in taken}
    for i, result in parsed.items():
        assert isinstance(result, Parsed), (split[i], result)
        assert result.event.ts == ordinary.times[i], split[i]
    assert sum(ordinary.dialects.values()) == len(taken)
    for dialect, count in ordinary.dialects.items():
        assert sum(isinstance(p, Parsed) and p.dialect == dialect for p in parsed.values()) == count, dialect
    if taken:
        events = [p.event for p in parsed.values() if isinstance(p, Parsed)]
        DB.register("reference", arrow_rows(events, [int(split.starts[i]) for i in taken]))
        reference = rows(f"SELECT {ROWS_SELECT} FROM reference")
        DB.unregister("reference")
        for i in taken:
            at = int(split.starts[i])
            assert fast[at] == reference[at], split[i]
    return len(taken)


@pytest.mark.parametrize(("name", "ordinary"), [("web.log", 3600), ("worker.log", 170)])
def test_recorded_rails_lines_agree_and_most_events_are_ordinary(name: str, ordinary: int) -> None:
    lines = (DATA / "rails" / name).read_bytes().removesuffix(b"\n").split(b"\n")
    assert compare(lines) > ordinary


def test_dialect_samples_agree() -> None:
    for path in sorted((DATA / "dialects").iterdir()):
        compare(path.read_bytes().removesuffix(b"\n").split(b"\n"))


def canonical(event: str, fields: dict[str, Any], **outer: Any) -> dict[str, Any]:
    envelope = {"timestamp": TIMESTAMP, "service": "k12-core", "environment": "production"} | outer
    return {"metric": event} | (fields if EVENTS[event].flat else {"tags": fields}) | envelope


@pytest.mark.parametrize("name", [name for name in EVENTS if name not in ("deploy", "auth.login")])
def test_every_catalogued_example_is_ordinary(name: str) -> None:
    line = orjson.dumps(canonical(name, dict(EVENTS[name].example)))
    assert compare([line]) == (0 if "error" in EVENTS[name].example and name == "api.request" else 1)


def test_canonical_log_and_request_lines_are_ordinary() -> None:
    log = {"timestamp": TIMESTAMP, "level": "INFO", "message": "sync started", "service": "k12-core"}
    request = {
        "request_id": "6f1c0b52d94e4a7e",
        "method": "GET",
        "path": "/a/7",
        "status": 200,
        "duration_ms": 1.5,
    }
    assert compare([orjson.dumps(log), orjson.dumps(log | request | {"tenant_id": 7, "user_id": "u_1"})]) == 2


def wrap(inner: str, tags: str = "") -> bytes:
    outer = {"timestamp": TIMESTAMP, "level": "INFO", "message": tags + inner, "service": "k12-core"}
    return orjson.dumps(outer | {"environment": "production"})


def test_wrapped_lines_are_ordinary_bare_and_behind_tags() -> None:
    inner = json.dumps(canonical("api.request", dict(EVENTS["api.request"].example)), separators=(",", ":"))
    request = '{"request_id":"551c1fbe-56df-4dc7-aef0-600aaec909f9","method":"GET","path":"/x","status":500}'
    assert compare([wrap(inner), wrap(inner, "[abc] [tenant:7] "), wrap(request)]) == 3


LINE = orjson.dumps(canonical("api.request", dict(EVENTS["api.request"].example))).decode()

#: What would break the proof if it had a hole: each differs in meaning from what DuckDB's typed read makes of
#: it.
HOSTILE = {
    "unknown field": LINE.replace('"status":200', '"status":200,"x":1'),
    "duplicate key": LINE.replace('"status":200', '"status":200,"status":500'),
    "trailing comma": LINE[:-1] + ",}",
    "trailing comma in tags": LINE.replace('"show"}', '"show",}'),
    "white space": LINE.replace(":200", ": 200"),
    "NaN": LINE.replace("42.6", "NaN"),
    "bare NaN as text, comma made up for": LINE.replace('"GET"', "NaN").replace('"show"}', '"show",}'),
    "bare number as text": LINE.replace('"GET"', "12345"),
    "bare number and comma": LINE.replace('"6f1c0b52d94e4a7e"', "123456789012345e999")[:-1] + ",}",
    "Infinity": LINE.replace("42.6", "Infinity"),
    "beyond a double": LINE.replace("42.6", "1e999"),
    "exponent shorter than printed, and a comma": LINE.replace("42.6", "1e3").replace('"show"}', '"show",}'),
    "small exponent and a comma": LINE.replace("42.6", "1e-3").replace('"show"}', '"show",}'),
    "exponent": LINE.replace("42.6", "4.26e1"),
    "negative zero": LINE.replace("42.6", "-0"),
    "negative": LINE.replace("42.6", "-4.2"),
    "null": LINE.replace('"GET"', "null"),
    "true as text": LINE.replace('"GET"', "true"),
    "list as text": LINE.replace('"GET"', "[1]"),
    "object as text": LINE.replace('"GET"', '{"a":1}'),
    "quoted list": LINE.replace('"GET"', '"[1]"'),
    "status as text": LINE.replace(":200", ':"200"'),
    "status 99": LINE.replace(":200", ":099"),
    "status 1000": LINE.replace(":200", ":1000"),
    "quoted number": LINE.replace("42.6", '"42.6"'),
    "escape": LINE.replace("GET", "\\u0047ET"),
    "lone surrogate": LINE.replace("GET", "\\ud800"),
    "NUL": LINE.replace("GET", "\\u0000"),
    "raw control byte": LINE.replace("GET", "G\x01T"),
    "tab": LINE.replace("GET", "G\tT"),
    "carriage return": LINE + "\r",
    "not UTF-8": LINE,
    "combining character": LINE.replace("GET", "\u0301GET\u0301"),
    "U+2028": LINE.replace("GET", "G\u2028T"),
    "big tenant": LINE.replace('"tenant_id":7', '"tenant_id":18446744073709551616'),
    "tenant as text": LINE.replace('"tenant_id":7', '"tenant_id":"7"'),
    "tenant as float": LINE.replace('"tenant_id":7', '"tenant_id":7.5'),
    "tenant as e-mail": LINE.replace('"tenant_id":7', '"tenant_id":"kim@example.org"'),
    "user as number": LINE.replace('"u_3fa94c0d1b7e8a25"', "7"),
    "user as e-mail": LINE.replace("u_3fa94c0d1b7e8a25", "kim@example.org"),
    "empty user": LINE.replace("u_3fa94c0d1b7e8a25", ""),
    "empty method": LINE.replace('"GET"', '""'),
    "empty tags": LINE[: LINE.index("{", 1)] + "{}" + LINE[LINE.index("}") + 1 :],
    "no tags": LINE[: LINE.index('"tags"')] + LINE[LINE.index('"timestamp"') :],
    "fields outside tags": LINE[: LINE.index('"tags"')] + '"status":200,' + LINE[LINE.index('"timestamp"') :],
    "path with query": LINE.replace("/api/v1/courses/7", "/api/v1/courses/7?student=kim"),
    "path of numbers": LINE.replace("/api/v1/courses/7", "12345"),
    "no zone": LINE.replace("345Z", "345"),
    "impossible date": LINE.replace("11-23T", "02-30T"),
    "leap second": LINE.replace("07:55:12", "23:59:60"),
    "hour 24": LINE.replace("T07", "T24"),
    "short month": LINE.replace("2026-11-23T07:55:12.345Z", "2026-1-23T07:55:12.3456Z"),
    "signed year": LINE.replace("2026-", "+026-"),
    "blank in time": LINE.replace("T07:55", "T 7:55"),
    "year 0": LINE.replace("2026-", "0000-"),
    "ahead of the clock": LINE.replace("2026-", "2027-"),
    "another event": LINE.replace("api.request", "api.requesT"),
    "longer name": LINE.replace("api.request", "api.requests"),
    "upper case level": LINE.replace('"service"', '"level":"Info","service"'),
    "unknown level": LINE.replace('"service"', '"level":"LOUD","service"'),
    "own id": LINE.replace('"service"', '"event_id":"0123456789abcdef0123","service"'),
    "short own id": LINE.replace('"service"', '"event_id":"abcdef","service"'),
    "error on success": LINE.replace('"action":"show"', '"action":"show","error":"KeyError"'),
    "probe": LINE.replace('"action":"show"', '"action":"show","probe":true'),
    "probe as text": LINE.replace('"action":"show"', '"action":"show","probe":"true"'),
    "deep": LINE.replace('"GET"', "[" * 40 + "]" * 40),
    "cut": LINE[:-9],
    "two documents": LINE + LINE,
    "comment": LINE[:-1] + "/**/}",
    "long": LINE.replace("GET", "G" * 9000),
    "secret as request id": LINE.replace("6f1c0b52d94e4a7e", "sk-abcdefghijklmnop0123"),
    "digits as request id": LINE.replace("6f1c0b52d94e4a7e", "1234567890123456"),
    "wrapped twice": wrap(json.dumps({"message": LINE}, separators=(",", ":"))).decode(),
    "wrapped and cut": wrap(LINE[:-9]).decode(),
    "wrapped after text": wrap("params: " + LINE).decode(),
    "wrapped behind an open tag": wrap(LINE, "[abc ").decode(),
    "wrapped with a space before": wrap(" " + LINE).decode(),
    "wrapped behind tags without a space": wrap(LINE, "[abc]").decode(),
    "message of brackets": wrap("[worker] ready").decode(),
    "message with an escape": wrap('say "hello"').decode(),
    "message with personal data": wrap("mail to kim@example.org from 10.1.2.3").decode(),
    "message that is a number": wrap("12345").decode(),
    "message that is true": wrap("true").decode(),
    "outer escape in service": wrap(LINE).decode().replace("k12-core", "k12\\u002dcore", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_lines_agree_or_are_left_to_the_reference(name: str) -> None:
    line = HOSTILE[name].encode()
    if name == "not UTF-8":
        line = line.replace(b"GET", b"G\xff\xc0\xafT")
    compare([line, LINE.encode(), wrap(LINE)])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["success", "error", "200", "NaN", "true", "-1", "7", "u_0123456789abcdef", "a/b", "/x/1"]
    ),
)


@st.composite
def near_canonical(draw: st.DrawFn) -> bytes:
    """A canonical line of some event whose fields have some values of their kind and some of any kind."""
    event = EVENTS[draw(st.sampled_from(sorted(EVENTS)))]
    fields = dict(event.example)
    for name in draw(st.lists(st.sampled_from(event.field_names), max_size=3)):
        fields[name] = draw(SCALARS)  # type: ignore[assignment]  # hostile on purpose
    document = canonical(event.name, fields)
    if draw(st.booleans()):
        document.pop(draw(st.sampled_from(sorted(document))))
    compact = json.dumps(document, separators=(",", ":"), ensure_ascii=draw(st.booleans()))
    line = compact if draw(st.booleans()) else wrap(compact.encode("utf-8", "replace").decode()).decode()
    return line.encode("utf-8", "surrogatepass").replace(b"\n", b" ")


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(near_canonical(), min_size=1, max_size=20))
def test_generated_lines_agree(lines: list[bytes]) -> None:
    compare(lines)


#: Bytes that mean something to a JSON parser.
BYTES = list(b'{}[]",:\\0123456789eE.-+aNt \x00\xff')


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(
        [LINE.encode(), wrap(LINE), orjson.dumps(canonical("ai.request", dict(EVENTS["ai.request"].example)))]
    ),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from(BYTES)), max_size=4),
)
def test_mutated_lines_agree(line: bytes, edits: list[tuple[int, int, int]]) -> None:
    data = bytearray(line)
    for at, length, byte in edits:
        at %= len(data)
        data[at : at + length] = bytes([byte])
    compare([bytes(data)])


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.sampled_from(["/", "12", "7", "a", "v1", ":id", "x9y", "?", "#", "=", "//", "0" * 50]), max_size=8
    )
)
def test_paths_of_any_form_agree(parts: list[str]) -> None:
    compare([LINE.replace("/api/v1/courses/7", "".join(parts)).encode()])
