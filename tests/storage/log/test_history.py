"""What the records add up to; and records of nonsense are damage, never a traceback."""

import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gnomon.storage.care.check import check
from gnomon.storage.care.forget import forget, guards, tag
from gnomon.storage.care.prune import prune
from gnomon.storage.care.repair import repair
from gnomon.storage.care.rewrite import dependent, rewrite
from gnomon.storage.care.stats import stats
from gnomon.storage.errors import Format, GnomonError, Integrity
from gnomon.storage.log.folding import fold
from gnomon.storage.log.history import History
from gnomon.storage.log.records import Record
from gnomon.storage.repository import Repository
from gnomon.storage.values.grid import Index
from gnomon.storage.values.model import SUSPECT, TRUSTED, RepositorySettings, SourceSpec, Variable
from tests.storage.building import (
    HOUR,
    WHEN,
    OtherBody,
    attempt,
    capture_new,
    copy_of,
    everything,
    make_repository,
    reopened,
    weather,
    write_zarr,
)

T = Variable("t", ("x",), (4,), "<f8", (2,), (2,), (4,))
SETTINGS = RepositorySettings(SourceSpec("s", "append", "time"), (T,), WHEN, "", {})


class Story:
    """A log in the making, folded record by record."""

    def __init__(self) -> None:
        self.eras: tuple[History, ...] = (History(SETTINGS),)
        self.records: list[Record] = []

    def add(self, kind: str, **body: Any) -> History:
        record = Record(len(self.records), "", kind, WHEN, body)
        self.eras = fold(self.eras, [record])
        self.records.append(record)
        return self.eras[-1]

    def capture(self, *instants: int, **more: Any) -> History:
        return self.add(
            "capture",
            **{
                "id": f"{len(self.records):08d}-c",
                "instants": list(instants),
                "raw_times": bytes(range(8 * len(instants))).hex(),
                "suspects": [0] * len(instants),
                "variables": {"t": {"root": f"r{len(self.records)}", "ledger": "r"}},
                "manifest": "m",
                **more,
            },
        )

    def shadow(self, base: int, *instants: int, **more: Any) -> History:
        return self.add(
            "shadow",
            **{
                "id": f"{len(self.records):08d}-s",
                "step": base,
                "reference": self.eras[-1].captured[base].instant,
                "instants": list(instants),
                "bases": [base],
                "variables": {
                    "t": {
                        "roots": {"index": "r", "score": "r"},
                        "confidence": [0.5] * len(instants),
                        "expected_rmse": [1.0] * len(instants),
                        "tolerance": 1.0,
                        "ledger": "r",
                    }
                },
                "forecaster": {"t": {"root": "r", "rows": 1, "columns": 1}},
                "manifest": "m",
                **more,
            },
        )

    def verdict(self, *chunks: tuple[int, Index, int], **more: Any) -> History:
        entries = [
            {"variable": "t", "step": s, "chunk": list(c), "status": status}
            for s, c, status in chunks
        ]
        return self.add("verdict", chunks=entries, reason="", **more)


@pytest.fixture
def story() -> Story:
    """Two captures of two states each; the second is late."""
    made = Story()
    made.add("init")
    made.capture(10, 40)
    made.capture(20, 30, suspects=[1, 0])
    return made


def steps(state: History) -> list[int]:
    return [s.step for s in state.timeline]


def test_captures_are_numbered_as_they_came_and_ordered_by_time(story: Story) -> None:
    state = story.eras[-1]
    assert [(s.step, s.instant, s.local, s.sequence) for s in state.captured] == [
        (0, 10, 0, 1),
        (1, 40, 1, 1),
        (2, 20, 0, 2),
        (3, 30, 1, 2),
    ]
    assert [s.raw_time for s in state.captured] == [bytes(range(8)), bytes(range(8, 16))] * 2
    assert [s.suspects for s in state.captured] == [0, 0, 1, 0]
    assert steps(state) == [0, 2, 3, 1]
    assert state.before(30, 5) == [0, 2]
    assert state.before(35, 2) == [2, 3]
    assert state.before(10, 3) == []
    assert state.slabs["00000002-c"] == {"t": "r2"}
    assert state.folders == {"00000001-c": 1, "00000002-c": 2}


