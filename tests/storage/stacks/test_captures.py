import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnomon.storage.arrays.encoding import (
    BASE,
    CODING,
    MAX_CHAIN,
    UNCHANGED,
    USUAL_CHAIN,
    Held,
    encode_unit,
)
from gnomon.storage.arrays.residuals import digest
from gnomon.storage.errors import Integrity, NotFound
from gnomon.storage.log.location import Location
from gnomon.storage.stacks.captures import CaptureStack
from gnomon.storage.values.model import SUSPECT, TRUSTED, Variable
from tests.storage.building import files_of, store_stack
from tests.storage.strategies import DTYPES, dtypes, grids, special_values, values

fresh = itertools.count()
slow_to_draw = settings(max_examples=25, suppress_health_check=list(HealthCheck))


def variable_of(dtype: Any, grid: Any) -> Variable:
    dims = tuple(f"d{k}" for k in range(len(grid.shape)))
    return Variable(
        "v", dims, grid.shape, np.dtype(dtype).str, grid.chunks, grid.chunks, grid.shards
    )


def whole(stack: Any, step: Any) -> np.ndarray:
    grid = stack.variable.grid
    out = np.empty(grid.shape, stack.variable.numpy_dtype)
    for index in grid.indices():
        out[grid.cells(index)] = stack.chunk(step, index)
    return out


@slow_to_draw
@given(st.data(), dtypes, grids())
def test_states_come_back_bit_for_bit(data: Any, dtype: Any, grid: Any) -> None:
    kept = data.draw(values(dtype, grid.shape))
    states = [kept, data.draw(values(dtype, grid.shape)), kept, kept]
    location = Location(f"memory://captures-{next(fresh)}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        stack = store_stack(location, variable_of(dtype, grid), states, per_slab=3)
        for step in data.draw(st.permutations(range(4))):
            assert whole(stack, step).tobytes() == states[step].tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_values_survive_every_coding(dtype: Any, tmp_path: Any) -> None:
    """Key, delta on a close state, unchanged, and a chain that is broken by a new key."""
    grid = grids_line(400)
    special = special_values(dtype)
    smooth = (np.arange(400) % 90).astype(residual_like(dtype)).view(dtype)
    states = []
    for k in range(5):
        state = smooth.copy()
        state[k : k + special.size] = special
        states += [state, state]
    stack = store_stack(Location(str(tmp_path)), variable_of(dtype, grid), states, per_slab=4)
    for step, state in enumerate(states):
        assert whole(stack, step).tobytes() == state.tobytes()
    codings = {int(stack.rows(k)[0][1]) for k in range(10)}
    assert UNCHANGED in codings
    assert 0 in codings


def grids_line(n: int) -> Any:
    from gnomon.storage.values.grid import ChunkGrid

    return ChunkGrid((n,), (n,), (n,))


def residual_like(dtype: Any) -> Any:
    return np.dtype("u1") if dtype.kind == "b" else np.dtype(f"<u{dtype.itemsize}")


def test_a_chain_is_bounded_and_exact(tmp_path: Any) -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=2000).cumsum()
    few = rng.random((MAX_CHAIN + 5, 2000)) < 0.05  # cells change: chains stay long
    states = [base + np.cumsum(few, axis=0)[k] * 1e-3 for k in range(len(few))]
    grid = grids_line(2000)
    stack = store_stack(Location(str(tmp_path)), variable_of("<f8", grid), states, per_slab=3)
    codings = [int(stack.rows(k)[0][1]) for k in range(len(states))]
    assert codings == [*range(MAX_CHAIN + 1), 0, 1, 2, 3]
    assert whole(stack, len(states) - 1).tobytes() == states[-1].tobytes()
    fresh = store_stack(Location("memory://chain"), variable_of("<f8", grid), states)
    assert whole(fresh, MAX_CHAIN).tobytes() == states[MAX_CHAIN].tobytes()


