"""The condition language of findings: ``failed.rows > 0 and not google.ok``. Read by hand, never evaluated
as code.

    condition   = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "(" condition ")" | comparison
    comparison  = operand [ ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) operand | "~" string ]
    operand     = number | string | "true" | "false" | "null" | step "." member
    member      = "rows" | "ok" | "status" | "ms" | "json" path | "header" "." name | "first" "." column
                | ( "sum" | "min" | "max" ) "(" column ")"
                | ( "any" | "all" | "count" ) "(" condition ")"
    path        = { "." name | "[" number "]" | "[" string "]" }

In the brackets of ``any``, ``all`` and ``count`` an operand is a column instead of a step's member.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, NoReturn

from tocsin_server.runbook import regex
from tocsin_server.runbook.compare import OPERATORS
from tocsin_server.runbook.expressions import (
    Both,
    Column,
    Compare,
    Either,
    Literal,
    Match,
    Negated,
    Predicate,
    Reference,
    Value,
    of_answers,
    references,
)
from tocsin_server.runbook.model import Answer

MAX_CHARS = 1000
MAX_DEPTH = 32

_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
#: Words that name no step and no column.
RESERVED = frozenset({*_WORDS, "and", "or", "not"})
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d{1,40}(?:\.\d{1,40})?)
        | (?P<text>"(?:[^"\\]|\\.)*")
        | (?P<name>[A-Za-z_][\w-]*)
        | (?P<sign>!=|<=|>=|[=<>~().\[\]]))""",
    re.ASCII | re.VERBOSE | re.DOTALL,
)
_MEMBERS = "rows, ok, status, ms, json, header, first, sum, min, max, any, all, count"


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed condition (:class:`~tocsin_server.runbook.model.Condition`), with what it refers to."""

    text: str
    root: Predicate

    @property
    def references(self) -> tuple[Reference, ...]:
        """Every member of every step that it looks at, in the order of the text."""
        return tuple(references(self.root))

    @property
    def steps(self) -> frozenset[str]:
        """Ids of the steps it looks at."""
        return frozenset(reference.step for reference in self.references)

    def evaluate(self, answers: Mapping[str, Answer]) -> tuple[bool | None, str]:
        """(verdict, reason). A step that did not answer makes it unknown, never false, unless the rest
        decides; the reason begins with the step's id.
        """
        return of_answers(self.root, answers)


def parse(text: str) -> Expression:
    """The condition in ``text``. Raises ValueError with the character's place and what was expected there."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"has {len(text)} characters; {MAX_CHARS} are allowed, write two findings")
    return Expression(text, _Parser(_tokens(text)).whole())


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    end = len(text.rstrip())
    position = 0
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            what = "a text that is not closed" if text[start] == '"' else f"`{text[start]}`"
            raise ValueError(f"character {start + 1}: did not expect {what}")
        kind = found.lastgroup or ""
        tokens.append(_Token(kind, found[kind], found.start(kind)))
        position = found.end()
    return [*tokens, _Token("end", "the end", end)]


