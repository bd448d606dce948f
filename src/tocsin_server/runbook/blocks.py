"""Executable blocks: what stands after the fence, and who decides what may run by itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

from tocsin_server.clock import SECOND_US
from tocsin_server.durations import parse_duration
from tocsin_server.errors import Fault
from tocsin_server.runbook import conditions
from tocsin_server.runbook.front import MAX_ROWS, MAX_STEP_S, Budget, parse_bytes
from tocsin_server.runbook.http import Request, read_request
from tocsin_server.runbook.markdown import Fence, Passage
from tocsin_server.runbook.model import Kind, RunMode, Step
from tocsin_server.runbook.question import NotAsked
from tocsin_server.yamlfile import did_you_mean

KINDS: tuple[Kind, ...] = get_args(Kind)
#: Sections whose reading steps run by themselves.
RUNNING_SECTIONS = ("Investigation", "Verification")

_WORD = re.compile(r"""\s*([^\s="']+)(?:=("[^"]*"|'[^']*'|(?:[^\s"']\S*)?))?(?=\s|\Z)""")
_ID = re.compile(r"\sid=")
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_NOT_OURS = {
    "authorization",
    "cookie",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "proxy-authorization",
}


def attributes(info: str) -> tuple[str, dict[str, str], list[str]]:
    """The language of an info string, its ``key=value`` words, and what is wrong with the others.

    A value with spaces stands in quotes: ``expect='failed.rows = 0'``.
    """
    language, *rest = info.split(None, 1) or [""]
    text = rest[0].rstrip() if rest else ""
    words: dict[str, str] = {}
    problems: list[str] = []
    position = 0
    while position < len(text):
        found = _WORD.match(text, position)
        if found is None:
            problems.append(f"`{text[position:].strip()[:60]}` cannot be read; write key=value")
            break
        position = found.end()
        key, word = found[1], found[2]
        if word is None or key in words:
            problems.append(
                f"`{key[:40]}` {'stands twice' if word else 'has no value'}; write key=value once"
            )
        else:
            words[key] = word[1:-1] if word[:1] in ("'", '"') else word
    return language, words, problems


def read_step(fence: Fence, passage: Passage, budget: Budget, file: str) -> tuple[Step | None, list[Fault]]:
    """The step of a block that has an ``id``; None for documentation.

    With faults the step only serves to check the rest of the runbook.
    """
    language, words, problems = attributes(fence.info)
    if "id" not in words:
        return None, _faults(fence, "", problems if _ID.search(fence.info) else [], file)
    values: dict[str, Any] = {}
    for key, word in words.items():
        problems += _read(key, word, values)
    writes = True
    if language in KINDS:
        writes, found = _writes(language, fence.body)
        found += _raised(values.get("run", "ask"), language, writes, passage.section)
        found += _unconnected(language, words)
    else:
        hint = did_you_mean(language, KINDS)
        found = [f"`{language[:40]}` cannot be executed; {hint}, or remove `id=` from an example"]
    values.setdefault("run", _default_run(writes, passage.section))
    faults = _faults(fence, values.get("id", ""), problems + found, file)
    return _step(fence, language, values, writes, passage, budget) if "id" in values else None, faults


def _step(
    fence: Fence, kind: Any, values: dict[str, Any], writes: bool, passage: Passage, budget: Budget
) -> Step:
    defaults: dict[str, Any] = {
        "connection": "",
        "timeout_s": budget.step / SECOND_US,
        "max_rows": budget.rows,
        "max_bytes": budget.bytes,
    }
    return Step(
        kind=kind if kind in KINDS else "sh",
        body=fence.body,
        section=passage.section,
        title=passage.heading.text,
        line=fence.line,
        sha256=hashlib.sha256(f"{fence.info}\n{fence.body}".encode("utf-8", "surrogatepass")).hexdigest(),
        writes=writes,
        **(defaults | values),
    )


def _faults(fence: Fence, step: str, problems: Iterable[str], file: str) -> list[Fault]:
    return [Fault(file, fence.line, *_fault_words(step, problem)) for problem in problems]


def _fault_words(step: str, problem: str) -> tuple[str, str]:
    message, _, hint = problem.partition("; ")
    return f"block `{step}`: {message}" if step else f"block: {message}", hint


# --- attributes -----------------------------------------------------------------------------------------


def _read(key: str, word: str, values: dict[str, Any]) -> list[str]:
    """Puts the value of one attribute under its field's name; returns what is wrong."""
    if key not in _ATTRIBUTES:
        return [f"unknown attribute `{key[:40]}`; {did_you_mean(key, _ATTRIBUTES)}"]
    name, reader = _ATTRIBUTES[key]
    try:
        values[name] = reader(word)
    except ValueError as error:
        return [f"`{key}={word[:60]}` {error}"]
    return []


