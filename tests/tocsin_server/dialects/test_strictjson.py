"""Reliability table 3.1, one test per cell (row I3 of the bar), and the limits of 3.2."""

from __future__ import annotations

import time

import orjson
import pytest
from parsing import REPLAY, reason, understood

from tocsin_server.dialects import MAX_LINE_BYTES, REASONS, Parsed, parse_line, strip_bom

DEEP = 1_000_000

REJECTED: dict[str, tuple[bytes, str]] = {
    "I3-nan": (b'{"a":NaN}', "non_finite"),
    "I3-infinity": (b'{"a":-Infinity}', "non_finite"),
    "I3-1e999": (b'{"a":1e999}', "non_finite"),
    "I3-5000-digits": (b'{"a":' + b"9" * 5000 + b"}", "number_too_long"),
    "I3-depth-33": (b'{"a":' * 33 + b"1" + b"}" * 33, "too_deep"),
    "I3-depth-1000": (b'{"a":' * 1000 + b"1" + b"}" * 1000, "too_deep"),
    "I3-depth-100000": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
    "I3-open-arrays": (b"[" * DEEP, "too_deep"),
    "I3-depth-1e6": (b'{"a":' * DEEP, "too_long"),
    "I3-control-byte": (b'{"a":"\x01"}', "control_character"),
    "I3-raw-nul": (b'{"a":"\x00"}', "nul_bytes"),
    "I3-bom-inside-the-stream": (b'\xef\xbb\xbf{"a":1}', "byte_order_mark"),
    "I3-utf16-with-bom": ('{"a":1}'.encode("utf-16"), "byte_order_mark"),
    "I3-utf16": ('{"a":1}'.encode("utf-16-le"), "nul_bytes"),
    "I3-top-level-12": (b"12", "not_object"),
    "I3-top-level-string": (b'"x"', "not_object"),
    "I3-top-level-true": (b" true ", "not_object"),
    "I3-top-level-array": (b"[1,2]", "not_object"),
    "I3-trailing-comma": (b'{"a":1,}', "malformed"),
    "I3-truncated": (b'{"a":"b', "malformed"),
    "I3-two-objects": (b'{"a":1}{"b":2}', "malformed"),
    "I3-1e6-keys": (b"{" + b",".join(b'"%d":1' % i for i in range(DEEP)) + b"}", "too_long"),
    "I3-1e6-duplicate-keys": (b"{" + b'"a":1,' * DEEP + b'"a":2}', "too_long"),
}


@pytest.mark.parametrize(("line", "expected"), REJECTED.values(), ids=REJECTED)
def test_rejected(line: bytes, expected: str) -> None:
    started = time.process_time()
    assert reason(line) == expected
    assert expected in REASONS
    assert time.process_time() - started < 10  # 50 ms on a quiet machine


def attrs(line: bytes) -> dict[str, object]:
    return understood(line).attrs or {}


def test_i3_duplicate_key_last_wins() -> None:
    assert attrs(b'{"a":1,"a":2}') == {"a": 2}
    assert attrs(b'{"a":1,"a":9223372036854775808}') == {"a": "9223372036854775808"}


@pytest.mark.parametrize(
    ("number", "stored"),
    [
        ("18446744073709551616", "18446744073709551616"),
        ("18446744073709551615", "18446744073709551615"),
        ("9223372036854775807", 9223372036854775807),
        ("-9223372036854775808", -9223372036854775808),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" + "0" * 400, "1" + "0" * 400),
        ("1e300", 1e300),
        ("0.1234567890123456789012", 0.1234567890123456789012),
    ],
    ids=[
        "I3-2^64",
        "I3-u64",
        "I3-max",
        "I3-min",
        "I3-below-min",
        "I3-400-digits",
        "I3-1e300",
        "I3-long-fraction",
    ],
)
def test_i3_integers_beyond_int64_are_kept_as_text(number: str, stored: object) -> None:
    assert attrs(b'{"a":' + number.encode() + b"}") == {"a": stored}


def test_i3_lone_surrogate_is_replaced_and_flagged() -> None:
    event = understood(rb'{"message":"a \ud800 b","x":"\udc00","y":"\ud83d\ude00"}')
    assert event.message == "a \ufffd b"
    assert event.attrs == {"x": "\ufffd", "y": "😀", "encoding_replaced": True}


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80"], ids=["I3-invalid", "I3-overlong", "I3-cesu"]
)
def test_i3_invalid_utf8_is_replaced_and_flagged(raw: bytes) -> None:
    for line in (b'{"message":"caf' + raw + b'"}', b"caf" + raw):
        event = understood(line)
        assert "\ufffd" in (event.message or "")
        assert (event.attrs or {})["encoding_replaced"] is True


