"""Jobs for RQ that end in every way there is."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from rq import Retry

import tocsin
from tocsin.context import bound

STUDENT = "Ada Example <ada@students.example>"


def add(left: int, right: int) -> int:
    return left + right


def fail(student: str) -> None:
    raise LookupError(f"no grades of {student}")


def context() -> dict[str, Any]:
    return dict(bound())


def asks_for_another() -> Any:
    return Retry(max=1)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leaves() -> None:
    sys.exit(3)


def waits() -> None:
    tocsin.emit("waiting")
    time.sleep(60)
