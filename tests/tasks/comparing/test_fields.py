"""What is drawn of states: the right cells, thinned to the pixel that stands out."""

import itertools

import numpy as np
import pytest
import xarray as xr

from gnomon.flows.cluster import thread_mapper
from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.model import Variable
from gnomon.storage.values.selection import Selection
from gnomon.tasks.comparing.compare import compare_states
from gnomon.tasks.comparing.fields import Canvas, difference_field, state_field
from gnomon.tasks.comparing.operands import named_state, opened_states
from gnomon.tasks.comparing.preview import opened_plan
from gnomon.tasks.restoring.choice import select
from gnomon.tasks.restoring.request import StateRequest
from gnomon.tasks.restoring.states import States
from gnomon.tasks.work import serial
from tests.cases import HISTORY, Case

DAY = "2001-01-25"
DAMAGE = (slice(0, 4), slice(4, 8))


def variable(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Variable:
    dims = ("z", "y", "x")[3 - len(shape) :]
    return Variable("v", dims, shape, "<f8", chunks, chunks, chunks)


@pytest.mark.parametrize(
    ("shape", "chunks", "pixels"),
    [((7, 11), (3, 4), 3), ((7, 11), (3, 4), 100), ((10, 23), (10, 5), 4), ((29,), (4,), 5)],
)
def test_each_pixel_is_its_most_extreme_cell(
    shape: tuple[int, ...], chunks: tuple[int, ...], pixels: int
) -> None:
    draws = np.random.default_rng(0)
    rank, value = draws.normal(size=(2, *shape))
    rank = np.abs(rank)
    canvas = Canvas(variable(shape, chunks), {}, ("v",), pixels)
    indices = list(canvas.variable.grid.indices())
    for k in draws.permutation(len(indices)):
        cells = canvas.variable.grid.cells(indices[k])
        canvas.add(indices[k], rank[cells], {"v": value[cells]})
    drawn = canvas.layers["v"]
    assert max(drawn.shape) <= pixels
    widths = [-(-n // pixels) for n in shape]
    for place in itertools.product(*map(range, drawn.shape)):
        cells = tuple(slice(p * w, (p + 1) * w) for p, w in zip(place, widths, strict=True))
        assert drawn[place] == value[cells].ravel()[rank[cells].argmax()]


def test_a_slice_takes_no_other_chunk() -> None:
    canvas = Canvas(variable((4, 6, 6), (2, 3, 3)), {"z": 3}, ("v",))
    wanted = [i for i in canvas.variable.grid.indices() if canvas.wants(i)]
    assert [i[0] for i in wanted] == [1] * 4
    values = np.arange(4 * 6 * 6.0).reshape(4, 6, 6)
    for index in wanted:
        chunk = values[canvas.variable.grid.cells(index)]
        canvas.add(index, chunk, {"v": chunk})
    assert np.array_equal(canvas.layers["v"], values[3])


def test_the_difference_and_the_marks_are_those_of_the_states(damaged: Case) -> None:
    opened = damaged.open()
    with opened_states(opened.stored, "latest@healed", "latest") as (first, second, seen):
        (found, *_) = compare_states(first, second, ["sst"])
        sst = seen.settings.variable("sst")
        field = difference_field(first, second, sst, found, {"lat": xr.Variable("lat", [2.0, 1.0])})
    healed = opened.dataset(DAY, accept_predicted=True).squeeze("time").load()
    one, two, change, error, provenance = field.layers.values()
    assert np.allclose(one, healed.sst.values, atol=1e-4, equal_nan=True)
    capture = opened.dataset(DAY, kind="suspect").sst.squeeze("time").values
    assert np.array_equal(two, capture.astype("f8"), equal_nan=True)
    assert np.array_equal(change, two - one, equal_nan=True)
    inside = np.zeros(change.shape, bool)
    inside[DAMAGE] = True
    assert np.array_equal(np.isfinite(error), inside)
    assert np.allclose(error[inside], healed.sst_standard_error.values[inside], atol=1e-4)
    assert set(provenance[inside]) == {1.0}
    assert np.isnan(provenance[~inside]).all()
    assert (field.dims, field.shape, field.at, field.is_downwards) == (
        ("lat", "lon"),
        (8, 12),
        {},
        True,
    )


def test_what_only_one_state_has_stands_out(damaged: Case) -> None:
    canvas = Canvas(variable((2, 2), (2, 2)), {}, ("v",), pixels=1)
    rank = np.array([[5.0, np.inf], [np.nan, 9.0]])
    canvas.add((0, 0), rank, {"v": np.array([[1.0, np.nan], [3.0, 4.0]])})
    assert np.isnan(canvas.layers["v"]).all()


def test_of_a_selection_nothing_else_is_drawn(damaged: Case) -> None:
    stored = damaged.open().stored
    state, sst = named_state(stored, f"{DAY}@forecast"), stored.settings.variable("sst")
    field = state_field(state, sst, {}, selection=Selection(("sst",), {"lat": (slice(0, 2),)}))
    values = field.layers[state.told]
    assert np.isfinite(values[:4]).all()
    assert np.isnan(values[4:]).all()
    assert set(np.unique(field.layers["provenance"][:4])) == {3.0}


@pytest.mark.parametrize("names", [("0", "latest@healed"), ("latest@healed", "live"), ("3", "9")])
def test_threads_come_to_the_same_as_one(damaged: Case, names: tuple[str, str]) -> None:
    stored = damaged.open().stored
    found = []
    for mapper in (serial, thread_mapper(4)):
        with opened_states(stored, *names) as (first, second, seen):
            differences = compare_states(first, second, mapper=mapper)
            sst = seen.settings.variable("sst")
            field = difference_field(
                first, second, sst, differences[0], {}, pixels=3, mapper=mapper
            )
        layers = {name: layer.tobytes() for name, layer in field.layers.items()}
        found.append((differences, layers))
    assert found[0][0][0].changed_cells > 0
    assert found[0] == found[1]


def test_a_variable_without_dimensions_is_refused(grown: Case) -> None:
    stored = grown.open().stored
    with pytest.raises(InvalidInput, match="no dimensions, so there is nothing to draw"):
        state_field(named_state(stored, "0"), variable((), ()), {})


def test_a_plan_is_what_the_rollback_then_writes(damaged: Case) -> None:
    opened = damaged.open()
    seen, point = select(opened.stored, StateRequest(DAY, accept_predicted=True))
    selection = Selection(("sst",), {"lon": (slice(4, 6),)})
    with opened_plan(States(seen, (point,), selection), seen.settings.source) as (live, planned, _):
        (found,) = compare_states(live, planned, ["sst"])
        field = difference_field(live, planned, seen.settings.variable("sst"), found, {})
    plan = opened.plan_rollback(DAY, region={"lon": (20, 25)})
    assert (found.changed_cells, plan.cells) == (8, 8)
    opened.rollback(DAY, region={"lon": (20, 25)}, accept_predicted=True)
    _, after, change, error, _ = field.layers.values()
    with xr.open_zarr(damaged.source, consolidated=False) as source:
        written = source.sst.values[HISTORY]
    assert np.allclose(after, written, atol=1e-5, equal_nan=True)
    assert np.array_equal(np.isfinite(error), np.nan_to_num(change) != 0)
