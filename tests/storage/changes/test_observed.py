"""Attributes and fixed variables have versions: each capture is served with its own, for ever."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gnomon.storage.care.check import check
from gnomon.storage.care.forget import forget
from gnomon.storage.care.prune import prune
from gnomon.storage.care.repair import repair
from gnomon.storage.changes.era import begin_era
from gnomon.storage.errors import Integrity, InvalidInput, Moved
from gnomon.storage.log import description
from gnomon.storage.repository import Repository
from gnomon.storage.serve.planes import Plane
from gnomon.storage.serve.view import raw_dataset
from gnomon.tasks.capturing.capture import capture, commit_capture
from gnomon.tasks.capturing.plan import CapturePlan, plan_capture
from gnomon.tasks.comparing.compare import compare
from gnomon.tasks.work import serial
from tests.storage.building import (
    WHEN,
    OtherBody,
    add_shadow,
    assert_identical,
    capture_new,
    captured,
    history,
    make_repository,
    reopened,
    undecoded,
    weather,
    write_zarr,
)

Change = Callable[[xr.Dataset], xr.Dataset]


def ground(steps: int, *changes: Change) -> xr.Dataset:
    """Return weather with a mask, a mapping and names that are fixed in time, then changed."""
    data = weather(steps).assign(
        lsm=(("y", "x"), np.ones((6, 10), "i1"), {"long_name": "land"}),
        crs=((), np.int32(0), {"grid_mapping_name": "latitude_longitude", "radius": 6371.0}),
        notes=(("n",), np.array(["made", "by", "v1"], object)),
    )
    data["t"].attrs["grid_mapping"] = "crs"
    for change in changes:
        data = change(data)
    return data


def of(name: str, **attributes: Any) -> Change:
    """Change attributes of a variable, or of the dataset under the empty name."""

    def change(data: xr.Dataset) -> xr.Dataset:
        data = data.copy(deep=True)
        target = data if not name else data[name]
        target.attrs.update({n: v for n, v in attributes.items() if v is not None})
        for gone in [n for n, v in attributes.items() if v is None]:
            del target.attrs[gone]
        return data

    return change


def wet(data: xr.Dataset) -> xr.Dataset:
    values = data["lsm"].values.copy()
    values[0, 0] = 0
    return data.assign(lsm=data["lsm"].copy(data=values))


def longer(data: xr.Dataset) -> xr.Dataset:
    return data.drop_vars("notes").assign(notes=(("n",), np.array(list("abcd"), object)))


def jittered(data: xr.Dataset) -> xr.Dataset:
    return data.assign_coords(y=data["y"].copy(data=np.nextafter(data["y"].values, 99)))


def put(source: Path, steps: int, *changes: Change) -> xr.Dataset:
    write_zarr(ground(steps, *changes), source, mode="w")
    return undecoded(source)


def state(repository: Repository, step: int) -> xr.Dataset:
    plane = Plane(repository.captured[step].instant, step=step)
    return raw_dataset(repository, (plane,), plain=True).load()


def planned(repository: Repository) -> CapturePlan:
    plan = plan_capture(repository)
    assert plan is not None
    return plan


REMARKS: dict[str, Change] = {
    "comment": of("t", comment="version 2"),
    "type": of("", version=3.0),
    "array": of("t", actual_range=np.array([1, 2], "f4")),
    "gone": of("", title=None),
    "time": of("time", long_name="valid time"),
    "coordinate": of("y", comment="centres"),
    "spelling": of("t", units="kelvin"),
    "scale of another type": of("p", scale_factor=np.float32(0.02)),
    "mask": wet,
    "other size": longer,
    "jitter": jittered,
    "lost": lambda d: d.drop_vars("lsm"),
    "new": lambda d: d.assign(z=("y", np.arange(6.0))),
    "fill that no value equals": of("t", missing_value=np.float32(-9999)),
    "calendar": of("time", calendar="gregorian"),
}


@pytest.mark.parametrize("what", REMARKS)
def test_each_state_is_given_back_as_it_was_captured(what: str, tmp_path: Path) -> None:
    """Attributes, coordinates and fixed variables; and it is told once."""
    source = tmp_path / "s.zarr"
    first = put(source, 2)
    made = captured(tmp_path / "r", source)
    second = put(source, 4, REMARKS[what])
    plan = planned(made)
    assert not plan.metadata_changed
    assert len(plan.notes) == 1
    made = capture_new(made)
    put(source, 5, REMARKS[what])
    plan = planned(made)
    assert (plan.notes, plan.descriptions) == ((), {})
    third = put(source, 6)  # and back
    assert len(planned(made).notes) == 1
    made = capture_new(made)
    for repository in (made, reopened(tmp_path / "r")):
        for step, (whole, at) in enumerate(
            [(first, 0), (first, 1), (second, 2), (second, 3), (third, 4), (third, 5)]
        ):
            assert_identical(state(repository, step), whole.isel(time=slice(at, at + 1)))
        assert check(repository, read_data=True).problems == ()


def test_several_states_are_given_as_the_last_of_them_was_captured(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    put(source, 4, of("", title="final"), wet)
    made = capture_new(made)
    put(source, 5, of("", title="newest"))
    found = history(made)
    assert found.attrs["title"] == "final"
    assert found["lsm"].values[0, 0] == 0
    planes = tuple(Plane(s.instant, step=s.step) for s in made.timeline[:2])
    assert raw_dataset(made, planes, plain=True).attrs["title"] == "weather"


def test_a_prediction_has_the_attributes_of_its_last_capture(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    put(source, 3)
    made = captured(tmp_path / "r", source)
    put(source, 4, of("t", comment="v2"), of("p", scale_factor=np.float32(0.02)))
    made = add_shadow(capture_new(made))
    put(source, 5, of("t", comment="v3"))
    shadow = made.shadows[-1]
    found = raw_dataset(made, (Plane(shadow.instants[0], shadow=shadow.id, lead=1),))
    assert found["t"].attrs["comment"] == "v2"
    assert found["p"].attrs["scale_factor"] == np.float32(0.02)


def test_states_of_two_fill_values_are_each_read_by_their_own(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    whole = put(source, 4)
    put(source, 2)
    made = captured(tmp_path / "r", source)
    put(source, 4, of("wet", _FillValue=np.uint8(1)))
    made = capture_new(made)
    expected = whole["wet"].values.astype("f8")
    assert (expected == 1).any(axis=(1, 2)).all()
    expected[2:][expected[2:] == 1] = np.nan
    together = history(made)["wet"]
    assert "_FillValue" not in together.attrs
    np.testing.assert_array_equal(together.values, expected)
    for step in range(4):
        alone = state(made, step)["wet"]
        assert alone.attrs.get("_FillValue") == (None if step < 2 else 1)
        np.testing.assert_array_equal(alone.values[0], whole["wet"].values[step])


def test_a_value_that_became_a_fill_value_is_a_finding(tmp_path: Path) -> None:
    """As it was a number in a captured state, which the source still has."""
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    put(source, 4, of("wet", _FillValue=np.uint8(1)))
    assert planned(made).metadata_changed == {"wet": (0, 1)}
    made = capture_new(made)
    put(source, 5, of("wet", _FillValue=np.uint8(1)))
    assert planned(made).metadata_changed == {"wet": (0,)}


MOVED: dict[str, Change] = {
    "dimension": lambda d: d.assign_coords(y=d["y"] + 1),
    "named": lambda d: d.assign(height=d["height"] + 1),
    "latitude": lambda d: d.assign(where=d["where"] + 1),
    "bounds": lambda d: d.assign(y_bnds=d["y_bnds"] + 1),
    "packed otherwise": lambda d: d.assign(where=d["where"].assign_attrs(scale_factor=2.0)),
}


@pytest.mark.parametrize("what", MOVED)
def test_what_says_where_the_cells_are_cannot_change(what: str, tmp_path: Path) -> None:
    def placed(data: xr.Dataset) -> xr.Dataset:
        data = data.assign(
            height=((), 2.0),
            where=(("y", "x"), np.ones((6, 10)), {"standard_name": "latitude"}),
            y_bnds=(("y", "b"), np.zeros((6, 2))),
        )
        return of("y", bounds="y_bnds")(of("t", coordinates="height")(data))

    source = tmp_path / "s.zarr"
    put(source, 2, placed)
    made = captured(tmp_path / "r", source)
    put(source, 3, placed, MOVED[what])
    with pytest.raises(InvalidInput, match="--new-era"):
        plan_capture(made)


def test_times_within_the_data_in_other_units_are_refused(tmp_path: Path) -> None:
    """Bounds have the units of their time: raw values of two units are no series."""

    def bounded(data: xr.Dataset) -> xr.Dataset:
        bounds = np.stack([data["time"].values] * 2, axis=1)
        return of("time", bounds="time_bnds")(data.assign(time_bnds=(("time", "b"), bounds)))

    source = tmp_path / "s.zarr"
    put(source, 2, bounded)
    made = captured(tmp_path / "r", source)
    put(source, 3, bounded, of("time", units="hours since 1999-12-31"))
    with pytest.raises(InvalidInput, match=r"time_bnds holds times in 'hours since 1999.*new-era"):
        plan_capture(made)
    put(source, 3, bounded, of("time", units="hour since 2000-1-1 00:00"))
    assert len(capture_new(made).captured) == 3


DOUBTED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "units": (of("t", units="degC"), ("t",)),
    "range": (of("t", valid_min=0.0), ("t",)),
    "quantity": (of("t", standard_name="sea_surface_temperature"), ("t",)),
    "flags": (of("wet", flag_meanings="wet dry"), ("wet",)),
    "mapping": (of("crs", radius=6378.0), ("t",)),
    "units of a coordinate": (of("x", units="m"), ("p", "t", "wet")),
}


@pytest.mark.parametrize("what", DOUBTED)
def test_another_meaning_is_a_finding_until_it_is_accepted(what: str, tmp_path: Path) -> None:
    change, names = DOUBTED[what]
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    for steps in (3, 4):
        put(source, steps, change)
        plan = planned(made)
        assert plan.metadata_changed == dict.fromkeys(names, (0,))
        assert len(plan.notes) == (len(names) if steps == 3 else 0)
        suspect = {(n, 0, i) for n in names for i in made.settings.variable(n).grid.indices()}
        made = commit_capture(
            made, capture(made, plan, serial), suspect, report={}, committed_at=WHEN
        )
    put(source, 5, change)
    assert tuple(planned(made).metadata_changed) == names
    for name in names:
        index = (0,) * len(made.settings.variable(name).dims)
        chunk = {"variable": name, "step": 3, "chunk": list(index), "status": 0}
        body = {"chunks": [chunk], "reason": "accepted", "judged_by": "person"}
        made = made.commit(OtherBody("verdict", body), WHEN)
    for repository in (made, reopened(tmp_path / "r")):
        assert not planned(repository).metadata_changed
    put(source, 5)
    assert tuple(planned(made).metadata_changed) == names  # back again is a change too
    put(source, 5, change)
    again = {**body, "chunks": [{**chunk, "status": 1}]}
    assert (
        tuple(planned(made.commit(OtherBody("verdict", again), WHEN)).metadata_changed)
        == names[-1:]
    )


def test_units_and_ranges_that_were_accepted_are_in_force(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    put(source, 3, of("t", units="degC", valid_max=60.0, flag_values=[1]))
    made = capture_new(made)
    chunk = {"variable": "t", "step": 2, "chunk": [0, 0], "status": 0}
    body = {"chunks": [chunk], "reason": "accepted", "judged_by": "person"}
    made = made.commit(OtherBody("verdict", body), WHEN)
    variable = made.settings.variable("t")
    assert variable.attributes["units"] == "degC"
    assert variable.bounds() == (None, 60.0)
    assert not variable.categorical
    assert made.at(1).settings.variable("t").attributes["units"] == "K"
    assert state(made, 0)["t"].attrs["units"] == "K"


def test_what_a_slab_says_is_made_again_as_it_was_said(tmp_path: Path) -> None:
    """Each with the units that were in force when it was begun."""
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    put(source, 3, of("t", units="degC"))
    made = capture_new(made)
    chunk = {"variable": "t", "step": 2, "chunk": [0, 0], "status": 0}
    body = {"chunks": [chunk], "reason": "accepted", "judged_by": "person"}
    made = made.commit(OtherBody("verdict", body), WHEN)
    put(source, 4, of("t", units="degC"))
    made = capture_new(made)
    told = sorted((tmp_path / "r" / "captures").glob("*/v-t/zarr.json"))
    before = [path.read_bytes() for path in told]
    assert [json.loads(data)["attributes"]["units"] for data in before] == ["K", "K", "degC"]
    for path in told:
        path.unlink()
    repair(reopened(tmp_path / "r"), committed_at=WHEN)
    assert [path.read_bytes() for path in told] == before


def test_an_era_may_begin_where_the_meaning_has_changed(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    put(source, 3, of("t", comment="x"), wet)
    with pytest.raises(InvalidInput, match="no new era is needed"):
        begin_era(made, WHEN)
    put(source, 3, of("t", units="degC"))
    made = capture_new(begin_era(made, WHEN))
    assert made.settings.variable("t").attributes["units"] == "degC"
    assert [s.description for s in made.captured] == [0, 0, 0]


def test_variables_that_are_new_are_told_once(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    new: Change = lambda d: d.assign(u=d["t"] * 2)  # noqa: E731
    put(source, 3, new)
    (note,) = planned(made).notes
    assert "'u'" in note
    assert "gnomon add" in note
    made = capture_new(made)
    assert made.state.description().unprotected == {"u": "new in the source"}
    put(source, 4, new)
    assert planned(made).notes == ()
    put(source, 4)
    made = capture_new(made)
    assert not made.state.description().unprotected


def test_variables_that_the_user_left_out_are_not_told(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = make_repository(tmp_path / "r", source, names=("t",))
    assert planned(made).notes == ()
    made = capture_new(made)
    assert made.state.description().unprotected == {"p": "not named", "wet": "not named"}
    put(source, 3, lambda d: d.assign(u=d["t"] * 2))
    (note,) = planned(made).notes
    assert "'u'" in note


def test_a_source_that_changes_between_plan_and_capture_is_planned_again(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    for steps, changes in ((3, (of("t", comment="x"),)), (4, (wet,)), (5, ())):
        before = put(source, steps, *changes)
        plan = planned(made)
        assert before.sizes["time"] == steps
        put(source, steps, of("t", comment="y"))
        with pytest.raises(Moved, match="while it was read"):
            capture(made, plan, serial)
    made = capture_new(made)
    assert state(made, 4)["t"].attrs["comment"] == "y"


# What is stored of it ------------------------------------------------------------------------


def kept(tmp_path: Path) -> tuple[Path, Repository]:
    """Capture a mask that changes twice and comes back."""
    source = tmp_path / "s.zarr"
    made = None
    for steps, changes in ((2, ()), (3, (wet,)), (4, (longer,)), (5, (wet,))):
        put(source, steps, *changes)
        made = captured(tmp_path / "r", source) if made is None else capture_new(made)
    assert made is not None
    return source, made


def files(tmp_path: Path) -> set[str]:
    folder = tmp_path / "r"
    return {str(p.relative_to(folder)) for p in (folder / "frame").rglob("*") if p.is_file()}


def test_what_does_not_change_is_not_stored_again(tmp_path: Path) -> None:
    _, made = kept(tmp_path)
    first = {str(e["file"]) for e in made.settings.frame_entries.values()}
    # The mask of 3 and that of 5, which is not the one of 4; the notes of 4.
    assert len(files(tmp_path) - first) == 3
    record = made.records[-1]
    assert record.body["description"].keys() == {"fixed"}
    assert record.body["description"]["fixed"].keys() == {"lsm", "notes"}
    assert made.state.frames == files(tmp_path) - first


def test_a_prune_keeps_what_kept_captures_were_made_with(tmp_path: Path) -> None:
    source, made = kept(tmp_path)
    whole = undecoded(source)
    before = [state(made, k) for k in range(5)]
    made, _ = forget(made, captures=[2], committed_at=WHEN)
    made, done = prune(made, committed_at=WHEN)
    assert done.objects
    assert len(made.state.frames) == 2
    for step in (0, 1, 3, 4):
        assert_identical(state(made, step), before[step])
    assert check(made, read_data=True).problems == ()
    put(source, 6, wet)  # what the next capture builds on is there still
    made = capture_new(made)
    assert_identical(state(made, 5), undecoded(source).isel(time=slice(5, 6)))
    made, _ = forget(made, captures=[0, 1, 3, 4], committed_at=WHEN)
    made, _ = prune(made, committed_at=WHEN)
    made = reopened(tmp_path / "r")
    assert len(made.state.frames) == 1
    assert_identical(state(made, 5), undecoded(source).isel(time=slice(5, 6)))
    assert check(made, read_data=True).problems == ()
    assert whole.sizes["time"] == 5


def test_damage_is_found_told_and_mended_from_the_source(tmp_path: Path) -> None:
    _, made = kept(tmp_path)
    name = str(made.state.description().fixed["lsm"]["file"])
    file = tmp_path / "r" / name
    data = file.read_bytes()
    for harm in (None, b"", bytes(len(data))):
        if harm is None:
            file.unlink()
        else:
            file.write_bytes(harm)
        made = reopened(tmp_path / "r")
        with pytest.raises(Integrity, match=name):
            state(made, 4)
        assert state(made, 1)["lsm"].values.all()
        assert name in {p.file for p in check(made, read_data=True).problems}
        assert name in repair(made, committed_at=WHEN).mended
        assert file.read_bytes() == data
    assert check(reopened(tmp_path / "r"), read_data=True).problems == ()


def test_the_manifest_of_a_changed_fixed_variable_is_made_again(tmp_path: Path) -> None:
    _, made = kept(tmp_path)
    folder = made.records[-1].body["id"]
    for place in ("manifests", "copies/manifests"):
        (tmp_path / "r" / place / f"{folder}.json.gz").write_bytes(b"")
    made = reopened(tmp_path / "r")
    assert len(repair(made, committed_at=WHEN).mended) == 2
    assert check(reopened(tmp_path / "r"), read_data=True).problems == ()


def test_a_record_that_describes_nonsense_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    put(source, 3, of("t", comment="x"))
    plan = planned(made)
    found = capture(made, plan, serial)
    change = description.Change(variables={"no such": description.Edit()})
    broken = replace(found, plan=replace(plan, descriptions={0: change}))
    with pytest.raises(InvalidInput, match="nothing was committed"):
        commit_capture(made, broken, set(), report={}, committed_at=WHEN)


# What differs --------------------------------------------------------------------------------


def test_the_difference_of_two_captures_tells_attributes_and_fixed_variables(
    tmp_path: Path,
) -> None:
    source = tmp_path / "s.zarr"
    put(source, 2)
    made = captured(tmp_path / "r", source)
    put(source, 3, of("t", comment="x"), of("", title=None, version=3.0), of("time", n=1), wet)
    made = capture_new(made)
    found = {d.variable: d for d in compare(made, 0, 2)}
    assert found["t"].attributes == {"comment": (None, "x")}
    assert found["p"].attributes == {}
    assert found[""].attributes == {"title": ("weather", None), "version": ("3", "3.0")}
    assert found["time"].attributes == {"n": (None, "1")}
    mask = found["lsm"]
    assert (mask.changed_cells, mask.cells, mask.mean) == (1, 60, -1.0)
    assert mask.where == {"y": (0, 0), "x": (0, 0)}
    assert {d.variable for d in compare(made, 0, 1)} == {"t", "p", "wet"}