def test_a_replacement_character_of_its_own_is_no_flag() -> None:
    assert understood("a \ufffd b").attrs is None


def test_i3_escaped_nul_stays_escaped() -> None:
    event = understood(rb'{"message":"a\u0000b","k\u0000":"\u0000","service":"s"}')
    assert event.message == "a\\u0000b"
    assert "\0" not in repr(event.attrs)


def test_i3_bom_at_the_start_of_the_stream_is_stripped() -> None:
    assert attrs(strip_bom(b'\xef\xbb\xbf{"a":1}')) == {"a": 1}
    assert strip_bom(b'{"a":1}') == b'{"a":1}'


def test_i3_depth_32_is_read_and_proto_is_a_name() -> None:
    assert attrs(b'{"a":' * 32 + b"1" + b"}" * 32)["a"] is not None
    assert attrs(b'{"__proto__":1}') == {"__proto__": 1}


def test_brackets_in_strings_are_no_depth() -> None:
    assert attrs(orjson.dumps({"a": "[{" * 40}))["a"] == "[{" * 40


def test_carriage_return_and_blank_lines() -> None:
    assert attrs(b'{"a":1}\r') == {"a": 1}
    assert [parse_line(line, REPLAY) for line in (b"", b"\r", b"  \t ")] == [None] * 3


def test_line_separators_inside_a_line_are_text() -> None:
    assert understood("a\u2028b\u0085c\x0cd").message == "a\u2028b\u0085c\x0cd"


# ---- limits --------------------------------------------------------------------------------------


def test_i8_fields_beyond_256_go_to_overflow_text() -> None:
    stored = attrs(orjson.dumps({f"f{i}": i for i in range(1000)}))
    assert len(stored) == 257
    overflow = orjson.loads(str(stored["_overflow"]))
    assert overflow == {f"f{i}": i for i in range(256, 1000)}


def test_depth_beyond_8_goes_to_overflow_text() -> None:
    stored = attrs(b'{"a":' * 12 + b'"deep"' + b"}" * 12)
    assert orjson.loads(str(stored.pop("_overflow"))) == {".".join("a" * 12): "deep"}
    assert stored == orjson.loads(b'{"a":' * 8 + b"{}" + b"}" * 8)


def test_overflow_is_redacted_too() -> None:
    fields = {f"f{i}": i for i in range(256)} | {
        "email": "maria@example.org",
        "note": "call maria@example.org",
    }
    assert "maria" not in repr(attrs(orjson.dumps(fields)))


def test_strings_are_cut_to_64_kib() -> None:
    event = understood(orjson.dumps({"message": "ä" * 60_000, "other": "x " * 60_000}))
    assert len((event.message or "").encode()) == 65_536
    assert (event.attrs or {})["message_truncated"] is True
    assert (event.attrs or {})["truncated"] is True
    assert len((event.attrs or {})["other"]) == 65_535


def test_tailing_case_10_a_long_text_line_keeps_64_kib() -> None:
    event = understood(b"word " * (MAX_LINE_BYTES // 4))
    assert 65_000 < len(event.message or "") <= 65_536
    assert event.attrs == {"message_truncated": True}


HARD = {
    "many keys": orjson.dumps({f"k_{i}": i for i in range(60_000)}),
    "long list": b'{"a":[' + b"1," * 400_000 + b"1]}",
    "many lists": b'{"a":[' + b"[]," * 300_000 + b"1]}",
    "quotes": orjson.dumps({"message": "'\"" * 200_000}),
    "words": orjson.dumps({"message": "a-" * 400_000}),
    "slashes": orjson.dumps({"message": "/a" * 400_000}),
    "at signs": orjson.dumps({"message": "a@" * 400_000}),
    "dots": orjson.dumps({"message": "1." * 400_000}),
    "colons": orjson.dumps({"message": "a:" * 400_000}),
    "digits": orjson.dumps({"message": "1" * 900_000}),
    "hexadecimal": orjson.dumps({"message": "a1234567" * 100_000}),
    "open quotes": orjson.dumps({"message": "('" * 400_000}),
    "plus": orjson.dumps({"message": "+1 2" * 200_000}),
    "text": b"a=b " * 250_000,
}


@pytest.mark.parametrize("line", HARD.values(), ids=HARD)
def test_hard_lines_take_bounded_time(line: bytes) -> None:
    started = time.process_time()
    assert isinstance(parse_line(line, REPLAY), Parsed)
    assert time.process_time() - started < 30  # a quadratic pattern takes minutes, on any machine