def test_of_versions_the_least_suspect_is_on_the_timeline_then_the_newest(story: Story) -> None:
    state = story.capture(20, 30, revises={"0": 2, "1": 3})
    assert [s.revises for s in state.captured] == [None] * 4 + [2, 3]
    assert steps(state) == [0, 4, 5, 1]
    assert [s.step for s in state.versions(20)] == [4, 2]
    state = story.capture(20, 30, suspects=[1, 0], revises={"0": 4, "1": 5})
    assert steps(state) == [0, 4, 7, 1]
    assert [s.step for s in state.versions(20)] == [4, 6, 2]
    assert [s.step for s in state.versions(30)] == [7, 5, 3]
    assert state.versions(31) == ()


def test_forgotten_captures_keep_their_number_and_their_place(story: Story) -> None:
    before = story.eras[-1]
    state = story.add("forget", steps=[0, 3], reason="named")
    assert [s.step for s in state.kept] == [2, 1]
    assert [s.forgotten for s in state.captured] == [True, False, False, True]
    assert state.places == before.places
    assert state.live_places == {("00000001-c", 1), ("00000002-c", 0)}
    assert not any(s.forgotten for s in before.captured)


def test_tags_are_added_once_and_taken_away(story: Story) -> None:
    story.add("tag", steps=[1, 2], add=["a", "b"])
    state = story.add("tag", steps=[2], add=["b", "c"], remove=["a", "never"])
    assert [s.tags for s in state.captured] == [(), ("a", "b"), ("b", "c"), ()]
    assert story.add("tag", steps=[1], remove=["b", "a"]).captured[1].tags == ()


def test_verdicts_change_the_count_of_suspect_chunks(story: Story) -> None:
    state = story.verdict((0, (0,), SUSPECT), (0, (1,), SUSPECT), (2, (0,), TRUSTED))
    assert [s.suspects for s in state.captured] == [2, 0, 0, 0]
    assert state.verdicts == {"t": {(0, (0,)): SUSPECT, (0, (1,)): SUSPECT, (2, (0,)): TRUSTED}}
    assert state.accepted == {}
    state = story.verdict((0, (0,), TRUSTED), judged_by="person")
    assert state.captured[0].suspects == 1
    assert state.accepted == {"t": {(0, (0,))}}
    state = story.verdict((0, (0,), SUSPECT), judged_by="person")
    assert state.captured[0].suspects == 2
    assert state.accepted == {"t": frozenset()}
    assert state.verdicts["t"][0, (0,)] == SUSPECT


def test_the_captures_beside_a_time_are_intact_and_kept(story: Story) -> None:
    """Suspect and forgotten ones are passed over; outside the record there is none."""
    state = story.eras[-1]
    assert [state.beside(t) for t in (10, 20, 25, 30)] == [(None, 3), (0, 3), (0, 3), (0, 1)]
    assert story.verdict((3, (0,), SUSPECT)).beside(20) == (0, 1)
    assert story.add("forget", steps=[1], reason="").beside(20) == (0, None)


@pytest.mark.parametrize(
    ("between", "judged", "there"),
    [
        (None, 2, False),
        (None, 0, True),
        (None, 3, True),
        ([0, 1], 2, False),
        ([0, 1], 0, False),
        ([0, 1], 3, False),
        ([0, 1], 1, False),
        ([0, 3], 1, True),
    ],
)
def test_a_verdict_drops_the_estimates_that_rest_on_what_it_judges(
    story: Story, between: list[int] | None, judged: int, *, there: bool
) -> None:
    """On their capture; of interpolated ones also on those beside, and on all in between."""
    more = {} if between is None else {"between": between}
    patch = {"step": 2, "shadow": "s", "lead": 1, "variables": {}, "manifest": "m"}
    state = story.add("patch", id="00000003-p", **patch, **more)
    assert state.patches[2].between == (None if between is None else tuple(between))
    status = TRUSTED if judged == 2 else SUSPECT
    assert (2 in story.verdict((judged, (0,), status)).patches) is there


