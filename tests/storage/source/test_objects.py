"""What the objects of a Zarr source tell without being read, and what if they tell nothing."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import zarr
from obstore.exceptions import GenericError

from gnomon.storage.source.objects import Objects, objects_of
from gnomon.storage.values.model import SourceSpec, Variable


def opened(path: Path, axis: int = 0) -> Objects:
    variable = Variable("t", ("y",), (6,), "<f4", (6,), (6,), (6,), time_axis=axis)
    found = objects_of(SourceSpec(str(path), "append", "time"), variable)
    assert found is not None
    return found


FORMS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2, "chunks": (2, 3)},
    "v2 nested": {"zarr_format": 2, "chunks": (2, 3), "chunk_key_encoding": "/"},
    "v3": {"zarr_format": 3, "chunks": (2, 3)},
    "v3 sharded": {"zarr_format": 3, "chunks": (1, 3), "shards": (2, 6)},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_that_were_written_are_known(tmp_path: Path, form: str, axis: int) -> None:
    options = dict(FORMS[form])
    if options.pop("chunk_key_encoding", None):
        options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    shape = (12, 6)
    for key in ("chunks", "shards"):
        if key in options and axis == 1:
            options[key] = options[key][::-1]
    group = zarr.open_group(
        str(tmp_path / "s.zarr"), mode="w", zarr_format=options.pop("zarr_format")
    )
    array = group.create_array(
        "t", shape=shape[:: 1 if axis == 0 else -1], dtype="f4", fill_value=np.nan, **options
    )
    assert opened(tmp_path / "s.zarr", axis).rows() == set()
    for row in (3, 9):
        where = (slice(row, row + 1), slice(None))
        array[where if axis == 0 else where[::-1]] = 1.0
    found = opened(tmp_path / "s.zarr", axis)
    assert found.steps == 2
    assert found.rows() == {1, 4}
    before = found.written({1, 4, 5})
    assert before.keys() == {1, 4}
    file = next(
        p
        for p in sorted((tmp_path / "s.zarr" / "t").rglob("*"))
        if p.is_file() and "z" not in p.name
    )
    os.utime(file, (2e9, 2e9))
    assert 2e9 in found.written({1, 4}).values()


def test_what_is_no_zarr_tells_nothing(tmp_path: Path) -> None:
    variable = Variable("t", ("y",), (6,), "<f4", (6,), (6,), (6,))
    for url in (tmp_path / "nowhere", tmp_path):
        assert objects_of(SourceSpec(str(url), "append", "time"), variable) is None


def laid_out(path: Path, **options: Any) -> Objects:
    """Return the objects of an array of which nothing was written yet."""
    zarr.create_array(f"{path}/t", shape=(6, 4), chunks=(2, 4), dtype="f4", **options)
    variable = Variable("t", ("x",), (4,), "<f4", (4,), (4,), (4,))
    objects = objects_of(SourceSpec(str(path), "append", "time"), variable)
    assert objects is not None
    return objects


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_without_any_object_has_no_rows(zarr_format: Any, tmp_path: Path) -> None:
    objects = laid_out(tmp_path, zarr_format=zarr_format)
    assert objects.rows() == set()
    assert objects.written({0, 1, 2}) == {}
    zarr.open_array(f"{tmp_path}/t")[2:4] = 1
    assert objects.rows() == {1}
    assert objects.written({0, 1, 2}).keys() == {1}


def test_a_store_that_does_not_answer_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Iterator[Any]:
        raise GenericError("the connection was reset")

    objects = replace(laid_out(tmp_path), place="memory:///t")
    monkeypatch.setattr(obstore, "list", fails)
    monkeypatch.setattr(obstore, "list_with_delimiter", fails)
    assert objects.rows() is None
    assert objects.written({0, 1, 2}) == {}
