"""What plain Zarr, which knows nothing of Gnomon, sees of a repository's slabs."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from gnomon.storage.values.times import format_instant
from tests.cases import Case


def test_a_shadow_says_what_it_is(grown: Case) -> None:
    stored = grown.open().stored
    shadow = stored.shadows[-1]
    group = zarr.open_group(Path(stored.location.url) / "shadows" / shadow.id / "v-sst", mode="r")
    calendar = stored.settings.calendar
    times = [format_instant(instant, calendar) for instant in shadow.instants]
    assert group.attrs["variable"] == "sst"
    assert group.attrs["units"] == grown.data.sst.attrs["units"]
    assert group.attrs["forecast_reference_time"] == format_instant(shadow.reference, calendar)
    assert group.attrs["valid_time"] == times
    dims = stored.settings.variable("sst").dims
    assert group.attrs["lasting_leads"] == 1
    for name, lead, count in (("", "lead_lasting", 1), ("_later", "lead_later", len(times) - 1)):
        for part in ("change", "error"):
            array = group[part + name]
            assert isinstance(array, zarr.Array)
            assert array.metadata.dimension_names == (lead, *dims)  # type: ignore[union-attr]
            assert array.shape[0] == count
    for name, columns in (("score", ["quantum", "error_scale"]), ("index", ["base"])):
        table = group[name]
        assert isinstance(table, zarr.Array)
        assert table.attrs["columns"][: len(columns)] == columns  # type: ignore[index]
        assert table.metadata.dimension_names is not None  # type: ignore[union-attr]


def read(group: zarr.Group, name: str) -> Any:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])


def test_predictions_can_be_made_of_what_plain_zarr_reads(grown: Case) -> None:
    """As docs/format.md says, with the chunks' codings undone."""
    stored = grown.open().stored
    shadow = stored.shadows[-1]
    group = zarr.open_group(Path(stored.location.url) / "shadows" / shadow.id / "v-sst", mode="r")
    parts, score, index = (
        [read(group, name) for name in ("change", "change_later")],
        *(read(group, name) for name in ("score", "index")),
    )
    variable, captures = stored.settings.variable("sst"), stored.captures("sst")
    stack = stored.shadow("sst", shadow)
    for place in variable.grid.indices():
        cells: tuple[Any, ...] = (slice(None), *variable.grid.cells(place))
        of_leads: tuple[Any, ...] = (slice(None), *place, 0)
        quanta = score[of_leads]
        counts = np.concatenate([part[cells] for part in parts]).astype(np.int64)
        for lead in range(1, len(counts)):
            is_first = lead == len(parts[0])  # of its array
            if index[(lead, *place, 3)] == 1 and not is_first:  # what it adds to the one before
                before = np.rint(counts[lead - 1] * (quanta[lead - 1] / quanta[lead]))
                nothing = counts[lead - 1] == -(2**31)
                added = np.where(nothing, -(2**31), before).astype(np.int64) + counts[lead]
                counts[lead] = (added + 2**31) % 2**32 - 2**31
        base = captures.physical(int(index[(0, *place, 0)]), place)
        for lead, quantum in enumerate(quanta):
            missing = counts[lead] == -(2**31)
            predicted = np.where(missing, np.nan, np.nan_to_num(base) + counts[lead] * quantum)
            np.testing.assert_array_equal(predicted, stack.chunk(lead + 1, place)[0])


def test_captures_say_what_they_are(grown: Case) -> None:
    stored = grown.open().stored
    step = stored.captured[-1]
    group = zarr.open_group(Path(stored.location.url) / "captures" / step.slab / "v-sst", mode="r")
    calendar = stored.settings.calendar
    assert group.attrs["valid_time"][step.local] == format_instant(step.instant, calendar)  # type: ignore[index]
    assert group.attrs["calendar"] == calendar
    residual = group["residual"]
    assert isinstance(residual, zarr.Array)
    dims = stored.settings.variable("sst").dims
    assert residual.metadata.dimension_names == ("state", *dims)  # type: ignore[union-attr]