def test_a_time_between_that_is_no_longer_believed_drops_them(story: Story) -> None:
    patch = {"step": 2, "shadow": "s", "lead": 1, "variables": {}, "manifest": "m"}
    story.add("patch", id="00000003-p", **patch, between=[0, 1])
    assert 2 in story.verdict(judged_by="person", times=[30]).patches
    assert story.verdict(judged_by="person", doubted=[30]).patches == {}


@pytest.mark.parametrize("between", [[0], [0, 1, 3], [0, 9], [-1, 3], "03", None])
def test_sides_that_are_none_are_refused(story: Story, between: object) -> None:
    patch = {"step": 2, "shadow": "s", "lead": 1, "variables": {}, "manifest": "m"}
    with pytest.raises(Integrity):
        story.add("patch", id="00000003-p", **patch, between=between)


def test_a_rewrite_moves_captures_to_another_slab(story: Story) -> None:
    state = story.add(
        "rewrite", id="00000003-w", steps=[3, 0], variables={"t": {"root": "new"}}, manifest="m"
    )
    places = [(s.slab, s.local) for s in state.captured]
    assert places[3] == ("00000003-w", 0)
    assert places[0] == ("00000003-w", 1)
    assert places[1] == ("00000001-c", 1)
    assert [s.sequence for s in state.captured] == [1, 1, 2, 2]
    assert len(state.places) == 6  # the old bytes are there until a prune
    assert state.slabs["00000003-w"] == {"t": "new"}


def test_after_a_prune_only_what_is_live_is_there(story: Story) -> None:
    story.shadow(1, 50, 60)
    story.add("forget", steps=[2, 3], reason="")
    state = story.add("prune")
    assert state.places == {("00000001-c", 0), ("00000001-c", 1)}
    assert state.folders == {"00000001-c": 1, "00000003-s": 3}
    assert state.written == {"00000001-c"}
    assert [s.id for s in state.shadows] == ["00000003-s"]
    assert len(state.captured) == 4


def leads_there(state: History) -> list[int]:
    return [len(shadow.instants) for shadow in state.shadows]


def test_leads_that_two_newer_shadows_come_nearer_to_are_not_there(story: Story) -> None:
    """Of the second newest they stay: who began before the newest may still read them."""
    story.shadow(0, 20, 30, 40, lasting=1)
    assert leads_there(story.shadow(2, 30, 40, 50, lasting=1)) == [3, 3]
    assert leads_there(story.shadow(3, 40, 50, 60, lasting=1)) == [1, 3, 3]
    assert story.eras[-1].superseded == {"00000003-s"}
    assert leads_there(story.shadow(1, 50, 60, 70, lasting=2)) == [1, 1, 3, 3]


@pytest.mark.parametrize(
    ("lasting", "next_base", "left"), [(None, 2, 3), (1, 3, 3), (2, 3, 2), (1, 0, 1)]
)
def test_leads_that_the_next_shadow_came_too_late_for_stay(
    story: Story, lasting: int | None, next_base: int, left: int
) -> None:
    more = {} if lasting is None else {"lasting": lasting}
    story.shadow(0, 20, 30, 40, **more)
    story.shadow(next_base, 40, 50)
    assert leads_there(story.shadow(1, 50, 60))[0] == left


def test_leads_of_what_the_next_shadow_does_not_predict_stay(story: Story) -> None:
    story.shadow(0, 20, 30, lasting=1)
    story.shadow(2, 30, 40, variables={})
    assert leads_there(story.shadow(3, 40, 50)) == [2, 2, 2]


def test_leads_that_the_next_shadow_does_not_reach_stay(story: Story) -> None:
    """Its intervals may be shorter, or its leads fewer."""
    story.shadow(0, 20, 30, 40, 50, lasting=1)
    story.shadow(2, 25, 30)
    assert leads_there(story.shadow(3, 40, 50)) == [4, 2, 2]


