"""A real server under load, killed at random moments: what it took is there, once, unchanged and counted.

Rows D1, D13, D18, I5, I6, T1 and T2 of the reliability bar. ``CHAOS_KILLS=200`` is the long run, and
``CHAOS_SEED`` repeats one.
"""

from __future__ import annotations

from pathlib import Path

from tests.chaos.drivers import LogWriter, Nemesis, count, kills_wanted, settle
from tests.chaos.judge import due_of_log, judge
from tests.chaos.load import follow, mixed_load, report
from tests.tocsin_server.upping import TOCSIN, until


def test_D1_D13_D18_I5_I6_killed_under_mixed_load(tmp_path: Path, seed: int) -> None:
    assert mixed_load(tmp_path, seed, TOCSIN, kills_wanted(8), 15) == []


def test_T1_T2_a_hundred_rotations_while_the_server_is_killed(tmp_path: Path, seed: int) -> None:
    """Numbered files, as logrotate leaves them: each rotation renames all of them."""
    kills, log = kills_wanted(6), follow(tmp_path)
    rotations = max(100, 16 * kills)
    nemesis = Nemesis(tmp_path, TOCSIN, seed)
    writer = LogWriter(log, 8000, 1000, "numbered", seed, 1000 * (rotations + 1))
    try:
        nemesis.rage(kills, writer.begin)
        with nemesis.heal() as server:
            until(lambda: writer.is_done, 600)
            written, rotated = writer.finish()
            due = due_of_log(log.name, written)
            settle(lambda: count(server), len(due.stored), 15)
    finally:
        writer.kill()
    report(nemesis, lines=written, rotations=rotated)
    assert nemesis.faults + judge(tmp_path / "data", {str(log): due}) == []
    assert rotated == rotations
