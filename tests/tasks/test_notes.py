"""Damage never changes an answer in silence: it is the same, refused, or says what it lacks."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import gnomon
from gnomon.cli import app
from gnomon.repository import GnomonRepository
from gnomon.storage.errors import Integrity
from gnomon.storage.repository import _OPENED
from gnomon.storage.values.attributes import NOTE
from tests.cases import HISTORY, Case

DAMAGED_DAY, NEXT_DAY = "2001-01-25", "2001-01-26"


def opened(case: Case) -> GnomonRepository:
    """Open as a new process would."""
    _OPENED.clear()
    return gnomon.open(str(case.place))


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def answers(case: Case) -> dict[str, Any]:
    """Return all that is said of two days, notes apart, and what their datasets hold."""
    repository = opened(case)
    found: dict[str, Any] = {}
    for at in (DAMAGED_DAY, NEXT_DAY):
        for point in repository.points(at):
            told = repository.explain(at, kind=point.kind)
            dataset = repository.dataset(at, kind=point.kind, accept_predicted=True, decode=False)
            values = {n: np.asarray(v.values).tobytes() for n, v in dataset.variables.items()}
            found[f"{at} {point.kind}"] = replace(told, notes=()), values
    return found


def learnt(case: Case) -> Iterator[Path]:
    record = opened(case).stored.forecaster
    assert record is not None
    for commit in sorted(record.states):
        folder = case.place / "forecaster" / commit
        yield from sorted(p for p in folder.rglob("*") if p.is_file())


def test_damage_to_what_was_learnt_changes_no_answer(damaged: Case) -> None:
    before = answers(damaged)
    assert {"2001-01-25 healed", "2001-01-26 forecast", "2001-01-26 last_capture"} <= before.keys()
    for number, path in enumerate(learnt(damaged)):
        data = path.read_bytes()
        (spoil if number % 2 else Path.unlink)(path)
        assert answers(damaged) == before, path
        path.write_bytes(data)


@pytest.mark.parametrize("part", ["outlook/zarr.json", "outlook/c/0/0", "index/zarr.json"])
def test_answers_say_that_what_was_learnt_cannot_be_read(damaged: Case, part: str) -> None:
    run = CliRunner()
    place = str(damaged.place)
    clean = opened(damaged)
    assert clean.status()["notes"] == []
    assert all(point.notes == () for point in clean.points(NEXT_DAY))
    *_, path = (p for p in learnt(damaged) if p.as_posix().endswith(f"v-sst/{part}"))
    path.unlink()
    repository = opened(damaged)
    for at, exact in ((DAMAGED_DAY, {"suspect"}), (NEXT_DAY, set[str]())):
        for point in repository.points(at):
            assert bool(point.notes) == (point.kind not in exact), point
            for note in point.notes:
                assert "sst" in note
                assert "the next update learns it anew" in note
                assert f"v-sst/{part.partition('/')[0]}" in note
    (note,) = repository.status()["notes"]
    assert "sst" in note
    said = json.loads(run.invoke(app, ["points", place, "--at", NEXT_DAY, "--json"]).stdout)
    assert [point["notes"] for point in said] == [[note], [note]]
    assert json.loads(run.invoke(app, ["status", place, "--json"]).stdout)["notes"] == [note]
    for command in (["points", place, "--at", NEXT_DAY], ["status", place]):
        assert f"note: {note}" in run.invoke(app, command).stdout
    target = ["--to", str(damaged.folder / "x.zarr"), "--accept-predicted", "--json"]
    restored = run.invoke(app, ["restore", place, "--at", NEXT_DAY, *target])
    assert json.loads(restored.stdout)["point"]["notes"] == [note]


def test_a_refit_mends_it_and_the_note_goes(damaged: Case) -> None:
    *_, outlook = (p for p in learnt(damaged) if "outlook/c/" in p.as_posix())
    outlook.unlink()
    damaged.arrive(HISTORY + 1, HISTORY + 2)
    assert opened(damaged).status()["notes"]
    opened(damaged).update()
    assert opened(damaged).status()["notes"] == []


def test_a_healed_state_says_which_captures_it_had_to_do_without(damaged: Case) -> None:
    """Its history is read from captures; one that is damaged is passed over, not in silence."""
    before = answers(damaged)
    repository = opened(damaged)
    captures = repository.stored.captures("sst")
    lost = damaged.place / captures.file(HISTORY - 3, (0, 0))
    data = lost.read_bytes()
    spoil(lost)
    # What the update has kept needs no history; without it, it is read.
    aside = (damaged.place / "patches").rename(damaged.folder / "aside")
    repository = opened(damaged)
    point = repository.explain(DAMAGED_DAY, kind="healed")
    dataset = repository.dataset(DAMAGED_DAY, kind="healed", accept_predicted=True)
    assert point.notes
    assert any(f"capture {HISTORY - 3}" in note for note in point.notes)
    assert dataset.attrs[f"{NOTE}notes"] == "; ".join(point.notes)
    with xr.open_dataset(
        damaged.place, engine="gnomon", at=DAMAGED_DAY, kind="healed", accept_predicted=True
    ) as served:
        assert served.attrs[f"{NOTE}notes"] == dataset.attrs[f"{NOTE}notes"]
    target = damaged.folder / "healed.zarr"
    repository.restore(DAMAGED_DAY, str(target), kind="healed", accept_predicted=True)
    with xr.open_dataset(target, engine="zarr", consolidated=False) as written:
        assert written.attrs[f"{NOTE}notes"] == dataset.attrs[f"{NOTE}notes"]
    lost.write_bytes(data)
    aside.rename(damaged.place / "patches")
    assert answers(damaged) == before
    assert f"{NOTE}notes" not in opened(damaged).dataset(DAMAGED_DAY, accept_predicted=True).attrs


def test_no_stored_file_changes_an_answer_in_silence(damaged: Case) -> None:
    """One file of every kind in the newest commits; what was learnt has a test of its own."""
    before = answers(damaged)
    newest = {str(r.body["id"]) for r in opened(damaged).stored.records[-3:] if "id" in r.body}
    kinds: dict[str, Path] = {}
    for path in sorted(p for p in damaged.place.rglob("*") if p.is_file()):
        if newest & set(path.parts) and "forecaster" not in path.parts:
            place = path.relative_to(damaged.place).as_posix()
            kinds[re.sub(r"[0-9a-f]{12}|\d+|v-time_bnds", "*", place)] = path
    assert len(kinds) >= 10
    for path in kinds.values():
        data = path.read_bytes()
        spoil(path)
        try:
            assert answers(damaged) == before, path
        except Integrity:
            pass
        finally:
            path.write_bytes(data)
