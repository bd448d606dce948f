"""Mixed load on a server that is killed meanwhile: senders, a rotated log, somebody who asks; the verdict."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.drivers import Asker, HttpSender, LogWriter, Nemesis, count, settle
from tests.chaos.judge import Due, due_of_batches, due_of_log, judge
from tests.chaos.oracle import payload
from tests.tocsin_server.upping import Running, until

SENDERS = ("http-a", "http-b")


def follow(folder: Path) -> Path:
    """Settings that follow one log."""
    log = folder / "app.log"
    log.touch()
    (folder / "tocsin.yaml").write_text(f"sources: [{{file: '{log}', service: core}}]\n")
    return log


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * (len(seconds) - 1) + 0.5)]


def report(nemesis: Nemesis, **about: object) -> None:
    """What was run, for whoever reads the output (``pytest -s``)."""
    ready = f"ready again p95 {p95(nemesis.ready_s):.2f} s, max {max(nemesis.ready_s):.2f} s"
    print(f"seed {nemesis.seed}: {nemesis.kills} kills, {nemesis.stops} stops, {ready}, {about}")


def mixed_load(
    folder: Path, seed: int, command: list[str], kills: int, patience_s: float, ask_every_s: float = 0.3
) -> list[str]:
    """Two senders, a log that is rotated, somebody who asks, and kills; then everything that is wrong.

    ``patience_s``: when nothing more has come for so long, what is not there is missing.
    """
    log = follow(folder)
    nemesis = Nemesis(folder, command, seed)
    senders = [HttpSender(folder / "data", name, seed) for name in SENDERS]
    writer = LogWriter(log, 4000, 3000, "dated", seed)
    asker = Asker(lambda: sum(sender.stored for sender in senders), ask_every_s)

    def begin(server: Running) -> None:
        asker.server = server
        writer.begin(server)

    for thread in (*senders, asker):
        thread.start()
    try:
        nemesis.rage(kills, begin)
        with nemesis.heal() as server:
            begin(server)
            until(lambda: log.with_name(f"{log.name}.1").exists() or list(folder.glob(f"{log.name}-*")))
            for sender in senders:
                sender.finish()
            written, rotations = writer.finish()
            asker.finish()
            dues = {sender.name: due_of_batches(sender.acknowledged) for sender in senders}
            dues[str(log)] = due_of_log(log.name, written)
            due = sum(len(one.stored) for one in dues.values())
            settle(lambda: count(server), due, patience_s)
            dues["fresh"] = fresh(server)
    finally:
        writer.kill()
        for thread in (*senders, asker):
            thread.finish()
    report(nemesis, batches=[len(s.acknowledged) for s in senders], lines=written, rotations=rotations)
    faults = [*nemesis.faults, *asker.faults, *(fault for sender in senders for fault in sender.faults)]
    return faults + judge(folder / "data", dues)


def fresh(server: Running) -> Due:
    """A healed server shows what comes now within five seconds."""
    text = payload("fresh-1")
    line = f'{{"message": "{text}"}}'.encode()
    server.ask("POST", "/api/v1/ingest?source=fresh", line, **{"Content-Type": "application/json"})
    until(lambda: count(server, f"message = '{text}'") == 1, 5)
    return Due([text])
