"""Descriptions: a change leads exactly from one to the next, and costs what has changed."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.log.description import (
    SAVED,
    Change,
    Description,
    Edit,
    described,
    exact,
    files_in_use,
)
from gnomon.storage.values.documents import NONSENSE, parse
from gnomon.storage.values.model import RepositorySettings, SourceSpec

names = st.text("abcdef_", min_size=1, max_size=4)
texts = st.one_of(
    st.text(max_size=8),
    st.builds(lambda a, n, b: a + "h" * n + b, st.text(max_size=3), st.integers(0, 600), st.text()),
)
values = st.one_of(
    texts,
    st.integers(-5, 5),
    st.floats(),
    st.booleans(),
    st.sampled_from([np.float32(0.1), np.int8(1), np.array([1, 2], "i2"), [1, 2.0, "x"]]),
)
attributes = st.dictionaries(names, values, max_size=5)


def forms(found: Any) -> dict[str, str]:
    return {name: exact(value) for name, value in found.items()}


@given(attributes, attributes)
def test_an_edit_leads_exactly_from_one_to_the_other(before: Any, after: Any) -> None:
    edit = Edit.between(before, after)
    stored = parse(json.dumps(edit.to_json()).encode())
    assert forms(Edit.from_json(stored).after(before)) == forms(after)
    assert bool(edit) == (forms(before) != forms(after))


def entry(file: str, **attributes: Any) -> dict[str, Any]:
    return {
        "dims": ["x"],
        "attributes": attributes,
        "dtype": "<i4",
        "shape": [2],
        "file": file,
        "hash": f"of {file}",
    }


def description(number: int) -> Description:
    """Return one of which every part differs from that of another number."""
    return Description(
        {"history": "h" * 2000 + str(number), "title": "t"},
        {"t": {"comment": number, "units": "K"}, "p": {"units": "hPa"}},
        {"units": "hours since 2000-01-01", "n": np.float32(number)},
        {"x": entry("frame/a/0"), f"mask{number}": entry(f"frame/{number}/0", n=number)},
        {f"u{number}": "not named"},
    )


def test_changes_lead_through_all_descriptions() -> None:
    before = description(0)
    for number in (1, 2, 2, 0):
        after = description(number)
        change = Change.between(before, after)
        stored = Change.from_json(parse(json.dumps(change.to_json()).encode()))
        found = stored.after(before)
        assert forms(found.attributes) == forms(after.attributes)
        assert {n: forms(a) for n, a in found.variables.items()} == {
            n: forms(a) for n, a in after.variables.items()
        }
        assert forms(found.time) == forms(after.time)
        assert found.fixed == after.fixed
        assert found.unprotected == after.unprotected
        assert not Change.between(found, after)
        before = found


def test_only_what_changed_is_said() -> None:
    assert not Change.between(description(1), description(1))
    assert Change.between(description(1), description(1)).to_json() == {}
    said = Change.between(description(1), description(2)).to_json()
    assert len(json.dumps(said)) < 1000  # though the history has 2,000 characters
    assert set(said["variables"]) == {"t"}
    assert said["variables"]["t"] == {"put": {"comment": 2}}
    assert said["fixed"].keys() == {"mask1", "mask2"}
    assert said["fixed"]["mask1"] is None


def test_a_growing_history_costs_its_new_lines() -> None:
    old = "\n".join(f"2020-01-{k:02d}: ncks" for k in range(1, 32))
    for new in (f"today: ncrcat\n{old}", f"{old}\ntoday: ncrcat"):
        said = Edit.between({"history": old}, {"history": new}).to_json()
        assert len(json.dumps(said)) < 100
        assert Edit.from_json(said).after({"history": old}) == {"history": new}
    assert len(old) > SAVED


@pytest.mark.parametrize(
    "body",
    [
        3,
        {"attributes": 3},
        {"attributes": {"put": []}},
        {"attributes": {"grown": {"title": [9, 9, "x"]}}},
        {"attributes": {"grown": {"title": [-1, 0, "x"]}}},
        {"attributes": {"grown": {"nothing": [0, 0, "x"]}}},
        {"attributes": {"grown": {"title": [0, 0]}}},
        {"attributes": {"gone": "title"}},
        {"variables": {"no such": {"gone": []}}},
        {"fixed": {"x": {"dims": ["x"]}}},
        {"fixed": []},
        {"unprotected": {"u": 3}},
    ],
    ids=str,
)
def test_what_is_no_change_is_refused(body: Any) -> None:
    with pytest.raises(NONSENSE):
        Change.from_json(body).after(description(0))


def test_files_are_in_use_as_long_as_a_description_is() -> None:
    settings = RepositorySettings(
        SourceSpec("s", "state"), (), "", "frame/a", {"x": entry("frame/a/0")}
    )
    empty = described(settings, ())
    steps = [empty]
    changes = []
    for number in (1, 2):
        fixed = {"x": entry("frame/a/0"), "mask": entry(f"frame/{number}/0")}
        after = Description(empty.attributes, {}, {}, fixed)
        changes.append(Change.between(steps[-1], after))
        steps.append(after)
    assert files_in_use(settings, changes, {0}) == {"frame/a/0"}
    assert files_in_use(settings, changes, {1}) == {"frame/a/0", "frame/1/0"}
    assert files_in_use(settings, changes, {0, 2}) == {"frame/a/0", "frame/2/0"}
