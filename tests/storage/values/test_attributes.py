import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.attributes import (
    attributes_from_json,
    attributes_to_json,
    plain_attributes,
)
from tests.storage.building import same_attributes
from tests.storage.strategies import dtype_and_values

numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
arrays = st.one_of(dtype_and_values(), dtype_and_values().map(lambda a: a.ravel()[0]))
nested = st.recursive(
    st.one_of(numbers, arrays),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), nested, max_size=4))
def test_attributes_come_back_with_type_and_bits(attributes: Any) -> None:
    stored = json.dumps(attributes_to_json(attributes), allow_nan=False)
    assert same(attributes_from_json(json.loads(stored)), attributes)


def same(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return isinstance(a, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in b)
    if isinstance(b, list):
        return isinstance(a, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, np.ndarray | np.generic):
        alike = type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape
        return alike and a.tobytes() == b.tobytes()
    if isinstance(b, float) and np.isnan(b):
        return isinstance(a, float) and bool(np.isnan(a))
    return type(a) is type(b) and repr(a) == repr(b)


@given(st.dictionaries(st.text(), nested, max_size=4))
def test_plain_attributes_are_json(attributes: Any) -> None:
    plain = plain_attributes(attributes)
    assert json.loads(json.dumps(plain)).keys() == attributes.keys()


def test_a_tuple_becomes_a_list_and_big_endian_little() -> None:
    found = attributes_from_json(attributes_to_json({"a": (1, 2), "b": np.array([1, 2], ">i2")}))
    assert found["a"] == [1, 2]
    assert found["b"].dtype == np.dtype("<i2")
    assert found["b"].tolist() == [1, 2]
    assert same_attributes({"t": np.str_("x").item()}, {"t": "x"})


def test_what_has_no_json_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="'odd'"):
        attributes_to_json({"odd": object()})
    with pytest.raises(InvalidInput, match="'odd'"):
        attributes_to_json({"odd": [{"deep": {1, 2}}]})