def test_a_long_chain_must_save_more_than_a_short_one(tmp_path: Any) -> None:
    """Deltas of three quarters of a key: a chain of a few, then a key, however often it changes."""
    rng = np.random.default_rng(1)
    states = [np.zeros(4000, "<i8")]
    states[0][:] = rng.integers(0, 2**24, 4000)
    for _ in range(2 * USUAL_CHAIN + 3):
        states.append(states[-1] + rng.integers(0, 2**18, 4000))
    grid = grids_line(4000)
    stack = store_stack(Location(str(tmp_path)), variable_of("<i8", grid), states, per_slab=3)
    codings = [int(stack.rows(k)[0][1]) for k in range(len(states))]
    assert codings[: USUAL_CHAIN + 3] == [*range(USUAL_CHAIN + 1), 0, 1]
    assert max(codings) == USUAL_CHAIN
    for k, state in enumerate(states):
        assert whole(stack, k).tobytes() == state.tobytes()


def test_a_base_that_continues_in_the_next_commit_is_found(tmp_path: Any) -> None:
    grid = grids_line(600)
    states = [np.arange(600.0) + k for k in (0, 0, 1, 1, 2)]
    stack = store_stack(Location(str(tmp_path)), variable_of("<f8", grid), states, per_slab=2)
    held = stack.held(4, (0,))
    assert held.values().tobytes() == states[4].tobytes()
    assert held.holder == 4
    again = encode_unit("v", 5, [((0,), states[4], held)])[0]
    assert again.residual is None
    assert again.row[0] == held.holder


def refuse() -> Any:
    raise Integrity("capture 3 refers to capture 9, which is not before it")


def test_an_unchanged_chunk_asks_nothing_of_what_holds_it() -> None:
    values = np.arange(600.0)
    known = np.frombuffer(digest("v", (0,), values), "<i8")
    (again,) = encode_unit("v", 4, [((0,), values, Held(refuse, known, 3, refuse))])
    assert again.is_unchanged
    assert again.row[BASE] == 3


def test_a_chunk_whose_base_has_no_end_is_stored_without_it() -> None:
    values = np.arange(600.0)
    base = Held(lambda: values, np.zeros(2, np.int64), 3, refuse)
    (key,) = encode_unit("v", 4, [((0,), values + 1.0, base)])
    assert key.row[[BASE, CODING]].tolist() == [4, 0]
    assert key.residual is not None


def test_unchanged_chunks_cost_no_data(tmp_path: Any) -> None:
    from gnomon.storage.values.grid import ChunkGrid

    grid = ChunkGrid((40, 40), (20, 20), (40, 40))
    rng = np.random.default_rng(2)
    first = rng.normal(size=grid.shape).astype("<f4")
    second = first.copy()
    second[:20, :20] += 1
    for name, states in {"a": [first, first, first], "b": [first, second]}.items():
        store_stack(Location(str(tmp_path / name)), variable_of("<f4", grid), states)
    data = [p for p in files_of(tmp_path / "a") if "residual/c" in str(p)]
    assert [p.parts[-3] for p in data] == ["0"], "steps 1 and 2 must have no object"
    sizes = {
        p.parts[-3]: p.stat().st_size for p in files_of(tmp_path / "b") if "residual/c" in str(p)
    }
    assert sizes["1"] < 0.45 * sizes["0"], "one chunk of four changed"


def test_a_shard_is_one_object(tmp_path: Any) -> None:
    from gnomon.storage.values.grid import ChunkGrid

    grid = ChunkGrid((40, 30), (10, 10), (20, 30))
    state = np.random.default_rng(3).normal(size=grid.shape)
    stack = store_stack(Location(str(tmp_path)), variable_of("<f8", grid), [state])
    data = [p.relative_to(tmp_path) for p in files_of(tmp_path) if "residual/c" in str(p)]
    assert len(data) == 2
    named = {stack.file(0, index) for index in grid.indices()}
    assert named == {str(p) for p in data}


