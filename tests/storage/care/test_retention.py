import doctest
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import cftime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.care import retention
from gnomon.storage.care.retention import Duration, Policy, TaggedCapture, decide, parse_duration
from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.times import EPOCH, SECOND, parse

Captures = list[TaggedCapture]
Reasons = dict[int, tuple[str, ...]]
DAY = 86400 * SECOND
CALENDARS = ["standard", "proleptic_gregorian", "julian", "noleap", "all_leap", "360_day"]
RULES = ["last", "hourly", "daily", "weekly", "monthly", "yearly"]
PERIODS = ["%Y%m%d %H%M%S%f", "%Y%m%d %H", "%Y%m%d", "%G %V", "%Y%m", "%Y"]  # a period's name
TIMES = [
    *("1999-12-31T23:00", "2000-12-30T12:00", "2000-12-31T12:00", "2001-01-01T00:00"),
    *("2001-01-01T12:00", "2001-01-01T12:30", "2001-01-07T23:59:59.999999", "2001-01-08T00:00"),
]  # 1 and 8 January 2001 were Mondays
FIELDS = [*RULES, "within", "tags"]
NO_DURATIONS = ["", " ", "y", "5", "5w", "-5d", "1.5d", "5 d", "1d 2h", "1y2", "d5", "5D", "1d1d"]
EVERYTHING = Policy(-1, -1, -1, -1, -1, -1, Duration(1), ("a", "b"))