def test_a_prune_keeps_the_newest_shadow_and_those_that_captures_still_need(story: Story) -> None:
    story.shadow(0, 20)  # both its base and its time are kept
    story.shadow(2, 30)  # its base will be forgotten
    story.shadow(1, 70)  # its time was never captured
    story.shadow(1, 80)  # the newest
    story.add("forget", steps=[2], reason="")
    story.capture(20)
    state = story.add("prune")
    assert [s.id for s in state.shadows] == ["00000003-s", "00000006-s"]
    assert state.forecasters == {"00000006-s"}
    assert state.forecaster is not None
    assert state.forecaster.sequence == 6
    assert set(state.folders) == {
        "00000001-c",
        "00000002-c",
        "00000003-s",
        "00000006-s",
        "00000008-c",
    }


def test_an_era_begins_anew_and_leaves_the_one_before(story: Story) -> None:
    wider = Variable("t", ("x",), (8,), "<f8", (2,), (2,), (8,))
    settings = RepositorySettings(SETTINGS.source, (wider,), WHEN, "", {})
    before = story.eras[-1]
    state = story.add("era", settings=settings.to_json())
    assert state == History(settings)
    assert story.eras == (before, state)
    state = story.capture(90)
    assert [s.step for s in state.captured] == [0]
    assert len(story.eras[0].captured) == 4
    story.add("forget", steps=[2], reason="", era=0)
    assert [s.forgotten for s in story.eras[0].captured] == [False, False, True, False]
    assert not story.eras[1].captured[0].forgotten
    story.add("tag", steps=[0], add=["x"], era=1)
    assert story.eras[1].captured[0].tags == ("x",)
    story.add("prune")
    assert story.eras[0].places == {("00000001-c", 0), ("00000001-c", 1), ("00000002-c", 1)}


def test_a_state_is_never_changed_by_what_follows(story: Story) -> None:
    before = story.eras[-1]
    seen = (before.captured, dict(before.slabs), before.places, dict(before.folders))
    story.verdict((0, (0,), SUSPECT), judged_by="person")
    story.add("tag", steps=[0], add=["a"])
    story.capture(50)
    story.shadow(1, 60)
    story.add("prune")
    assert (before.captured, before.slabs, before.places, before.folders) == seen
    assert before.verdicts == {}
    assert before.accepted == {}
    assert before.shadows == ()


def test_folding_at_once_and_one_by_one_is_the_same(story: Story) -> None:
    story.verdict((0, (0,), SUSPECT), judged_by="person")
    story.shadow(1, 60)
    story.add("forget", steps=[2], reason="")
    story.add("prune")
    assert fold((History(SETTINGS),), story.records) == story.eras


def test_order_that_grows_with_the_state_is_that_of_the_whole(story: Story) -> None:
    eras: tuple[History, ...] = (History(SETTINGS),)
    grown = 0
    for number, record in enumerate(story.records):
        _ = eras[-1].timeline  # what follows may build on it
        eras = fold(eras, [record])
        grown += "timeline" in vars(eras[-1])
        whole = fold((History(SETTINGS),), story.records[: number + 1])
        for state, fresh in zip(eras, whole, strict=True):
            assert (state.kept, state.timeline) == (fresh.kept, fresh.timeline)
    assert grown > 1


def test_a_kind_of_a_later_program_says_nothing_of_the_state(story: Story) -> None:
    before = story.eras
    assert story.add("blessing", whatever=[1, {"x": None}]) == before[-1]


CHUNK = {"variable": "t", "step": 0, "chunk": [0], "status": 1}

NO_NUMBERS: list[Any] = ["x", [], None]
NO_DESCRIPTIONS: list[Any] = [[], {"x": {}}, {"0": {}}, {"2": {}}]


def put(**attributes: Any) -> dict[str, Any]:
    """A change of the attributes of the variable."""
    return {"variables": {"t": {"put": attributes}}}


