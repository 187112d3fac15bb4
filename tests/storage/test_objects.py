"""What the objects of a Zarr source tell, and what happens where they tell nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import pytest
import zarr
from obstore.exceptions import GenericError

from gnomon.storage.model import SourceSpec, Variable
from gnomon.storage.objects import Objects, objects_of


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
    assert objects.rows() is None
    assert objects.written({0, 1, 2}) == {}