class _Parser:
    """Recursive descent over the tokens of one condition."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.in_rows = False

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def whole(self) -> Predicate:
        predicate = self.condition()
        if self.next.kind != "end":
            self.fail("`and`, `or` or the end")
        return predicate

    def condition(self) -> Predicate:
        parts = [self.conjunction()]
        while self.took("name", "or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def conjunction(self) -> Predicate:
        parts = [self.negation()]
        while self.took("name", "and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def negation(self) -> Predicate:
        if self.took("name", "not"):
            return Negated(self.nested(self.negation))
        if self.took("sign", "("):
            inner = self.nested(self.condition)
            self.expect("sign", ")")
            return inner
        return self.comparison()

    def nested(self, rule: Callable[[], Predicate]) -> Predicate:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} levels of brackets and `not`")
        inner = rule()
        self.depth -= 1
        return inner

    def comparison(self) -> Predicate:
        left = self.operand()
        if self.took("sign", "~"):
            return Match(left, self.pattern())
        sign = self.next
        if sign.kind == "sign" and sign.text in OPERATORS:
            self.position += 1
            return Compare(sign.text, left, self.operand())
        if not _may_stand_alone(left):
            self.fail("a comparison")
        return Compare("", left, left)

    def pattern(self) -> str:
        token = self.next
        pattern = _text(self.expect("text", expected="a regular expression in quotes"))
        try:
            regex.check(pattern)
        except ValueError as error:
            raise ValueError(f"character {token.start + 1}: the regular expression: {error}") from None
        return pattern

    def operand(self) -> Value:
        token = self.next
        if token.kind == "number":
            self.position += 1
            return Literal(Decimal(token.text))
        if token.kind == "text":
            self.position += 1
            return Literal(_text(token.text))
        if token.kind == "name" and token.text in _WORDS:
            self.position += 1
            return Literal(_WORDS[token.text])
        return Column(self.column()) if self.in_rows else self.reference()

    def reference(self) -> Reference:
        step = self.name("a step's id, a number, a text, true, false or null")
        self.expect("sign", ".", f"`.` and one of {_MEMBERS}")
        member = self.next
        rule = _RULES.get(member.text) if member.kind == "name" else None
        if rule is None:
            self.fail(f"one of {_MEMBERS}")
        self.position += 1
        return rule(self, step, member.text)

    def plain(self, step: str, member: str) -> Reference:
        return Reference(step, member)

    def dotted(self, step: str, member: str) -> Reference:
        self.expect("sign", ".")
        expected = "a header's name" if member == "header" else "a column"
        name = self.expect("name", expected=expected)
        return Reference(step, member, (name.lower() if member == "header" else name,))

    def json(self, step: str, member: str) -> Reference:
        path: list[str | int] = []
        while self.next.text in (".", "[") and self.next.kind == "sign":
            path.append(self.json_member())
        return Reference(step, member, tuple(path))

    def json_member(self) -> str | int:
        if self.took("sign", "."):
            return self.expect("name", expected="a member's name")
        self.expect("sign", "[")
        place = self.next
        if place.kind == "text":
            key: str | int = _text(self.expect("text"))
        elif place.kind == "number" and place.text.isdigit() and len(place.text) <= 6:
            key = int(self.expect("number"))
        else:
            self.fail("a place from 0 or a member's name in quotes")
        self.expect("sign", "]")
        return key

    def over_column(self, step: str, member: str) -> Reference:
        self.expect("sign", "(")
        column = self.column()
        self.expect("sign", ")")
        return Reference(step, member, (column,))

    def over_rows(self, step: str, member: str) -> Reference:
        self.expect("sign", "(")
        self.in_rows = True
        where = self.nested(self.condition)
        self.in_rows = False
        self.expect("sign", ")")
        return Reference(step, member, where=where)

    def column(self) -> str:
        return self.name("a column of the step" + (", a number or a text" if self.in_rows else ""))

    def name(self, expected: str) -> str:
        if self.next.text in RESERVED:
            self.fail(expected)
        return self.expect("name", expected=expected)

    def took(self, kind: str, text: str) -> bool:
        if self.next.kind != kind or self.next.text != text:
            return False
        self.position += 1
        return True

    def expect(self, kind: str, text: str = "", expected: str = "") -> str:
        token = self.next
        if token.kind != kind or (text and token.text != text):
            self.fail(expected or f"`{text}`")
        self.position += 1
        return token.text

    def fail(self, expected: str) -> NoReturn:
        found = self.next.text if self.next.kind == "end" else f"`{self.next.text}`"
        raise ValueError(f"character {self.next.start + 1}: expected {expected}, found {found}")


_RULES: dict[str, Callable[[_Parser, str, str], Reference]] = {
    **dict.fromkeys(("rows", "ok", "status", "ms"), _Parser.plain),
    **dict.fromkeys(("header", "first"), _Parser.dotted),
    "json": _Parser.json,
    **dict.fromkeys(("sum", "min", "max"), _Parser.over_column),
    **dict.fromkeys(("any", "all", "count"), _Parser.over_rows),
}


def _may_stand_alone(value: Value) -> bool:
    """Whether it can be true or false by itself."""
    if isinstance(value, Literal):
        return isinstance(value.value, bool)
    return isinstance(value, Column) or value.member in ("ok", "any", "all", "json", "first")


def _text(quoted: str) -> str:
    r"""The text between the quotes; a backslash stays, except before a quote: ``"\d"`` is a digit."""
    return quoted[1:-1].replace('\\"', '"')