def test_verdicts_override_what_the_capture_said(tmp_path: Any) -> None:
    grid = grids_line(10)
    states = [np.arange(10.0), np.arange(10.0) + 1]
    stack = store_stack(Location(str(tmp_path)), variable_of("<f8", grid), states)
    stack.verdicts = {(1, (0,)): SUSPECT}
    assert stack.status(0).tolist() == [TRUSTED]
    assert stack.status(1).tolist() == [SUSPECT]


def test_steps_that_were_never_captured_are_not_found(tmp_path: Any) -> None:
    stack = store_stack(Location(str(tmp_path)), variable_of("<f8", grids_line(4)), [np.zeros(4)])
    for step in (-1, 1):
        with pytest.raises(NotFound):
            stack.chunk(step, (0,))


def test_threads_may_share_a_stack(tmp_path: Any, monkeypatch: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from gnomon.storage.stacks import captures
    from gnomon.storage.values.grid import ChunkGrid

    monkeypatch.setattr(captures, "CACHE_BYTES", 300)
    grid = ChunkGrid((64,), (8,), (64,))
    rng = np.random.default_rng(4)
    states = [rng.integers(0, 9, 64).astype("<i4") for _ in range(6)]
    stack = store_stack(Location(str(tmp_path)), variable_of("<i4", grid), states)
    jobs = [(k, i) for k in range(6) for i in grid.indices()] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: stack.chunk(*job), jobs))
    for (step, index), chunk in zip(jobs, found, strict=True):
        assert chunk.tobytes() == states[step][grid.cells(index)].tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_chunks_of_a_unit_are_decoded_together(dtype: Any, monkeypatch: Any) -> None:
    """Those that changed, those that did not, edges: the same bits, and no further reading."""
    sizes = (80, 90), np.dtype(dtype).str, (16, 24), (32, 48), (64, 96)
    units = Variable("v", ("y", "x"), *sizes)
    rng = np.random.default_rng(0)
    bits = residual_like(dtype)
    most = 2 if dtype.kind == "b" else 2 ** (8 * dtype.itemsize - 2)
    states = [rng.integers(0, most, (80, 90), np.uint64).astype(bits).view(dtype)]
    for k in range(4):
        state = states[-1].copy()
        state[20 * k : 20 * k + 9, :70] = state[0, 0]
        states.append(state)
    stored = store_stack(Location(f"memory://captures-{next(fresh)}"), units, states, per_slab=2)
    indices = list(units.grid.indices())
    codings = {int(coding) for k in range(5) for coding in stored.rows(k)[..., 1].flat}
    assert codings > {UNCHANGED, 0}
    kept = again(stored)
    for step, state in enumerate(states):
        for stack in (again(stored), kept):  # from nothing, and on top of the state before
            stack.load(step, indices)
            with monkeypatch.context() as patched:
                patched.setattr(CaptureStack, "_decode", None)
                assert whole(stack, step).tobytes() == state.tobytes()


def test_what_is_damaged_is_not_decoded_together(tmp_path: Any) -> None:
    """The chunks beside it are as they were, and it is told of when it is asked for."""
    units = Variable("v", ("x",), (32,), "<i4", (4,), (8,), (16,))
    states = [np.arange(32, dtype="<i4") ** k for k in range(2)]
    stored = store_stack(Location(str(tmp_path)), units, states)
    (tmp_path / stored.file(1, (4,))).write_bytes(b"something else")
    stack = again(stored)
    stack.load(1, list(units.grid.indices()))
    for index in units.grid.indices():
        if index >= (4,):  # of the same shard
            with pytest.raises(Integrity, match="repair"):
                stack.chunk(1, index)
        else:
            assert stack.chunk(1, index).tobytes() == states[1][units.grid.cells(index)].tobytes()


def again(stack: CaptureStack) -> CaptureStack:
    """The same, opened anew."""
    return CaptureStack(stack.location, stack.variable, stack.steps, stack.slabs, stack.readings)
