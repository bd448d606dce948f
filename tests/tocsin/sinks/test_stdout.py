"""Standard output: whole lines, and a host that does not notice when it is closed or full."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from tocsin.sinks.stdout import StdoutSink

#: How much more is tried when the whole bar is tested (`make bar`).
SCALE = int(os.environ.get("BAR_SCALE", "1"))

EMIT_10_000 = """
import tocsin
tocsin.configure(service='k12-core')
for i in range(10_000):
    tocsin.emit('custom', i=i)
from tocsin.guard import GUARD
import sys
tocsin.flush()
print(GUARD.counts, file=sys.stderr)
"""


def run(code: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False, **options)


def test_a_line_goes_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    StdoutSink()([b'{"a":1}\n', b'{"b":2}\n'])
    assert capfdbinary.readouterr().out == b'{"a":1}\n{"b":2}\n'


def test_a_replaced_standard_output_gets_the_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stdout", replaced)
    StdoutSink()(['{"a":"é"}\n'.encode()])
    assert replaced.getvalue() == '{"a":"é"}\n'


def test_no_line_lands_inside_one_of_the_hosts() -> None:
    code = """
import sys, tocsin
for i in range(300):
    sys.stdout.write("host " * 100 + "\\n")
    tocsin.emit("custom", i=i)
    if i % 50 == 0: tocsin.flush()
"""
    printed = run(code, stdout=subprocess.PIPE).stdout.splitlines()
    ours = [orjson.loads(line)["tags"]["i"] for line in printed if line.startswith(b"{")]
    assert ours == list(range(300))
    assert [line for line in printed if not line.startswith(b"{")] == [b"host " * 100] * 300


def test_without_standard_output_it_raises_for_the_guard_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OSError, match="no standard output"):
        StdoutSink()([b"{}\n"])


def test_S2_a_closed_pipe_is_counted_and_the_host_ends_well() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(EMIT_10_000, stdout=writer)
    os.close(writer)
    assert done.returncode == 0
    told, counted = done.stderr.splitlines()
    assert told.startswith(b"tocsin: lines lost so far: ")
    assert told.endswith(b" (last: sink, BrokenPipeError); the application goes on")
    assert sum(ast.literal_eval(counted.decode()).values()) == 10_000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_S2_a_full_disk_is_counted_and_the_host_ends_well() -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(EMIT_10_000, stdout=full)
    assert done.returncode == 0
    assert sum(ast.literal_eval(done.stderr.splitlines()[-1].decode()).values()) == 10_000
    assert len(done.stderr.splitlines()) == 2


def test_S16_standard_output_in_another_encoding_makes_no_difference() -> None:
    code = "import tocsin\ntocsin.log('INFO', 'café \\ud800')"
    done = run(code, stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert orjson.loads(done.stdout)["message"] == "café \ufffd"


def test_after_a_torn_line_the_next_one_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    room = [5, 0]

    def write(descriptor: int, data: bytes) -> int:
        if room and not (size := room.pop(0)):
            raise OSError("full")
        if not room:
            size = len(data)
        written.append(data[:size])
        return size

    sink = StdoutSink()
    stdout = type("Stdout", (io.TextIOBase,), {"fileno": lambda self: 1, "flush": lambda self: None})()
    monkeypatch.setattr(sys, "stdout", stdout)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(OSError, match="1 lines were not written"):
            sink([b'{"first":1}\n'])
        sink([b'{"second":2}\n'])
        sink([b'{"third":3}\n'])
    assert b"".join(written) == b'{"fir\n{"second":2}\n{"third":3}\n'


def test_S15_eight_threads_write_whole_lines_in_their_own_order() -> None:
    code = """
import threading, tocsin
from tocsin.guard import GUARD
tocsin.configure(service='k12-core')
def work(thread):
    for i in range(%d):
        tocsin.emit('custom', thread=thread, i=i, pad='x' * (i %% 7 * 900))
threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(GUARD.dropped, file=__import__('sys').stderr)
"""
    events = 2000 * SCALE
    done = run(code % events, stdout=subprocess.PIPE)
    seen: dict[int, list[int]] = {}
    for line in done.stdout.splitlines():
        tags = orjson.loads(line)["tags"]
        seen.setdefault(tags["thread"], []).append(tags["i"])
    assert all(numbers == sorted(set(numbers)) for numbers in seen.values())
    assert sum(map(len, seen.values())) + int(done.stderr.splitlines()[-1]) == 8 * events
    assert len(seen) == 8


def test_a_child_forked_while_a_line_is_written_can_emit() -> None:
    code = """
import os, signal, sys, tocsin
from tocsin.emitter import current
tocsin.configure()
signal.alarm(20)
import threading
held, done = threading.Event(), threading.Event()
def hold():
    with current().sink._lock:
        held.set(); done.wait()
thread = threading.Thread(target=hold); thread.start(); held.wait()
pid = os.fork()
if pid == 0:
    tocsin.emit('from.child'); tocsin.flush(); os._exit(0)
status = os.waitpid(pid, 0)[1]
done.set(); thread.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = run(code, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert b"from.child" in done.stdout


def test_the_sink_is_re_entrant_for_signal_handlers() -> None:
    sink = StdoutSink()
    finished = threading.Event()

    def nested() -> None:
        with sink._lock, sink._lock:
            finished.set()

    threading.Thread(target=nested, daemon=True).start()
    assert finished.wait(5)
