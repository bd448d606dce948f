"""Bound fields: where they are seen, and where not."""

from __future__ import annotations

import asyncio
import threading
from uuid import UUID

import orjson
import pytest

import tocsin
from tocsin.context import snapshot
from tocsin.testing import capture_events


def test_bound_fields_are_on_every_line_inside_and_gone_outside() -> None:
    with capture_events() as captured:
        with tocsin.bind(request_id="r1", tenant_id=7):
            tocsin.emit("custom")
            with tocsin.bind(tenant_id=8, job_id="j"):
                tocsin.emit("custom")
            tocsin.log("INFO", "hello")
        tocsin.emit("custom")
    tags = [event.get("tags") for event in captured.events]
    assert tags == [
        {"request_id": "r1", "tenant_id": 7},
        {"request_id": "r1", "tenant_id": 8, "job_id": "j"},
        None,
        {},
    ]
    assert captured.events[2]["tenant_id"] == 7


def test_a_given_field_wins_even_when_it_is_none() -> None:
    with capture_events() as captured, tocsin.bind(tenant_id=7, mode="sync"):
        tocsin.emit("custom", tenant_id=8, mode=None)
    assert captured.events[0]["tags"] == {"tenant_id": 8}


def test_none_unbinds() -> None:
    with tocsin.bind(tenant_id=7), tocsin.bind(tenant_id=None):
        assert snapshot() == {}


def test_an_exception_restores_what_was_bound() -> None:
    with pytest.raises(LookupError), tocsin.bind(tenant_id=7):
        raise LookupError
    assert snapshot() == {}


def test_the_snapshot_holds_scalars_only_and_is_a_copy() -> None:
    with tocsin.bind(
        request_id=UUID(int=1), tenant_id=7, tags={1, 2}, roles=["admin"], big=2**70, thing=object()
    ):
        taken = snapshot()
        taken["tenant_id"] = 8
        assert snapshot()["tenant_id"] == 7
    assert orjson.loads(orjson.dumps(taken)) == taken
    assert taken.keys() == {"request_id", "tenant_id", "big", "thing"}


def test_threads_and_tasks_do_not_see_each_other() -> None:
    seen: dict[str, object] = {}

    async def request(name: str) -> None:
        with tocsin.bind(request_id=name):
            await asyncio.sleep(0)
            seen[name] = snapshot()

    async def requests() -> None:
        await asyncio.gather(*(request(f"r{i}") for i in range(100)))

    asyncio.run(requests())
    assert seen == {f"r{i}": {"request_id": f"r{i}"} for i in range(100)}
    with tocsin.bind(tenant_id=7):
        thread = threading.Thread(target=lambda: seen.update(thread=snapshot()))
        thread.start()
        thread.join()
    assert seen["thread"] == {}


def test_leaving_in_another_context_does_not_raise() -> None:
    async def numbers():
        with tocsin.bind(tenant_id=7):
            yield 1

    async def abandon() -> None:
        generator = numbers()
        await anext(generator)
        await asyncio.create_task(generator.aclose())

    asyncio.run(abandon())
    assert snapshot() == {}
