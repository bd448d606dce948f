"""A program that writes a log and rotates it, as a process of its own that nobody kills.

    python -m tests.chaos.writer LOG LINES_PER_S ROTATE_EVERY SCHEME SEED [LINES]

Writes numbered lines (:func:`tests.chaos.oracle.tail_line`) until LINES are written or its standard input
ends, cut into writes anywhere, and prints how many lines it wrote and how often it rotated. SCHEME is
``numbered`` (app.log.1 is the newest, all move up) or ``dated`` (app.log-20261123-000001). Some lines still
go to the old file after it was renamed, as those of a program that reopens its log a little later.
"""

from __future__ import annotations

import os
import random
import select
import sys
import time
from pathlib import Path

from tests.chaos.oracle import tail_line

#: Lines between two looks at the clock.
_STROKE = 50


def main(log: Path, per_s: int, rotate_every: int, scheme: str, seed: int, lines: int) -> None:
    """Writes until told to stop, or until all is written."""
    chance, started = random.Random(seed), time.monotonic()
    written = rotations = 0
    file = log.open("ab", buffering=0)
    while written < lines and not select.select([0], [], [], 0)[0]:
        count = min(_STROKE, lines - written)
        data = b"".join(tail_line(number, log.name) for number in range(written, written + count))
        if (written + count) // rotate_every > rotations and written + count < lines:
            rotations += 1
            cut = chance.randrange(len(data))
            _write(file.fileno(), data[:cut], chance)
            rename(log, scheme, rotations)
            _write(file.fileno(), data[cut:], chance)
            file.close()
            file = log.open("ab", buffering=0)
        else:
            _write(file.fileno(), data, chance)
        written += count
        time.sleep(max(0.0, started + written / per_s - time.monotonic()))
    file.close()
    print(written, rotations, flush=True)


def rename(log: Path, scheme: str, number: int) -> None:
    """Gives the log the name of a rotated file."""
    if scheme == "dated":
        log.rename(log.with_name(f"{log.name}-20261123-{number:06d}"))
        return
    for older in range(number - 1, 0, -1):
        log.with_name(f"{log.name}.{older}").rename(log.with_name(f"{log.name}.{older + 1}"))
    log.rename(log.with_name(f"{log.name}.1"))


def _write(fd: int, data: bytes, chance: random.Random) -> None:
    while data:
        cut = chance.randint(1, len(data))
        data = data[os.write(fd, data[:cut]) :]


if __name__ == "__main__":
    path, per_second, every, kind, number = sys.argv[1:6]
    total = int(sys.argv[6]) if len(sys.argv) > 6 else sys.maxsize
    main(Path(path), int(per_second), int(every), kind, int(number), total)
