from typing import Any

import numpy as np
import pytest

from gnomon.storage.errors import InvalidInput
from gnomon.validations.table import (
    ACTUAL,
    PREDICTION,
    actual_frame,
    checked,
    prediction_frame,
    row_labels,
)
from tests.validations.tables import sound_actual, sound_prediction


def _columns() -> dict[str, Any]:
    frame = sound_actual(2)
    return {name: frame[name].to_numpy() for name in frame.columns}


def test_frames_have_the_columns_and_dtypes_of_their_schema() -> None:
    for frame, schema in ((sound_actual(), ACTUAL), (sound_prediction(), PREDICTION)):
        assert list(frame.columns) == [column.name for column in schema]
        assert [str(dtype) for dtype in frame.dtypes] == [column.dtype for column in schema]


def test_empty_tables_keep_their_dtypes() -> None:
    frame = prediction_frame({column.name: [] for column in PREDICTION})
    assert [str(dtype) for dtype in frame.dtypes] == [column.dtype for column in PREDICTION]


def test_order_of_columns_and_integers_for_floats_do_not_matter() -> None:
    columns = dict(reversed(_columns().items())) | {"mean": np.array([15, 15])}
    assert actual_frame(columns).equals(sound_actual(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "no column mean"),
        ({"entropy": [1.0, 2.0]}, "unknown column entropy"),
        ({"mean": [1.0, 2.0, 3.0]}, "one length"),
        ({"mean": [[1.0, 2.0]]}, "2 dimensions"),
        ({"constant": [0, 1]}, "expected bool"),
        ({"cells": [1.5, 2.0]}, "expected int64"),
        ({"variable": [1, 2]}, "expected str"),
        ({"variable": np.array(["a", None], dtype=object)}, "not text"),
        ({"chunk": ["0/0", "0/0"]}, r"two rows of the table are t2m\[0/0\]"),
        ({"chunk": ["0/0", "(0, 1)"]}, "no place in a chunk grid"),
    ],
)
def test_a_wrong_table_is_refused(change: dict[str, Any], message: str) -> None:
    columns = {key: value for key, value in (_columns() | change).items() if value is not None}
    with pytest.raises(InvalidInput, match=message):
        actual_frame(columns)


def test_checked_takes_any_order_and_index() -> None:
    frame = sound_actual(3)
    shuffled = frame[list(reversed(frame.columns))].set_axis([7, 7, 7], axis=0)
    assert checked(shuffled, ACTUAL).equals(frame)


def test_labels_name_place_and_time() -> None:
    assert row_labels(sound_actual())[4] == "t2m[1/1] 2026-01-01T00:00:00"
    assert row_labels(sound_prediction())[4] == "t2m[1] 2026-01-01T02:00:00 lead 2"
