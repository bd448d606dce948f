"""The front matter of a runbook: who owns it, which alerts link to it, what its steps may use."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tocsin_server.clock import SECOND_US
from tocsin_server.durations import Duration
from tocsin_server.errors import Fault
from tocsin_server.runbook.inputs import typed
from tocsin_server.runbook.model import Input
from tocsin_server.runbook.question import AS_OF
from tocsin_server.yamlfile import Document, load_yaml

#: Bounds of one step: seconds, rows, bytes.
MAX_STEP_S = 30.0
MAX_ROWS = 1_000
MAX_BYTES = 65_536

_SIZE = re.compile(r"(\d{1,9})(k?)", re.ASCII)
_FENCE = re.compile(r"---[ \t]*\n(.*?\n)??---[ \t]*(?:\n|\Z)", re.DOTALL)


def parse_bytes(text: str) -> int:
    """Bytes of ``16k`` or ``16384``, between 256 and 65,536. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * (1024 if match[2] else 1) if match else 0
    if not 256 <= size <= MAX_BYTES:
        raise ValueError("is not a size from 256 to 64k; write 16k")
    return size


def _wrong(message: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("runbook", "{message}", {"message": message, "hint": hint})


def _like(pattern: str, message: str, hint: str) -> AfterValidator:
    form = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if not form.fullmatch(value):
            raise _wrong(message, hint)
        return value

    return AfterValidator(check)


def _day(value: str) -> str:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            date.fromisoformat(value)
            return value
    except ValueError:
        pass
    raise _wrong("is not a date", "write 2026-02-16")


def _size(value: object) -> int:
    try:
        return parse_bytes(str(value))
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise _wrong(message, hint) from None


Id = Annotated[str, _like(r"[a-z0-9_-]{1,64}", "is not an id", "use a-z, 0-9, `-` and `_`, at most 64")]
Name = Annotated[
    str, _like(r"[A-Za-z0-9][\w.-]{0,99}", "is not a name", "use letters, digits, `_`, `-`, `.`")
]
Words = Annotated[
    str, _like(r"[^\0-\x1f]*[^\0-\x20][^\0-\x1f]*", "is empty or has several lines", "write one line")
]
Parameter = Annotated[str, _like(r"[a-z][a-z0-9_]{0,39}", "is not an input's name", "use a-z, 0-9 and `_`")]
Source = Annotated[
    str,
    _like(
        r"labels\.[A-Za-z_]\w{0,99}|incident\.started_at",
        "is no source of values",
        "write labels.NAME or incident.started_at",
    ),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class InputDeclaration(_Part):
    """One entry of ``inputs``."""

    type: Literal["int", "str", "enum", "duration", "slug"]
    default: str | int | None = None
    source: Annotated[Source | None, Field(alias="from")] = None
    values: list[Words] = []

    @model_validator(mode="after")
    def _fits(self) -> InputDeclaration:
        if (self.type == "enum") != bool(self.values):
            raise _wrong("`values` and the type enum belong together", "write type: enum and values: [a, b]")
        if self.default is not None:
            try:
                typed(self.declared("default"), self.default)
            except ValueError as error:
                raise _wrong(f"the default `{self.default}` {error}", "correct it, or the type") from None
        return self

    def declared(self, name: str) -> Input:
        """The input of the model."""
        return Input(name, self.type, self.default, self.source, tuple(self.values))


class Budget(_Part):
    """Most time of all steps together, and the bounds of a step that names none."""

    total: Duration = 30 * SECOND_US
    step: Duration = 5 * SECOND_US
    rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 50
    bytes: Annotated[int, BeforeValidator(_size, json_schema_input_type=str | int)] = 16_384

    @model_validator(mode="after")
    def _is_bounded(self) -> Budget:
        if not SECOND_US <= self.total <= 300 * SECOND_US:
            raise _wrong("`total` is not from 1s to 5m", "write total: 30s")
        if not SECOND_US // 10 <= self.step <= MAX_STEP_S * SECOND_US:
            raise _wrong("`step` is not from 100ms to 30s", "write step: 5s")
        return self


class FrontMatter(_Part):
    """The whole front matter."""

    runbook: Literal[1]
    id: Id
    title: Words
    service: Words
    owner: Words
    alerts: Annotated[list[Name], Field(min_length=1)]
    last_reviewed: Annotated[str, AfterValidator(_day)]
    review_every: Duration
    connections: list[Name]
    inputs: dict[Parameter, InputDeclaration] = {}
    budget: Budget = Budget()
    escalation: Words

    def declared(self) -> tuple[Input, ...]:
        """The inputs of the model."""
        return tuple(declaration.declared(name) for name, declaration in self.inputs.items())


def split(source: str) -> tuple[str, str]:
    """The front matter's YAML and the Markdown, each with empty lines in place of the other, so that lines
    count as in the file.
    """
    fence = _FENCE.match(source)
    if fence is None:
        return "", source
    return "\n" + (fence[1] or ""), "\n" * fence[0].count("\n") + source[fence.end() :]


def read(yaml: str, file: str) -> tuple[FrontMatter | None, Document, list[Fault]]:
    """The front matter of ``split``'s YAML, its lines, and its faults."""
    if not yaml:
        hint = "begin with `---`, the keys `runbook: 1`, `id`, `title`, …, and `---`"
        return None, Document(file), [Fault(file, 1, "there is no front matter", hint)]
    document, faults = load_yaml(yaml, file)
    if document.data is None:
        return None, document, faults
    return _typed(document, faults)


def _typed(document: Document, faults: list[Fault]) -> tuple[FrontMatter | None, Document, list[Fault]]:
    front = None
    try:
        front = FrontMatter.model_validate(document.data)
    except ValidationError as error:
        faults = faults + document.faults_of(error, FrontMatter)
    return front, document, faults + _built_in(document)


def _built_in(document: Document) -> list[Fault]:
    inputs: Any = document.data.get("inputs") if isinstance(document.data, dict) else None
    return [
        document.fault(("inputs", name), f"`{name}` is given by Tocsin", "rename the input")
        for name in (inputs if isinstance(inputs, dict) else ())
        if name == AS_OF
    ]
