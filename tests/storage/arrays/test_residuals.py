import subprocess
import sys
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.storage.arrays import residuals
from gnomon.storage.arrays.residuals import (
    added,
    digest,
    digests,
    ordered,
    planar,
    residual_dtype,
    restored,
    straightened,
    subtracted,
)
from gnomon.storage.values.dtypes import is_supported
from tests.storage.strategies import DTYPES, dtype_and_values, dtypes, special_values, values


@given(dtype_and_values())
def test_ordered_is_undone_bit_for_bit(array: Any) -> None:
    found = restored(ordered(array), array.dtype)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


@given(st.data(), dtypes)
def test_a_difference_is_undone_bit_for_bit(data: Any, dtype: Any) -> None:
    shape = data.draw(st.sampled_from([(), (1,), (5,), (2, 3)]))
    one, other = data.draw(values(dtype, shape)), data.draw(values(dtype, shape))
    delta = subtracted(ordered(one), ordered(other))
    assert delta.dtype == residual_dtype(dtype)
    assert restored(added(delta, ordered(other)), dtype).tobytes() == one.tobytes()


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_ordered_keeps_the_order_of_floats(dtype: Any) -> None:
    everything = np.concatenate([special_values(np.dtype(dtype)), np.linspace(-9, 9, 99)])
    numbers = np.sort(everything.astype(dtype)[~np.isnan(everything.astype(dtype))])
    mapped = ordered(numbers)
    rising = numbers[:-1] < numbers[1:]
    assert (mapped[:-1] < mapped[1:])[rising].all()
    zeros = ordered(np.array([-0.0, 0.0], dtype))
    assert zeros[0] < zeros[1]


def test_ordered_is_one_to_one() -> None:
    every = np.arange(2**16, dtype=np.uint16).view("<f2")
    assert np.unique(ordered(every)).size == 2**16


@given(st.data(), dtypes, st.integers(1, 4))
def test_digests_of_many_are_those_of_each(data: Any, dtype: Any, count: int) -> None:
    chunks = data.draw(values(dtype, (count, 2, 3)))
    indices = [(0, k) for k in range(count)]
    each = [digest("v", index, chunk) for index, chunk in zip(indices, chunks, strict=True)]
    assert digests("v", indices, chunks).tobytes() == b"".join(each)


@given(dtype_and_values())
def test_a_digest_sees_every_bit(array: Any) -> None:
    before = digest("v", (0, 1), array)
    raw = bytearray(array.tobytes())
    raw[len(raw) // 2] ^= 1
    changed = np.frombuffer(bytes(raw), np.uint8).view(array.dtype).reshape(array.shape)
    assert digest("v", (0, 1), changed) != before


def test_a_digest_belongs_to_an_address() -> None:
    array = np.arange(6.0)
    found = {
        digest("v", (0,), array),
        digest("w", (0,), array),
        digest("v", (1,), array),
        digest("v", (0,), array.reshape(2, 3)),
        digest("v", (0,), array.view("<i8")),
    }
    assert len(found) == 5


def test_what_is_supported() -> None:
    assert all(map(is_supported, DTYPES))
    assert all(is_supported(np.dtype(t)) for t in ("O", "U3", "S2", "c8", "c16", "V4"))
    assert not any(is_supported(np.dtype(t)) for t in ([("a", "i4")], "V0", "S0", "U0"))


@given(dtype_and_values())
def test_bent_fields_are_straightened_bit_for_bit(array: Any) -> None:
    integers = ordered(array)
    if integers.ndim < 2:
        return
    with np.errstate(over="ignore"):
        bent = planar(integers)
        found = straightened(bent)
        assert straightened(added(bent, bent)).tobytes() == added(integers, integers).tobytes()
    assert found.dtype == integers.dtype
    assert found.tobytes() == integers.tobytes()


@pytest.mark.parametrize("dtype", ["i2", "i4", "i8"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (3, 5, 4), (2, 0)])
def test_compiled_loops_straighten_as_array_code_does(
    dtype: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    bent = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    for name in ("LOADED_BYTES", "UNLOADED_BYTES"):
        monkeypatch.setattr(residuals, name, inf)
    expected = straightened(bent)
    for name in ("LOADED_BYTES", "UNLOADED_BYTES"):
        monkeypatch.setattr(residuals, name, 0)
    found = straightened(bent)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def test_little_is_straightened_without_loading_what_compiles() -> None:
    program = (
        "import sys, numpy as np\n"
        "from gnomon.storage.arrays import residuals\n"
        "residuals.straightened(np.ones((512, 512), np.int32))\n"
        "print('numba' in sys.modules)\n"
        "residuals.UNLOADED_BYTES = 0\n"
        "residuals.straightened(np.ones((512, 512), np.int32))\n"
        "print('numba' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("dtype", ["c8", "c16", "U3", "S5", "V6", "f8"])
def test_values_of_several_numbers_come_back(dtype: str) -> None:
    raw = np.random.default_rng(3).integers(0, 256, (4, 3, np.dtype(dtype).itemsize), np.uint8)
    if dtype == "U3":
        raw[..., 2:] = 0
    array = raw.view(dtype)[..., 0]
    found = restored(ordered(array), array.dtype)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