HOSTILE: list[tuple[str, dict[str, Any]]] = [
    *(
        ("capture", {"id": name})
        for name in ("../x", "..", ".", "", "/etc", "a/b", "a\\b", ".hidden", "../../r2/captures/x")
    ),
    ("shadow", {"id": "../x"}),
    ("rewrite", {"id": "../x", "steps": [0], "variables": {"t": {"root": "r"}}}),
    ("prune-like", {"id": "../x"}),
    ("capture", {"instants": None}),
    ("capture", {"instants": 5}),
    ("capture", {"instants": ["x"]}),
    ("capture", {"instants": [math.inf]}),
    ("capture", {"raw_times": "xyz"}),
    ("capture", {"raw_times": 7}),
    ("capture", {"suspects": []}),
    ("capture", {"suspects": [None]}),
    ("capture", {"suspects": [math.inf]}),
    ("capture", {"variables": []}),
    ("capture", {"variables": {"t": {}}}),
    ("capture", {"variables": {"t": None}}),
    ("capture", {"revises": [1]}),
    ("capture", {"revises": {"x": 1}}),
    *(("capture", {"description": put(scale_factor=value)}) for value in NO_NUMBERS),
    *(("capture", {"description": put(add_offset=value)}) for value in NO_NUMBERS),
    ("capture", {"description": put(missing_value=[[1], [2, 3]])}),
    ("capture", {"description": {"conversions": {"t": [0, 1]}}}),
    ("capture", {"description": {"conversions": {"t": [1]}}}),
    *(("capture", {"descriptions": value}) for value in NO_DESCRIPTIONS),
    ("capture", {"descriptions": {"1": put(scale_factor="x")}}),
    ("shadow", {"step": "x"}),
    ("shadow", {"reference": None}),
    ("shadow", {"instants": 3}),
    ("shadow", {"bases": None}),
    ("shadow", {"bases": [math.nan]}),
    ("shadow", {"variables": 3}),
    *(("shadow", {"lasting": value}) for value in (0, 2, 0.5, "x", None)),
    ("verdict", {}),
    ("verdict", {"chunks": [3]}),
    ("verdict", {"chunks": [{}]}),
    ("verdict", {"chunks": [CHUNK | {"step": -1}]}),
    ("verdict", {"chunks": [CHUNK | {"step": 99}]}),
    ("verdict", {"chunks": [CHUNK | {"step": math.inf}]}),
    ("verdict", {"chunks": [CHUNK | {"chunk": 0}]}),
    ("verdict", {"chunks": [CHUNK | {"chunk": ["x"]}]}),
    ("verdict", {"chunks": [CHUNK | {"status": None}]}),
    ("forget", {}),
    ("forget", {"steps": 3}),
    ("forget", {"steps": [-1]}),
    ("forget", {"steps": [99]}),
    ("forget", {"steps": [math.inf]}),
    ("forget", {"steps": [None]}),
    ("tag", {"steps": [-1], "add": ["a"]}),
    ("tag", {"steps": [99], "add": ["a"]}),
    ("tag", {"steps": [0], "add": 3}),
    ("tag", {"steps": [0], "add": ["a"], "remove": [["a"]]}),
    ("rewrite", {"id": "x", "steps": [-1], "variables": {"t": {"root": "r"}}}),
    ("rewrite", {"id": "x", "steps": [99], "variables": {"t": {"root": "r"}}}),
    ("rewrite", {"id": "x", "steps": [0], "variables": {}}),
    *(("prune", {"removed": value}) for value in (5, None, "x", {"a": 1}, [["x"]], [5])),
    ("era", {}),
    ("era", {"settings": None}),
    ("era", {"settings": {}}),
    ("era", {"settings": SETTINGS.to_json() | {"variables": [{}]}}),
    ("era", {"settings": SETTINGS.to_json() | {"format": 3}}),
    ("forget", {"steps": [0], "era": 9}),
    ("forget", {"steps": [0], "era": -1}),
    ("forget", {"steps": [0], "era": "x"}),
    ("forget", {"steps": [0], "era": math.inf}),
]


@pytest.mark.parametrize(("kind", "body"), HOSTILE, ids=str)
def test_a_record_of_nonsense_is_refused(story: Story, kind: str, body: dict[str, Any]) -> None:
    wider = RepositorySettings(SETTINGS.source, (T,), WHEN, "", {})
    story.add("era", settings=wider.to_json())
    story.capture(10, 40)
    before = story.eras
    whole = {
        "capture": partial(story.capture, 10, 20),
        "shadow": partial(story.shadow, 0, 20),
        "rewrite": partial(story.add, "rewrite", manifest="m", variables={"t": {"root": "r"}}),
    }
    add = whole.get(kind, partial(story.add, kind))
    with pytest.raises((Integrity, Format)) as caught:
        add(**body)
    if isinstance(caught.value, Integrity):
        assert f"log record {len(story.records)} ({kind})" in str(caught.value)
        assert "tampered" in str(caught.value)
    assert story.eras == before


