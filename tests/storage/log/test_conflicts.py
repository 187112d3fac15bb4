"""Which commits concern which: the whole rule, kind by kind."""

from typing import Any

import pytest

from gnomon.storage.errors import Conflict
from gnomon.storage.log.conflicts import Work, concerns, refuse_stale
from gnomon.storage.log.records import Record

FOLDER = "00000005-abcdefabcdef"
CAPTURE = Work("capture", 4, 1, FOLDER, frozenset({7, 8}), frozenset({9}))
SHADOW = Work("shadow", 4, 1, FOLDER, frozenset({7, 8}), frozenset({9}))


def record(kind: str, body: dict[str, Any], sequence: int = 6) -> Record:
    return Record(sequence, "", kind, "", body)


TABLE: list[tuple[str, dict[str, Any], bool, bool]] = [
    # kind, body, concerns a capture, concerns a shadow
    ("tag", {"steps": [7], "add": ["x"], "remove": []}, False, False),
    ("repair", {"objects": {}}, False, False),
    ("verdict", {"chunks": [], "judged_by": "person"}, False, True),
    ("verdict", {"chunks": []}, False, True),
    ("forget", {"steps": [1, 2]}, False, False),
    ("forget", {"steps": [1, 7]}, False, False),
    ("forget", {"steps": [9]}, True, True),
    ("rewrite", {"steps": [3], "variables": {}}, False, False),
    ("rewrite", {"steps": [8], "variables": {}}, True, True),
    ("prune", {"removed": []}, False, False),
    ("prune", {"removed": ["00000003-abcdefabcdef"]}, False, False),
    ("prune", {"removed": [FOLDER]}, True, True),
    ("prune", {}, True, True),
    ("patch", {}, False, False),
    ("capture", {}, True, True),
    ("shadow", {}, True, True),
    ("era", {"settings": {}}, True, True),
    ("init", {}, True, True),
    ("of a later release", {}, True, True),
    # Of another era.
    ("capture", {"era": 0}, False, False),
    ("shadow", {"era": 0}, False, False),
    ("verdict", {"era": 0, "chunks": []}, False, False),
    ("forget", {"era": 0, "steps": [9]}, False, False),
    ("rewrite", {"era": 0, "steps": [7]}, False, False),
    ("tag", {"era": 0, "steps": [7]}, False, False),
    ("prune", {"era": 0, "removed": [FOLDER]}, True, True),
    ("of a later release", {"era": 0}, True, True),
]


@pytest.mark.parametrize(("kind", "body", "capture", "shadow"), TABLE)
def test_which_records_concern_which_work(
    kind: str, body: dict[str, Any], capture: bool, shadow: bool
) -> None:
    assert concerns(record(kind, body), CAPTURE) is capture
    assert concerns(record(kind, body), SHADOW) is shadow


@pytest.mark.parametrize(
    ("kind", "body", "stale"),
    [
        ("verdict", {"chunks": []}, True),
        ("forget", {"steps": [7]}, True),
        ("forget", {"steps": [8]}, False),
        ("rewrite", {"steps": [7], "variables": {}}, False),
        ("prune", {"removed": [FOLDER]}, True),
        ("prune", {"removed": []}, False),
        ("capture", {}, False),
        ("shadow", {}, False),
        ("source", {}, False),
        ("patch", {}, False),
        ("era", {"settings": {}}, True),
        ("of a later release", {}, True),
        ("verdict", {"era": 0, "chunks": []}, False),
    ],
)
def test_which_records_make_estimates_stale(
    kind: str, body: dict[str, Any], *, stale: bool
) -> None:
    patch = Work("patch", 4, 1, FOLDER, frozenset(), frozenset({7}))
    assert concerns(record(kind, body), patch) is stale


def test_a_prune_of_before_says_nothing_and_fences_what_was_begun_before_it() -> None:
    assert concerns(record("prune", {}, sequence=5), CAPTURE)
    assert not concerns(record("prune", {}, sequence=4), CAPTURE)
    foreign = Work("capture", 4, 1, "no-number", frozenset(), frozenset())
    assert concerns(record("prune", {}), foreign)


@pytest.mark.parametrize(
    ("given_up", "era", "stale"), [([7], 1, True), ([1], 1, False), ([7], 0, False)]
)
def test_what_was_read_may_be_given_up_but_not_pruned(
    given_up: list[int], era: int, stale: bool
) -> None:
    forget = record("forget", {"steps": given_up, "era": era}, 5)
    prune = record("prune", {"removed": []}, 6)
    for work in (CAPTURE, SHADOW):
        refuse_stale([forget], work)
        refuse_stale([prune, forget], work)  # the next prune finds it committed
        if stale:
            with pytest.raises(Conflict, match=r"record 6 \(prune\)"):
                refuse_stale([forget, prune], work)
        else:
            refuse_stale([forget, prune], work)


def test_the_conflict_names_the_record() -> None:
    harmless, harmful = record("tag", {"steps": []}, 5), record("capture", {}, 6)
    refuse_stale([harmless], CAPTURE)
    with pytest.raises(Conflict, match=r"record 6 \(capture\).*run it again"):
        refuse_stale([harmless, harmful], CAPTURE)