counts = st.integers(-1, 6)
durations = st.builds(Duration, *[st.integers(0, 3)] * 3, st.integers(1, 40))
tags = st.sampled_from([(), ("a",), ("b", "a")])
policies = st.builds(Policy, *[counts] * 6, within=st.none() | durations, tags=tags)
calendars = st.sampled_from(CALENDARS)
sizes = st.sampled_from([DAY // 72, 9 * DAY])
instants = st.builds(lambda n, size, edge: n * size - edge, st.integers(-90, 90), sizes, counts)


@st.composite
def captures(draw: st.DrawFn) -> Captures:
    found = draw(st.lists(instants, max_size=25))
    steps = draw(st.permutations(range(len(found))))
    return [TaggedCapture(s, t, draw(tags)) for s, t in zip(steps, found, strict=True)]


def only(rule: str, value: Any) -> Policy:
    return replace(Policy(), **{rule: value})


def dated(*texts: str, calendar: str = "standard") -> Captures:
    return [TaggedCapture(step, parse(text, calendar)) for step, text in enumerate(texts)]


def kept(some: Captures, policy: Policy, calendar: str = "standard") -> Reasons:
    return {d.step: d.reasons for d in decide(some, policy, calendar) if d.keep}


@pytest.mark.parametrize(
    ("policy", "reason", "steps"),
    [
        (Policy(last=3), "last", [5, 6, 7]),
        (Policy(last=-1), "last", list(range(8))),
        (Policy(hourly=4), "hourly", [3, 5, 6, 7]),
        (Policy(daily=4), "daily", [2, 5, 6, 7]),
        (Policy(weekly=9), "weekly", [0, 2, 6, 7]),
        (Policy(monthly=2), "monthly", [2, 7]),
        (Policy(yearly=-1), "yearly", [0, 2, 7]),
        (Policy(within=Duration(hours=1)), "within 1h", [6, 7]),
        (Policy(within=Duration(days=7)), "within 7d", [4, 5, 6, 7]),
        (Policy(within=Duration(days=7, hours=1)), "within 7d1h", [3, 4, 5, 6, 7]),
    ],
)
def test_each_rule_keeps_what_it_says(policy: Policy, reason: str, steps: list[int]) -> None:
    assert kept(dated(*TIMES), policy) == dict.fromkeys(steps, (reason,))


def test_a_rule_with_counts_left_keeps_the_oldest() -> None:
    some, daily = dated("2001-01-01", "2001-01-01T06", "2001-01-02"), {1: ("daily",), 2: ("daily",)}
    assert kept(some, Policy(daily=2)) == daily
    assert kept(some, Policy(daily=3)) == daily | {0: ("oldest daily",)}
    assert kept(some, Policy(daily=-1)) == daily | {0: ("oldest daily",)}


def test_rules_together_give_all_their_reasons() -> None:
    some = [replace(c, tags=("x", "y")[: c.step % 3]) for c in dated(*TIMES)]
    policy = Policy(1, 2, 3, 1, 2, 2, Duration(hours=12), ("z", "y"))
    decisions = decide(some, policy, "standard", guarded={3: "base of 4", 7: "newest", 99: "?"})
    assert {d.step: d.reasons for d in decisions if d.keep} == {
        2: ("monthly", "yearly", "tag y"),
        3: ("base of 4",),
        5: ("daily", "tag y"),
        6: ("hourly", "daily", "within 12h"),
        7: ("last", "hourly", "daily", "weekly", "monthly", "yearly", "within 12h", "newest"),
    }


def test_of_revisions_the_newest_stands_for_the_state() -> None:
    some = [
        TaggedCapture(4, DAY),
        TaggedCapture(9, DAY),
        TaggedCapture(1, DAY, ("a",)),
        TaggedCapture(0, 0),
    ]
    for policy in (Policy(last=-1), Policy(hourly=-1), Policy(last=2), Policy(daily=2)):
        assert set(kept(some, policy)) == {9, 0}
    assert kept(some, Policy(yearly=2)) == {9: ("yearly",), 0: ("oldest yearly",)}
    assert set(kept(some, Policy(within=Duration(hours=1)))) == {1, 4, 9}
    assert set(kept(some, Policy(tags=("a",)))) == {1}


@pytest.mark.parametrize("calendar", CALENDARS)
def test_weeks_begin_on_monday_where_there_are_weekdays(calendar: str) -> None:
    some = [TaggedCapture(step, (step - 30) * DAY) for step in range(60)]
    dates = [cftime.num2date(c.instant, EPOCH, calendar=calendar) for c in some]
    sundays = {c.step for c, date in zip(some, dates, strict=True) if date.dayofwk == 6}
    if calendar in {"noleap", "all_leap", "360_day"}:
        sundays = {c.step for c in some if (c.instant // DAY) % 7 == 6}
    assert set(kept(some, Policy(weekly=-1), calendar)) == {0, *sundays, 59}


@pytest.mark.parametrize(
    ("calendar", "texts"),
    [
        ("360_day", ["2001-01-30", "2001-02-01", "2001-02-30", "2001-03-01"]),
        ("noleap", ["2004-01-31", "2004-02-27", "2004-02-28", "2004-03-01"]),
        ("standard", ["1582-09-30", "1582-10-04", "1582-10-15", "1582-11-01"]),
    ],
)
def test_months_are_the_calendars_own(calendar: str, texts: list[str]) -> None:
    assert set(kept(dated(*texts, calendar=calendar), Policy(monthly=9), calendar)) == {0, 2, 3}


@pytest.mark.parametrize(
    ("instant", "duration", "calendar", "expected"),
    [
        ("2001-03-31", "1m", "standard", "2001-02-28"),
        ("2004-03-31T18:30", "1m", "standard", "2004-02-29T18:30"),
        ("2004-03-31", "1m", "noleap", "2004-02-28"),
        ("2001-03-30", "1m", "360_day", "2001-02-30"),
        ("2004-02-29", "1y", "standard", "2003-02-28"),
        ("2001-03-31", "1m1d", "standard", "2001-02-27"),
        ("2001-01-15", "13m", "standard", "1999-12-15"),
        ("2003-08-10T02", "2y5m17d3h", "360_day", "2001-02-22T23"),
        ("1582-11-10", "1m", "standard", "1582-10-04"),
        ("0003-05-01", "5y", "noleap", "-2-05-01"),
    ],
)
def test_durations_run_back(instant: str, duration: str, calendar: str, expected: str) -> None:
    found = parse_duration(duration).before(parse(instant, calendar), calendar)
    assert found == parse(expected, calendar)


@pytest.mark.parametrize("text", ["5000y", "290000y", "999999999y", "999999999m", "999999999d"])
@pytest.mark.parametrize("calendar", [*CALENDARS, "tai"])
def test_a_duration_beyond_the_calendar_keeps_everything(text: str, calendar: str) -> None:
    some = dated("1960", "1970", "2000", calendar=calendar)
    assert set(kept(some, Policy(within=parse_duration(text)), calendar)) == {0, 1, 2}


@given(durations, st.permutations(["years", "months", "days", "hours"]))
def test_a_duration_is_read_in_any_order(duration: Duration, order: list[str]) -> None:
    assert parse_duration(str(duration)) == duration
    text = "".join(f"{getattr(duration, name)}{name[0]}" for name in order)
    assert parse_duration(f" {text}\n") == duration


@pytest.mark.parametrize("text", [*NO_DURATIONS, "0d", "0y0h", "٣d", "1" * 10 + "d", "1" * 5000])
def test_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"duration .*expected .*; write it as 2y5m7d3h$"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Policy(daily=-2), "daily=-2"),
        (lambda: Policy(tags=("a", "")), "empty tag"),
        (lambda: Duration(years=1, hours=-1), "1y-1h"),
        (
            lambda: decide([TaggedCapture(1, 0), TaggedCapture(1, 5)], Policy(), "noleap"),
            "1 steps in 2",
        ),
        (lambda: decide([TaggedCapture(1, 0)], Policy(), "mayan"), "calendar 'mayan'"),
        (lambda: decide([TaggedCapture(1, -(2**63))], Policy(), "noleap"), "cannot read"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"{message}.* expected .*; "):
        make()


def test_only_a_policy_without_rules_is_empty() -> None:
    alone = [only(name, getattr(EVERYTHING, name)) for name in FIELDS]
    assert [p.is_empty for p in (Policy(), *alone)] == [True, *[False] * 8]


@given(captures(), policies, calendars, st.randoms())
def test_order_changes_nothing(some: Captures, policy: Policy, calendar: str, rng: Random) -> None:
    before, guarded = list(some), {3: "guard"}
    decisions = decide(some, policy, calendar, guarded=guarded)
    assert (some, guarded) == (before, {3: "guard"})
    assert [(d.step, d.instant) for d in decisions] == [(c.step, c.instant) for c in some]
    rng.shuffle(before)
    assert set(decide(before, policy, calendar, guarded=guarded)) == set(decisions)


@given(captures(), st.sampled_from(RULES), counts)
def test_a_rule_walks_like_restics(some: Captures, rule: str, count: int) -> None:
    expected: Reasons = {}
    states = {c.instant: c.step for c in sorted(some, key=lambda c: c.step)}
    last, left = None, count
    for instant in sorted(states, reverse=True):
        date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
        period = date.strftime(PERIODS[RULES.index(rule)])
        if left and (period != last or instant == min(states)):
            expected[states[instant]] = (rule if period != last else f"oldest {rule}",)
            last, left = period, left - (left > 0)
    assert kept(some, only(rule, count), "proleptic_gregorian") == expected


@given(captures(), st.integers(0, 30), calendars)
def test_keep_last_keeps_so_many_states(some: Captures, count: int, calendar: str) -> None:
    found = sorted(d.instant for d in decide(some, Policy(last=count), calendar) if d.keep)
    assert found[::-1] == sorted({c.instant for c in some}, reverse=True)[:count]


@given(captures(), policies, calendars)
def test_a_policy_keeps_what_its_rules_keep(some: Captures, policy: Policy, calendar: str) -> None:
    parts = [kept(some, only(n, getattr(policy, n)), calendar) for n in FIELDS]
    expected = {c.step: sum((part.get(c.step, ()) for part in parts), ()) for c in some}
    assert kept(some, policy, calendar) == {step: why for step, why in expected.items() if why}


@given(captures(), policies, calendars, st.sets(st.integers(0, 30)))
def test_a_guard_keeps(some: Captures, policy: Policy, calendar: str, steps: set[int]) -> None:
    unguarded = kept(some, policy, calendar)
    for d in decide(some, policy, calendar, guarded=dict.fromkeys(steps, "guard")):
        assert d.reasons == unguarded.get(d.step, ()) + ("guard",) * (d.step in steps)


@given(captures(), st.sampled_from(RULES), counts, counts)
def test_a_higher_count_keeps_no_less(some: Captures, rule: str, a: int, b: int) -> None:
    few, many = (only(rule, count) for count in sorted([a, b], key=lambda n: n % 1000))
    assert kept(some, few).keys() <= kept(some, many).keys()


def test_ten_thousand_captures_take_well_below_a_second() -> None:
    some = [TaggedCapture(k, k * 7919 % 10_000 * DAY // 5, ("a",)) for k in range(10_000)]
    start = time.process_time()
    assert len(kept(some, EVERYTHING)) == 10_000
    assert time.process_time() - start < 1


def test_the_examples_run() -> None:
    assert doctest.testmod(retention) == (0, 2)