# The same with a repository around it -------------------------------------------------------


def uses(url: str) -> list[Callable[[], object]]:
    """Return all that reads a repository, and some of what writes to it."""

    def shown() -> None:
        made = reopened(url)
        for name in (v.name for v in made.settings.variables):
            for captured in made.captured:
                made.captures(name).status(captured.step)

    return [
        lambda: everything(url),
        shown,
        lambda: forecast(reopened(url)),
        lambda: guards(reopened(url)),
        lambda: dependent(reopened(url)),
        lambda: check(reopened(url)),
        lambda: check(reopened(url), read_data=True),
        lambda: repair(reopened(url), committed_at=WHEN, dry_run=True),
        lambda: prune(reopened(url), committed_at=WHEN, dry_run=True),
        lambda: stats(reopened(url)),
    ]


def forecast(made: Repository) -> None:
    for variable in made.settings.variables:
        made.forecaster_state(variable.name).index()
        for shadow in made.shadows:
            if variable.name in shadow.variables:
                made.shadow(variable.name, shadow).chunk(1, (0, 0))


WITH_ID: dict[str, Any] = {"id": "00000009-x", "manifest": "0" * 64}
SHADOW: dict[str, Any] = WITH_ID | {
    "step": 0,
    "reference": 0,
    "instants": [1],
    "bases": [0],
    "variables": {"t": {"roots": {"index": "r", "score": "r"}, "ledger": "r"}},
    "forecaster": {"t": {"root": "r", "rows": 1, "columns": 1}},
}
CAPTURE: dict[str, Any] = WITH_ID | {
    "instants": [HOUR],
    "raw_times": "00" * 8,
    "suspects": [0],
    "variables": {n: {"root": "r", "ledger": "r"} for n in ("t", "p", "wet")},
}


def without(body: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in body.items() if k != name}


