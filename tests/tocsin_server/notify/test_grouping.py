"""Which instances are told together, and when: the pure decisions, over arbitrary histories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from notifying import HOUR_US, LABELS, MINUTE_US, START_US, change

from tocsin_server.clock import SECOND_US
from tocsin_server.notify.grouping import (
    GROUP_INTERVAL_US,
    GROUP_WAIT_US,
    MAX_GROUPS,
    REPEAT_INTERVAL_US,
    Change,
    Group,
    after_look,
    group_of,
    joined,
    joined_all,
    key_of,
    look,
    on_the_beat,
)


def fired(name: str, at: int, severity: str = "warning") -> Change:
    return change(labels={**LABELS, "volume": name}, fired_at=at, severity=severity)


def ended(one: Change, at: int) -> Change:
    return replace(one, resolved_at=at)


def taken(changes: Iterable[Change], now: int, group: Group | None = None) -> Group:
    for one in changes:
        group = joined(group or group_of(one), one, now)
    assert group is not None
    return group


def told(group: Group, now: int) -> Group | None:
    return after_look(group, look(group, {}, now), {}, now, now)


def test_a_new_group_waits_for_company_unless_it_is_critical() -> None:
    assert taken([fired("a", START_US)], START_US).due_at == START_US + GROUP_WAIT_US
    assert taken([fired("a", START_US, "critical")], START_US).due_at == START_US
    both = taken([fired("a", START_US), fired("b", START_US, "critical")], START_US + SECOND_US)
    assert both.due_at == START_US + SECOND_US


def test_changes_of_a_group_already_told_come_five_minutes_apart() -> None:
    group = told(taken([fired("a", START_US, "critical")], START_US), START_US)
    assert group is not None
    assert group.due_at == START_US + REPEAT_INTERVAL_US
    more = taken([fired("b", START_US + MINUTE_US, "critical")], START_US + MINUTE_US, group)
    assert more.due_at == START_US + GROUP_INTERVAL_US
    late = taken([fired("b", START_US + HOUR_US)], START_US + HOUR_US, group)
    assert late.due_at == START_US + HOUR_US


def test_the_end_of_everything_is_told_at_once() -> None:
    one, other = fired("a", START_US), fired("b", START_US)
    group = told(taken([one, other], START_US), START_US + GROUP_WAIT_US)
    assert group is not None
    now = START_US + MINUTE_US
    part = taken([ended(one, now)], now, group)
    assert part.due_at == START_US + GROUP_WAIT_US + GROUP_INTERVAL_US
    whole = taken([ended(other, now)], now, part)
    assert whole.due_at == now
    telling = look(whole, {}, now)
    assert telling is not None
    assert telling.reason == "all_resolved"
    assert after_look(whole, telling, {}, now, now) is None


def test_what_resolves_before_it_was_told_is_never_told() -> None:
    one = fired("a", START_US)
    assert joined(taken([one], START_US), ended(one, START_US + 1), START_US + 1) is None
    other = taken([one, fired("b", START_US), ended(one, START_US + 1)], START_US + 1)
    telling = look(other, {}, START_US + GROUP_WAIT_US)
    assert telling is not None
    assert [member.labels["volume"] for member in telling.members] == ["b"]


def test_an_episode_that_ends_and_begins_again_unseen_is_news_once() -> None:
    one = fired("a", START_US)
    group = told(taken([one], START_US), START_US)
    again = replace(one, fired_at=START_US + 2 * MINUTE_US)
    group = taken([ended(one, START_US + MINUTE_US), again], START_US + 2 * MINUTE_US, group)
    telling = look(group, {}, START_US + GROUP_INTERVAL_US)
    assert telling is not None
    assert (telling.reason, telling.news) == ("new_alerts", (again,))


def test_a_silenced_member_is_left_out_and_looked_at_again() -> None:
    one = fired("a", START_US, "critical")
    group = taken([one], START_US)
    until = {one.identity: START_US + 10 * SECOND_US}
    assert look(group, until, START_US) is None
    waiting = after_look(group, None, until, START_US, START_US)
    assert waiting is not None
    assert waiting.due_at == START_US + 10 * SECOND_US
    assert look(waiting, {}, START_US + 10 * SECOND_US) is not None


def test_a_long_silence_is_looked_at_every_minute_in_case_it_is_ended() -> None:
    one = fired("a", START_US)
    waiting = after_look(taken([one], START_US), None, {one.identity: START_US + HOUR_US}, START_US, START_US)
    assert waiting is not None
    assert waiting.due_at == START_US + MINUTE_US


def test_a_drill_shares_no_group_with_what_is_real() -> None:
    assert group_of(change(drill="d1")).key != group_of(change()).key


def test_repeats_keep_their_beat_and_have_numbers() -> None:
    group: Group | None = taken([fired("a", START_US, "critical")], START_US)
    numbers = []
    for hours in range(0, 24, 4):
        assert group is not None
        now = START_US + hours * HOUR_US + 3 * SECOND_US  # a step is never exactly on time
        telling = look(group, {}, group.due_at or 0)
        assert telling is not None
        numbers.append(telling.repeat)
        group = after_look(group, telling, {}, group.due_at or 0, now)
    assert numbers == [0, 1, 2, 3, 4, 5]


def test_missed_repeats_are_not_made_up_for() -> None:
    assert on_the_beat(START_US, START_US + 9 * HOUR_US) == START_US + 8 * HOUR_US
    assert on_the_beat(START_US, START_US + HOUR_US) == START_US


def test_E11_above_a_number_of_groups_the_rest_is_told_together() -> None:
    changes = [change(labels={"service": f"s{n}", "environment": "p"}) for n in range(200)]
    groups, _ = joined_all({}, changes, START_US)
    assert len(groups) == MAX_GROUPS + 1
    assert sum(len(group.members) for group in groups.values()) == 200
    groups, _ = joined_all(groups, [ended(one, START_US + 1) for one in changes], START_US + 1)
    assert groups == {}


# --- arbitrary histories --------------------------------------------------------------------------------

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["critical", "warning"]),
        st.integers(1, 20 * MINUTE_US),
        st.booleans(),
    ),
    max_size=30,
)


@given(_STEPS)
@settings(max_examples=200, deadline=None)
def test_whoever_was_told_of_a_fire_is_told_of_its_end_and_nobody_else(
    steps: list[tuple[str, str, int, bool]],
) -> None:
    group: Group | None = None
    now, firing = START_US, dict[str, Change]()
    last = dict[str, str]()  # what the receiver believes of each instance
    keys = list[str]()

    def tell(until: int) -> None:
        nonlocal group
        while group is not None and group.due_at is not None and group.due_at <= until:
            at = group.due_at
            telling = look(group, {}, at)
            if telling:
                keys.append(key_of("oncall", group, telling))
                for member in telling.members:
                    last[member.labels["volume"]] = "resolved" if member.resolved_at else "firing"
            group = after_look(group, telling, {}, at, at)

    for name, severity, wait_us, notified in steps:
        now += wait_us
        if notified:
            tell(now)
        if name in firing:
            one = ended(firing.pop(name), now)
        else:
            one = firing[name] = fired(name, now, severity)
        group = joined(group or group_of(one), one, now)
    tell(now + 30 * MINUTE_US)
    believed = {name for name, status in last.items() if status == "firing"}
    assert believed == set(firing)
    assert len(keys) == len(set(keys))


@given(st.integers(0, 40), st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_key_depends_on_content_alone_not_on_its_order(count: int, backwards: bool) -> None:
    changes = [fired(str(n), START_US) for n in range(count + 1)]
    group = taken(changes[::-1] if backwards else changes, START_US)
    telling = look(group, {}, START_US)
    same = look(taken(changes, START_US), {}, START_US + 1)
    assert telling is not None
    assert same is not None
    assert key_of("a", group, telling) == key_of("a", group, same)
    assert key_of("a", group, telling) != key_of("b", group, telling)
