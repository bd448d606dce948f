"""Canaries: synthetic student records go through everything that prints, and nothing of a person comes out.

Names are hidden where a rule can know them: under their keys and in quotation marks. A bare name in prose is
beyond any emitter; that is why prompts, bodies and objects are never printed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

import tocsin
from tocsin.line import LINE_BYTES
from tocsin.testing import ListSink, capture_events

SYLLABLES = ("Zor", "quil", "Vex", "mar", "Ylb", "thun", "Jaq", "wend")
names = st.lists(st.sampled_from(SYLLABLES), min_size=2, max_size=3).map(
    lambda parts: "".join(parts).capitalize()
)


@dataclass(frozen=True)
class Student:
    """A made-up pupil; every value is a canary."""

    first_name: str
    last_name: str
    student_number: int
    email: str
    phone: str
    birth_date: str
    ip: str

    def canaries(self) -> list[str]:
        return [
            self.first_name,
            self.last_name,
            str(self.student_number),
            self.email,
            self.phone,
            self.birth_date,
            self.ip,
        ]


@st.composite
def students(draw: st.DrawFn) -> Student:
    first, last = draw(names), draw(names)
    number = draw(st.integers(10_000_000, 99_999_999))
    return Student(
        first_name=first,
        last_name=last,
        student_number=number,
        email=f"{first}.{last}@pupils.example.org",
        phone=f"+1 555 {draw(st.integers(100, 999))} {draw(st.integers(1000, 9999))}",
        birth_date=f"{draw(st.integers(2008, 2019))}-0{draw(st.integers(1, 9))}-{draw(st.integers(10, 28))}",
        ip=f"203.0.113.{draw(st.integers(100, 255))}",
    )


class Model:
    """As an ORM prints its rows."""

    def __init__(self, student: Student) -> None:
        self.student = student

    def __repr__(self) -> str:
        return f"<Student {self.student.first_name} {self.student.email}>"


def fields(s: Student) -> None:
    tocsin.emit(
        "api.request",
        user_id=s.student_number,
        path=f"/students/{s.student_number}?q={s.first_name}",
        ip=s.ip,
    )
    tocsin.emit(
        "auth.login", provider="saml", status="failure", reason=f"no user {s.email}", client_network=s.ip
    )
    tocsin.emit("enrolled", **asdict(s))


def containers(s: Student) -> None:
    tocsin.emit(
        "sync.run", rows=[asdict(s), s, Model(s)], by_mail={s.email: 1}, by_number={s.student_number: 1}
    )
    tocsin.emit(
        "sync.run", headers={"Cookie": s.first_name, "X-Forwarded-For": s.ip, "Referer": f"/x?m={s.email}"}
    )
    tocsin.emit("sync.run", headers=[("cookie", s.first_name), (b"authorization", s.last_name.encode())])


def free_text(s: Student) -> None:
    tocsin.log(
        "WARN", f"could not enrol '{s.first_name} {s.last_name}' <{s.email}>, {s.phone}, {s.student_number}"
    )
    tocsin.log(
        "ERROR", f"duplicate key: Key (name)=({s.first_name} {s.last_name}) from {s.ip}", note=s.birth_date
    )
    tocsin.emit(
        "job.completed",
        error_message=f'no "{s.last_name}" born {s.birth_date}',
        error=ValueError(s.first_name),
    )


def content(s: Student) -> None:
    tocsin.emit("ai.request", prompt=f"Write to {s.first_name}", completion=f"Dear {s.first_name}", tokens=12)
    tocsin.emit(
        "ai.invocation", context={"student": s.first_name}, messages=[{"content": s.last_name}], model="m"
    )
    tocsin.emit("api.request", params={"q": s.last_name}, body=s.email, settings={"for": s.first_name})


def bound(s: Student) -> None:
    with tocsin.bind(
        user_id=s.student_number, email=s.email, session_id=s.first_name, note=f"'{s.last_name}'"
    ):
        tocsin.emit("job.queue", queue="default", depth=1)
        tocsin.log("INFO", "hello")


def timing(s: Student) -> None:
    @tocsin.timed("job.completed", student=s.first_name, user=s.last_name)
    async def job() -> None:
        raise LookupError(s.email)

    with suppress(LookupError):
        asyncio.run(job())


EVERYTHING: tuple[Callable[[Student], None], ...] = (fields, containers, free_text, content, bound, timing)


def everything(student: Student) -> ListSink:
    with capture_events() as captured:
        for emitting in EVERYTHING:
            emitting(student)
    return captured


@given(students())
def test_no_line_holds_anything_of_a_student(student: Student) -> None:
    captured = everything(student)
    assert len(captured.lines) == 15
    printed = b"".join(captured.lines).decode()
    assert [canary for canary in student.canaries() if canary in printed] == []


def test_what_the_on_call_engineer_needs_stays() -> None:
    student = Student(
        "Zorquil", "Vexmar", 90210017, "z@example.org", "+1 555 010 9999", "2014-05-09", "203.0.113.7"
    )
    lines = everything(student).events
    assert lines[0]["tags"]["user_id"] == lines[12]["tags"]["user_id"]
    assert lines[0]["tags"]["path"] == "/students/:id"
    assert lines[1]["tags"]["reason"] == "no user [email]"
    assert lines[6]["message"] == "could not enrol [text] <[email]>, [number], [number]"
    assert lines[9]["tokens"] == 12
    assert lines[14]["tags"]["error"] == "LookupError"


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
LONG = st.text(st.characters(), min_size=1, max_size=4).map(lambda part: part * 20_000)


@given(
    st.text(st.characters(), max_size=20),
    st.dictionaries(st.text(st.characters(), max_size=8), ANYTHING | LONG, max_size=4),
)
def test_every_line_is_one_json_object_of_bounded_length(name: str, given_fields: dict[str, Any]) -> None:
    with capture_events() as captured:
        tocsin.emit(name, **given_fields)
        tocsin.log(name, name, **given_fields)
    assert len(captured.lines) == 2
    for line in captured.lines:
        assert len(line) <= LINE_BYTES
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert isinstance(orjson.loads(line), dict)