TAMPERED: dict[str, tuple[str, dict[str, Any]]] = {
    "a verdict on a chunk that is not there": (
        "verdict",
        {"chunks": [CHUNK | {"chunk": [99, 99]}]},
    ),
    "a verdict on a negative chunk": ("verdict", {"chunks": [CHUNK | {"chunk": [-1, -1]}]}),
    "a verdict on a chunk of other dimensions": ("verdict", {"chunks": [CHUNK]}),
    "a verdict on an unknown variable": ("verdict", {"chunks": [CHUNK | {"variable": "?"}]}),
    "an id without a manifest": ("blessing", {"id": "00000009-x"}),
    "a manifest of another type": ("blessing", {"id": "00000009-x", "manifest": None}),
    "an id that no path holds": ("blessing", WITH_ID | {"id": "a\0b"}),
    "an id that is too long": ("blessing", WITH_ID | {"id": "a" * 999}),
    "a capture without a variable": ("capture", CAPTURE | {"variables": {"t": {"root": "r"}}}),
    "a capture of an unknown variable": (
        "capture",
        CAPTURE | {"variables": CAPTURE["variables"] | {"?": {"root": "r", "ledger": "r"}}},
    ),
    "a capture without a ledger": (
        "capture",
        CAPTURE | {"variables": {n: {"root": "r"} for n in ("t", "p", "wet")}},
    ),
    "a capture that nothing is stored of": ("capture", CAPTURE),
    "a capture without its times": ("capture", CAPTURE | {"raw_times": ""}),
    "a shadow without a state": ("shadow", without(SHADOW, "forecaster")),
    "a shadow whose state has no root": ("shadow", SHADOW | {"forecaster": {"t": {}}}),
    "a shadow with a state of nothing": ("shadow", SHADOW | {"forecaster": None}),
    "a shadow without roots": ("shadow", SHADOW | {"variables": {"t": {"ledger": "r"}}}),
    "a shadow without a root": ("shadow", SHADOW | {"variables": {"t": {"roots": {}}}}),
    "a shadow of nothing": ("shadow", SHADOW | {"variables": {"t": None}}),
    "a shadow of an unknown variable": (
        "shadow",
        SHADOW | {"variables": {"?": SHADOW["variables"]["t"]}},
    ),
    "a shadow that nothing is stored of": ("shadow", SHADOW),
    "a rewrite without a variable": ("rewrite", WITH_ID | {"steps": [0], "variables": {}}),
    "a rewrite that nothing is stored of": (
        "rewrite",
        WITH_ID | {"steps": [0], "variables": CAPTURE["variables"]},
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_repository_is_refused_or_named_and_never_a_traceback(
    repository_path: Path, tmp_path: Path, what: str
) -> None:
    folder = copy_of(repository_path, tmp_path / "r")
    kind, body = TAMPERED[what]
    with suppress(GnomonError):
        reopened(folder).commit(OtherBody(kind, body), WHEN)
    for use in uses(str(folder)):
        with suppress(GnomonError):
            use()
    before = everything(repository_path)
    found = attempt(folder)
    if not isinstance(found, GnomonError):
        names = [n for n in before if n.startswith("captured")]
        assert [found[n] for n in names] == [before[n] for n in names]


# Commits through the repository -------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path) -> Repository:
    """Four hours in two commits."""
    source = write_zarr(weather(4), tmp_path / "source.zarr")
    repository = make_repository(tmp_path / "r", source, chunks={"y": 3, "x": 5})
    return capture_new(capture_new(repository, until=946_684_800_000_000 + HOUR))


def same(repository: Repository) -> Repository:
    """Demand that a new process sees the same."""
    again = reopened(repository.location.url)
    assert again.records == repository.records
    for one, other in zip(again.eras, repository.eras, strict=True):
        settings = one.settings  # its attributes hold a NaN, which equals nothing
        assert one == replace(other, settings=settings)
    return repository


def test_what_was_committed_is_what_is_opened(made: Repository) -> None:
    same(made)
    made, done = forget(made, captures=[1], committed_at=WHEN)
    assert done.steps == (1,)
    made = tag(same(made), [0, 2], add=["x"], committed_at=WHEN)
    steps = dependent(made)
    assert steps == [2]
    made = same(rewrite(made, steps, WHEN, lambda _what, _done, _total: None))
    assert dependent(made) == []
    assert made.captured[2].slab != made.captured[3].slab
    assert made.captured[2].tags == ("x",)
    made, _ = prune(made, committed_at=WHEN)
    same(made)
    assert check(made, read_data=True).problems == ()
    assert [s.step for s in made.timeline] == [0, 2, 3]


def test_a_commit_that_is_known_is_opened_unless_another_has_its_place(
    made: Repository, tmp_path: Path
) -> None:
    """As where a folder was put back from a backup, and went on otherwise."""
    place = Path(made.location.url)
    shutil.copytree(place, tmp_path / "backup")
    forgotten, _ = forget(made, captures=[0], committed_at=WHEN)
    sequence = forgotten.records[-1].sequence
    assert Repository.open(str(place), at=sequence).records == forgotten.records
    other, _ = forget(Repository.open(str(tmp_path / "backup")), captures=[1], committed_at=WHEN)
    assert other.records[-1].sequence == sequence
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "backup", place)
    with pytest.raises(Integrity, match="not what it was"):
        Repository.open(str(place), at=sequence)
    before = Repository.open(str(place), at=sequence - 1)  # which both have
    assert before.records == made.records[:sequence]


@pytest.mark.parametrize("sequence", [0, 1, 2, 3, 4])
def test_a_repository_is_seen_as_it_was(made: Repository, sequence: int) -> None:
    later, _ = forget(made, captures=[0], committed_at=WHEN)
    later = tag(later, [3], add=["x"], committed_at=WHEN)
    seen = later.at(sequence)
    assert len(seen.records) == sequence + 1
    assert len(seen.captured) == [0, 2, 4, 4, 4][sequence]
    assert [s.step for s in seen.timeline] == [[], [0, 1], [0, 1, 2, 3], [1, 2, 3], [1, 2, 3]][
        sequence
    ]
