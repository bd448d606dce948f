"""``tocsin ingest`` killed at many moments and run again: the same counts as run once (rows D1, D2, D4)."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from loading import assert_no_strangers, ids, log, request

from tocsin_server.store import Store

CRASHING = Path(__file__).with_name("crashing.py")
TOCSIN = [sys.executable, "-c", "import sys; from tocsin_server.cli import main; sys.exit(main())"]

#: Canonical, plain and broken lines, own ids of which some come twice, two days, and no newline at the end.
LINES = [
    log("a"),
    *(log(f"line {n}", f"2026-11-{22 + n % 2}T07:55:12.345Z") for n in range(60)),
    *(log(f"own {n % 20}", event_id=f"0123456789abcdef{n % 20:02d}") for n in range(30)),
    *(b"plain text %d\n" % n for n in range(20)),
    b'{"broken":1\n',
    *(request(200 + n) for n in range(40)),
    b'{"broken":2\n',
    b"the end",
]
DATA = b"".join(LINES)


def runs(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    lines = tmp_path / "app.log"
    lines.write_bytes(DATA)
    with lines.open("rb") as stdin:
        process = subprocess.run(
            [sys.executable, CRASHING, tmp_path, *arguments], stdin=stdin, capture_output=True, text=True
        )
    assert (process.returncode, process.stderr) == (0, "")
    found = [json.loads(line) for line in process.stdout.splitlines()]
    killed = [run["signal"] for run in found].count(signal.SIGKILL)
    assert killed >= max(3, len(found) - 1)  # a run may be over a moment sooner than the first one
    return found


def starts() -> list[int]:
    return [sum(map(len, LINES[:number])) for number in range(len(LINES))]


def expected(source: str) -> tuple[list[str], list[list[Any]]]:
    """Ids of the events, and the dead letters, of one whole load."""
    found, letters, own = [], [], set()
    for start, line in zip(starts(), LINES, strict=True):
        if line.startswith(b'{"broken"'):
            letters.append([start, line.decode().rstrip("\n")])
            continue
        own_id = json.loads(line).get("event_id") if line.startswith(b"{") else None
        if own_id not in own:
            found.append(own_id or f"{source}:{start:015d}")
        own |= {own_id} - {None}
    return sorted(found), letters


def test_D1_D2_a_file_killed_at_every_moment_is_loaded_once(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    found, letters = expected(str(path))
    for run in runs(tmp_path, str(path)):
        rows, dead, strangers, _spool = run["recovered"]
        assert ([row[0] for row in rows], dead, strangers) in ((found, letters, []), ([], [], [])), run
        rows, dead, strangers, spool = run["again"]
        assert ([row[0] for row in rows], dead, strangers, spool) == (found, letters, [], 0), run


def test_D1_D2_a_named_stream_killed_at_every_moment_is_loaded_once(tmp_path: Path) -> None:
    found, letters = expected("app")
    for run in runs(tmp_path, "-", "--source", "app"):
        rows, dead, strangers, spool = run["again"]
        assert ([row[0] for row in rows], dead, strangers, spool) == (found, letters, [], 0), run


def test_D1_D2_nothing_committed_of_an_anonymous_stream_is_lost(tmp_path: Path) -> None:
    positions = starts()
    for run in runs(tmp_path, "-"):
        rows, dead, strangers, spool = run["recovered"]
        assert (strangers, spool) == ([], 0)
        at = [int(row[0].rpartition(":")[2]) for row in rows if row[0].startswith("stdin-")]
        whole = sum(1 for start in positions if start < run["committed"])  # lines of which all is durable
        needed = {
            start for start, line in zip(positions[:whole], LINES[:whole], strict=True) if is_plain(line)
        }
        assert needed <= set(at) <= set(positions), run
        assert len(at) == len(set(at))
        assert {start for start, _line in dead} >= {
            start for start, line in zip(positions[:whole], LINES[:whole], strict=True) if b"broken" in line
        }


def is_plain(line: bytes) -> bool:
    return b"event_id" not in line and b"broken" not in line


def tocsin(*arguments: str) -> list[str]:
    return [*TOCSIN, "ingest", *arguments, "--json"]


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    """Until the condition holds or the process ends."""
    while process.poll() is None and not condition():
        time.sleep(0.002)


def test_D1_the_command_killed_at_random_moments_and_run_again(tmp_path: Path) -> None:
    path, data = tmp_path / "app.log", tmp_path / "data"
    lines = 40_000
    path.write_bytes(b"".join(log(f"line {n}") for n in range(lines)))
    command = tocsin(str(path), "--data", str(data))
    delays = random.Random(1)
    for _kill in range(3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            wait_for((data / "events").exists, process)
            delay = time.monotonic() + delays.uniform(0, 0.25)
            wait_for(lambda delay=delay: time.monotonic() > delay, process)
            process.kill()
    subprocess.run(command, check=True, capture_output=True)
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert answer["lines"] == 0
    store = Store.open(data)
    assert len(ids(store)) == lines
    assert_no_strangers(store)
    store.close()


def test_D1_the_command_killed_in_the_middle_of_a_stream_and_run_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    lines = [log(f"line {n}") for n in range(3000)]
    command = tocsin("-", "--source", "app", "--data", str(data))
    for number in range(3):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            assert process.stdin is not None
            process.stdin.write(b"".join(lines[: 700 * (number + 1)]) + lines[0][:20])
            process.stdin.flush()
            wait_for(lambda: any(p.stat().st_size for p in data.glob("spool/*.ndjson")), process)
            process.kill()
            process.wait()
            process.stdin.close()
    whole = b"".join(lines)
    subprocess.run(command, input=whole, check=True, capture_output=True)
    answer = json.loads(subprocess.run(command, input=whole, check=True, capture_output=True).stdout)
    assert answer["lines"] == 0
    store = Store.open(data)
    assert len(ids(store)) == len(lines)
    assert store.manifest.dead_letters() == []
    assert_no_strangers(store)
    store.close()


@pytest.mark.skipif(not (shutil.which("strace") or os.environ.get("CI")), reason="needs strace")
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_D2_killed_inside_the_system_calls_of_the_database(tmp_path: Path, call: str) -> None:
    path, data = tmp_path / "app.log", tmp_path / "data"
    path.write_bytes(DATA)
    found, letters = expected(str(path))
    when = {"fdatasync": 3, "pwrite64": 12}[call]
    inject = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}"]
    inject += ["-e", f"inject={call}:signal=SIGKILL:when={when}"]
    command = tocsin(str(path), "--data", str(data))
    killed = subprocess.run([*inject, *command], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    subprocess.run(command, check=True, capture_output=True)
    store = Store.open(data)
    assert sorted(ids(store)) == found
    assert sorted([one.position, one.line.decode()] for one in store.manifest.dead_letters()) == letters
    assert_no_strangers(store)
    store.close()
