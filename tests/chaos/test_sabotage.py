"""Row V1: the harness finds every fault that is put into the server on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import sabotage
from tests.chaos.load import mixed_load
from tests.chaos.test_cycles import Played, played, wrong

#: Fault -> how many kills it needs, and what the judge must say.
UNDER_LOAD = {
    "ack_before_write": (1, "missing"),
    "checkpoint_before_data": (3, "missing"),
    "tail_skips_a_piece": (0, "missing"),
    "forget_idempotency_keys": (0, "more than once"),
    "seal_without_saying_so": (1, "more than once"),
    "delete_before_publishing": (1, "missing"),
    "change_a_byte": (0, "changed"),
    "refused_lines_are_not_counted": (0, "the books say"),
}
OF_ALERTS = {
    "sent_before_sending": "not told",
    "another_key_each_time": "the idempotency keys are others",
    "handled_before_it_is_done": "not told",
    "alert_states_are_not_kept": "not told",
}
PLAN = {"instants": 14, "seed": 1}


def test_V1_every_fault_is_tried() -> None:
    assert UNDER_LOAD.keys() | OF_ALERTS.keys() == sabotage.FAULTS.keys()


@pytest.mark.parametrize("fault", UNDER_LOAD)
def test_V1_a_fault_of_the_server_is_found(tmp_path: Path, seed: int, fault: str) -> None:
    kills, verdict = UNDER_LOAD[fault]
    found = mixed_load(tmp_path, seed, sabotage.command(fault), kills, 2, ask_every_s=0.05)
    assert [one for one in found if verdict in one]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """What is told when nothing is wrong."""
    with played(tmp_path_factory.mktemp("quiet"), {**PLAN, "kills": 0}) as (run,):
        yield run


@pytest.mark.parametrize("fault", OF_ALERTS)
def test_V1_a_fault_of_the_alerting_is_found(tmp_path: Path, quiet: Played, fault: str) -> None:
    with played(tmp_path, {**PLAN, "kills": 10}, fault=fault) as (killed,):
        found = wrong(killed, quiet)
    assert [one for one in found if OF_ALERTS[fault] in one]


def test_V1_without_a_fault_nothing_is_found(tmp_path: Path, quiet: Played) -> None:
    with played(tmp_path, {**PLAN, "kills": 10}) as (killed,):
        assert wrong(killed, quiet) == []