def _like(pattern: str, what: str) -> Callable[[str], str]:
    def read(word: str) -> str:
        if not re.fullmatch(pattern, word, re.ASCII):
            raise ValueError(what)
        return word

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    return _like("|".join(choices), f"is not one of {', '.join(choices)}; write one of them")


def _rows(word: str) -> int:
    if not re.fullmatch(r"\d{1,6}", word, re.ASCII) or not 1 <= int(word) <= MAX_ROWS:
        raise ValueError(f"is not a number of rows; write 1 to {MAX_ROWS}")
    return int(word)


def _timeout(word: str) -> float:
    try:
        seconds = parse_duration(word) / SECOND_US
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= MAX_STEP_S:
        raise ValueError(f"is not a time limit; write 100ms to {MAX_STEP_S:g}s")
    return seconds


def _columns(word: str) -> tuple[str, ...]:
    names = tuple(word.split(","))
    if not all(re.fullmatch(r"[A-Za-z_]\w{0,62}", name, re.ASCII) for name in names):
        raise ValueError("is not a list of columns; write columns=a,b without spaces")
    return names


def _expectation(word: str) -> str:
    try:
        return conditions.parse(word).text
    except ValueError as error:
        raise ValueError(f"is not a condition: {error}") from None


def _slug(word: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", word, re.ASCII):
        raise ValueError("is not an id; begin with a letter, use a-z, 0-9, `_` and `-`")
    if word in conditions.RESERVED:
        raise ValueError("is a word of the condition language; choose another id")
    return word


#: Attribute -> (field of Step, reader of its text).
_ATTRIBUTES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "id": ("id", _slug),
    "on": (
        "connection",
        _like(r"[A-Za-z0-9][\w.-]{0,99}", "is not a connection's name; use letters and digits"),
    ),
    "run": ("run", _one_of(*get_args(RunMode))),
    "timeout": ("timeout_s", _timeout),
    "rows": ("max_rows", _rows),
    "bytes": ("max_bytes", parse_bytes),
    "columns": ("columns", _columns),
    "expect": ("expect", _expectation),
    "risk": ("risk", _one_of("low", "high")),
    "needs": ("needs", _slug),
    "redact": ("redact", _one_of("strict", "standard")),
}


# --- what may run ---------------------------------------------------------------------------------------


def _writes(kind: str, body: str) -> tuple[bool, list[str]]:
    """The class of a block, and what is wrong with its body. SQL reads: its executor refuses the rest."""
    if kind != "http":
        return kind == "sh", [] if body.strip() else ["holds nothing to run; write it, or remove the block"]
    try:
        request = read_request(body)
    except NotAsked as error:
        return True, [error.reason]
    return not request.reads, list(_unsendable(request, body.strip("\n").partition("\n\n")[2]))


def _unsendable(request: Request, content: str) -> Iterator[str]:
    if request.method not in _METHODS:
        yield f"`{request.method}` is no method of HTTP; write one of {', '.join(_METHODS)}"
    if content.strip() and request.reads:
        yield f"a {request.method} has no body; remove it"
    for name in request.headers:
        if name.lower() in _NOT_OURS:
            yield f"the header {name} is not the runbook's to send; configure it at the connection"


def _default_run(writes: bool, section: str) -> RunMode:
    return "auto" if not writes and section in RUNNING_SECTIONS else "ask"


def _raised(run: str, kind: str, writes: bool, section: str) -> list[str]:
    """A document lowers what runs by itself, it never raises it."""
    if run != "auto" or _default_run(writes, section) == "auto":
        return []
    why = f"a {kind} block that may write" if writes else f"a block under {section or 'no section'}"
    return [f"{why} never runs by itself; write run=ask or run=never"]


def _unconnected(kind: str, words: Mapping[str, str]) -> list[str]:
    if kind != "sh" and "on" not in words:
        return [f"a {kind} block needs a connection; write on=events, or a name of `connections`"]
    if kind == "http" and words.get("on") == "events":
        return ["`events` answers SQL; write the name of an http connection"]
    return ["a sh block has no connection; remove `on=`"] if kind == "sh" and "on" in words else []
