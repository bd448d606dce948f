"""An exception as fields of a log line: its class, its message and where it happened.

A frame is ``file:line function``. Source lines and local variables, which quote what the program was working
on, are never looked at. Other code often hands over the text of a traceback: it is taken apart likewise.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import TracebackType
from typing import Any

#: The frames that are kept: where it began, and where it happened.
OUTER_FRAMES = 8
INNER_FRAMES = 24
#: The causes, contexts and members of a group that are told, nearest first.
CAUSES = 4
#: Longest text that is taken apart, in characters: its end, where the error stands.
TEXT_CHARACTERS = 256 * 1024

_HEADER = "Traceback (most recent call last):"
#: Not that of a group's member, which stands in a frame of `|`.
_START = re.compile(rf"(?:[ +]*Exception Group )?(?<!\| ){re.escape(_HEADER)}")
_FRAME = re.compile(r'^[ |>+]*File "([^"\n]{1,1000})", line (\d{1,9}), in (.{1,200})$', re.MULTILINE)
#: The last line of a traceback, such as `json.decoder.JSONDecodeError: Expecting value`.
_ERROR = re.compile(r"^(?:  *\| )?([A-Za-z_][\w.]{0,200})(?:: (.*))?$", re.MULTILINE)


def exception_fields(error: BaseException) -> dict[str, Any]:
    """``exception`` (class), ``exception_message``, ``stacktrace``, and ``causes`` with the same fields.

    The message is ``str(error)``, which is still to be redacted. Raises nothing.
    """
    causes = [_own_fields(cause) for cause in _causes(error)]
    return {**_own_fields(error), **({"causes": causes} if causes else {})}


def frame(path: str, line: object, function: object) -> str:
    """``file:line function``; the file as it is imported, without the folders above the package."""
    return f"{_imported_path(path)}:{line} {function}"


def frames_in_text(text: str) -> list[str]:
    """The frames of a stack or traceback that somebody has formatted."""
    return _bounded([found.groups() for found in _FRAME.finditer(text[-TEXT_CHARACTERS:])])


def without_traceback(message: str) -> tuple[str, dict[str, Any]]:
    """``message`` without the tracebacks in its text, and what the last of them said as fields.

    A ``QueueHandler`` hands exceptions over like this, and ``traceback.format_exc()`` writes them so.
    """
    starts = list(_START.finditer(message)) if _HEADER in message else []
    if not starts:
        return message, {}
    last = message[starts[-1].end() :]
    error = _error_in_text(last)
    head = message[: starts[0].start()].rstrip() or error.get("exception", "exception")
    return head, {"stacktrace": frames_in_text(last) or None, **error}


def _error_in_text(text: str) -> dict[str, str]:
    """Class and message from the first line that is neither a frame nor source, which are indented."""
    found = _ERROR.search(text[-TEXT_CHARACTERS:])
    if found is None:
        return {}
    return {"exception": found[1].rpartition(".")[2], "exception_message": found[2]}


def _own_fields(error: BaseException) -> dict[str, Any]:
    return {
        "exception": type(error).__name__,
        "exception_message": _message(error),
        "stacktrace": _bounded(list(_frames(error.__traceback__))) or None,
    }


def _message(error: BaseException) -> str | None:
    try:
        return str(error) or None
    except Exception:
        return f"<unrepr: {type(error).__name__}>"


def _frames(traceback: TracebackType | None) -> Iterator[tuple[Any, ...]]:
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield code.co_filename, traceback.tb_lineno, code.co_qualname
        traceback = traceback.tb_next


def _bounded(frames: list[tuple[Any, ...]]) -> list[str]:
    left_out = len(frames) - OUTER_FRAMES - INNER_FRAMES
    if left_out <= 0:
        return [frame(*item) for item in frames]
    outer, inner = frames[:OUTER_FRAMES], frames[-INNER_FRAMES:]
    return [*(frame(*i) for i in outer), f"<{left_out} more>", *(frame(*i) for i in inner)]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Nearest first, each once: causes may form a cycle."""
    seen, waiting = {id(error)}, deque(_behind(error))
    while waiting and len(seen) <= CAUSES:
        cause = waiting.popleft()
        if id(cause) not in seen:
            seen.add(id(cause))
            waiting.extend(_behind(cause))
            yield cause


def _behind(error: BaseException) -> Iterable[BaseException]:
    """What Python's own traceback tells of: the cause, else the context, and the members of a group."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    members = error.exceptions[:CAUSES] if isinstance(error, BaseExceptionGroup) else ()
    return [item for item in (before, *members) if item is not None]


@lru_cache(maxsize=1024)
def _imported_path(path: str) -> str:
    """``path`` below the longest entry of ``sys.path``; the file's bare name if there is none.

    What is above it says where somebody's home is, not which code it is.
    """
    folders = [entry.rstrip("/") + "/" for entry in sys.path if isinstance(entry, str) and entry.strip("/")]
    longest = max((folder for folder in folders if path.startswith(folder)), key=len, default=None)
    return path.rpartition("/")[2] if longest is None else path[len(longest) :]
