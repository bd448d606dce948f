from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tocsin
from tocsin.trace import (
    Traceparent,
    add_outgoing_headers,
    child,
    outgoing_headers,
    parse_traceparent,
    request_id,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"

hexadecimal = st.text("0123456789abcdef", min_size=56, max_size=56)


@pytest.mark.parametrize(
    "header",
    [
        "a",
        "6f1c0b52-d94e-4a7e-9f1e-0a1b2c3d4e5f",
        "Root=1-67891233-abcdef",
        "YWJj+/==",
        "a.b_c~d:e",
        "x" * 128,
    ],
)
def test_a_fit_request_id_is_taken(header: str) -> None:
    assert request_id(header) == header


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x" * 129,
        "a b",
        "a\r\nSet-Cookie: x",
        "a\n",
        "mia@school.example",
        "é",
        "a,b",
        "<a>",
        '"',
        "\0",
    ],
)
def test_an_unfit_request_id_is_replaced(header: str | None) -> None:
    made = request_id(header)
    assert len(made) == 16
    assert int(made, 16) >= 0


def test_new_ids_differ_also_after_a_fork() -> None:
    script = """
import os
from tocsin.trace import child, request_id
request_id(None), child(None)
for _ in range(3):
    if os.fork() == 0:
        ids = [request_id(None) for _ in range(50)] + [child(None).header for _ in range(50)]
        os.write(1, ("\\n".join(ids) + "\\n").encode())
        os._exit(0)
for _ in range(3):
    os.wait()
"""
    ids = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.split()
    assert len(ids) == len(set(ids)) == 300


def test_a_valid_traceparent() -> None:
    assert parse_traceparent(VALID) == Traceparent(TRACE, SPAN, "01")


@pytest.mark.parametrize("header", [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-00-what-the-future-will-be"])
def test_a_future_version_is_read_and_may_be_longer(header: str) -> None:
    assert parse_traceparent(header) == Traceparent(TRACE, SPAN, header.split("-")[3])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        VALID.upper(),
        VALID + "-more",
        VALID + "\n",
        f" {VALID}",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"{VALID},{VALID}",
    ],
)
def test_what_is_no_traceparent(header: str | None) -> None:
    assert parse_traceparent(header) is None


@given(st.text() | hexadecimal.map(lambda x: f"{x[:2]}-{x[2:34]}-{x[34:50]}-{x[50:52]}{x[52:]}"))
def test_any_header_is_a_traceparent_or_none(header: str) -> None:
    parse_traceparent(header)


@given(hexadecimal)
def test_a_child_stays_in_the_trace(digits: str) -> None:
    parent = parse_traceparent(f"00-{digits[:32]}-{digits[32:48]}-{digits[48:50]}")
    made = child(parent)
    assert parse_traceparent(made.header) == made
    if parent is None:
        assert made.trace_flags == "01"
    else:
        assert made.trace_id == parent.trace_id
        assert made.span_id != parent.span_id
        assert int(made.trace_flags, 16) == int(parent.trace_flags, 16) & 1


def test_outgoing_headers_are_those_of_the_bound_request() -> None:
    assert outgoing_headers() == {}
    with tocsin.bind(request_id="abc", trace_id=TRACE, span_id=SPAN, trace_flags="01"):
        assert outgoing_headers() == {"X-Request-ID": "abc", "traceparent": VALID}
    with tocsin.bind(request_id="abc"):
        assert outgoing_headers() == {"X-Request-ID": "abc"}


def test_what_does_not_fit_into_a_header_is_not_sent() -> None:
    with tocsin.bind(request_id="a\r\nb: c", trace_id=f"{TRACE}\r\n", span_id=SPAN):
        assert outgoing_headers() == {}


def test_headers_of_the_caller_stay() -> None:
    headers = {"X-Request-ID": "mine"}
    with tocsin.bind(request_id="abc", trace_id=TRACE, span_id=SPAN):
        assert add_outgoing_headers(headers) == ["traceparent"]
    assert headers == {"X-Request-ID": "mine", "traceparent": VALID}
