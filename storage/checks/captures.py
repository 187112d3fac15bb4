"""The built-in checks of captures, and the statistics that they are about.

A new test of damage is a :class:`Check` in `CAPTURE_CHECKS`.  If its statistic can be measured of a
chunk alone, it stands in `CAPTURE_STATISTICS` with its function, and nothing else has to be opened.
"""

from gnomon.storage.checks.check import CRITICAL, WARNING, Check, Statistic

__all__ = ["ALPHA", "CAPTURE_CHECKS", "CAPTURE_STATISTICS", "PLACE", "UNEXPLAINED"]

ALPHA = 0.001
"""Rate of false discoveries among the chunks that are called implausible."""

UNEXPLAINED = "values far from what was expected"
"""The cause where no check knows a better one."""

PLACE = (
    Statistic("variable", "1", "name of the variable", "str", "place"),
    Statistic("valid_time", "1", "time the state is of, ISO 8601", "str", "place"),
    Statistic(
        "chunk", "1", "place in the chunk grid, as in '0/3'; '' for a single number", "str", "place"
    ),
)
"""What tells the rows of a table apart."""

_MISSING_CHANGE = Statistic(
    "missing_change",
    "1",
    "values fewer than in the last trusted capture of the chunk, as a fraction of those; "
    "NaN if there is none",
)
_INFINITE_COUNT = Statistic(
    "infinite_count",
    "cells",
    "infinite cells that were not infinite in the last trusted capture of the chunk",
    "int64",
)
_REPLAYED = Statistic(
    "replayed",
    "1",
    "a chunk that changes has the digest of an older capture",
    "bool",
    "digests",
)
_REVISED = Statistic(
    "revised", "1", "the source changed a trusted chunk after it was captured", "bool", "source"
)
_REPLACED = Statistic(
    "replaced", "1", "the same, and the whole state by little, or by a rule", "bool", "source"
)
_ESTIMATED = Statistic(
    "estimated", "1", "a rollback wrote the chunk into the source as an estimate", "bool", "source"
)
_METADATA_CHANGED = Statistic(
    "metadata_changed",
    "1",
    "units or the like differ from those last accepted",
    "bool",
    "source",
)
_BELOW_MINIMUM = Statistic(
    "below_minimum", "cells", "cells under the variable's declared valid range", "int64"
)
_ABOVE_MAXIMUM = Statistic(
    "above_maximum", "cells", "cells over the variable's declared valid range", "int64"
)
_Q_VALUE = Statistic(
    "q_value",
    "1",
    "lowest rate of false discoveries at which the p-value would be an alarm; NaN: no forecast",
    "float64",
    "table",
)
_NEWLY_CONSTANT = Statistic(
    "newly_constant", "1", "the chunk is constant, and was not", "bool", "table"
)
_STALLED = Statistic(
    "stalled", "1", "the chunk is unchanged, and has several values", "bool", "table"
)

CAPTURE_STATISTICS: tuple[Statistic, ...] = (
    Statistic("cells", "cells", "cells of the chunk", "int64"),
    Statistic("valid_count", "cells", "finite cells", "int64"),
    _MISSING_CHANGE,
    _INFINITE_COUNT,
    Statistic("minimum", "variable", "smallest finite value; NaN if there is none"),
    Statistic("maximum", "variable", "largest finite value; NaN if there is none"),
    Statistic("mean", "variable", "mean of the finite values; NaN if there is none"),
    Statistic("spread", "variable", "their standard deviation; NaN if there is none"),
    Statistic("constant", "1", "more than one valid cell, and all are equal", "bool"),
    Statistic("was_constant", "1", "the last trusted capture of the chunk was constant", "bool"),
    Statistic(
        "unchanged",
        "1",
        "a chunk that changes has the digest of the capture before",
        "bool",
        "digests",
    ),
    _REPLAYED,
    _REVISED,
    _REPLACED,
    Statistic("change_rms", "variable", "against the last trusted capture; NaN if none"),
    Statistic(
        "departure_mean",
        "variable",
        "captured minus predicted; NaN: no forecast",
        origin="forecast",
    ),
    Statistic("departure_rms", "variable", "root mean square departure; or NaN", origin="forecast"),
    Statistic(
        "departure_maximum", "variable", "largest absolute departure; or NaN", origin="forecast"
    ),
    Statistic(
        "standardised_rms", "1", "of departures over standard errors; or NaN", origin="forecast"
    ),
    Statistic(
        "outside_interval",
        "1",
        "share of the cells that are outside their 90 % interval; or NaN",
        origin="forecast",
    ),
    Statistic("p_value", "1", "chance of such departures in sound data; or NaN", origin="forecast"),
    _METADATA_CHANGED,
    _BELOW_MINIMUM,
    _ABOVE_MAXIMUM,
    _ESTIMATED,
)
"""What the ledger keeps of each captured chunk, in the order of the table.

What has no function is filled by `gnomon.tasks.capturing`, of many chunks at once or along with
others."""

_OUT_OF_RANGE = "values outside the range of the variable"

CAPTURE_CHECKS: tuple[Check, ...] = (
    Check(
        "plausible",
        _Q_VALUE,
        CRITICAL,
        "The values are further from the forecast than its error allows.",
        minimum=ALPHA,
        cause=UNEXPLAINED,
        clarity=0.3,
    ),
    Check(
        "not_estimated",
        _ESTIMATED,
        CRITICAL,
        "The chunk is what a rollback wrote into the source as an estimate: it is no data.",
        flag=False,
        cause="estimate: a rollback wrote it, and the source has no data there yet",
        clarity=1.0,
    ),
    Check(
        "not_replayed",
        _REPLAYED,
        CRITICAL,
        "The chunk is a bit-for-bit copy of an older capture: old data was ingested again.",
        flag=False,
        cause="replay: old data was ingested again",
        clarity=0.95,
    ),
    Check(
        "not_revised",
        _REVISED,
        CRITICAL,
        "The source changed the chunk after it was captured.",
        flag=False,
        cause="revision: the source was changed after it was captured",
        clarity=0.9,
    ),
    Check(
        "not_newly_constant",
        _NEWLY_CONSTANT,
        CRITICAL,
        "All cells became equal: a fill value or a default was written over the data.",
        flag=False,
        cause="constant fill: all cells became equal",
        clarity=0.85,
    ),
    Check(
        "no_new_infinities",
        _INFINITE_COUNT,
        CRITICAL,
        "Cells became infinite: a division or an overflow went wrong upstream.",
        maximum=0,
        cause="overflow: cells became infinite",
        clarity=0.75,
    ),
    Check(
        "not_mostly_lost",
        _MISSING_CHANGE,
        CRITICAL,
        "More than half of the values are gone: fewer cells have one than before.",
        maximum=0.5,
        cause="missing block: most cells that had values lost them",
        clarity=0.8,
    ),
    Check(
        "not_below_range",
        _BELOW_MINIMUM,
        CRITICAL,
        "Values are below the smallest that the variable is declared to take.",
        maximum=0,
        cause=_OUT_OF_RANGE,
        clarity=0.4,
    ),
    Check(
        "not_above_range",
        _ABOVE_MAXIMUM,
        CRITICAL,
        "Values are above the largest that the variable is declared to take.",
        maximum=0,
        cause=_OUT_OF_RANGE,
        clarity=0.4,
    ),
    Check(
        "same_metadata",
        _METADATA_CHANGED,
        CRITICAL,
        "Units or other attributes that give values their meaning are not those last accepted.",
        flag=False,
        cause="changed metadata: units or other attributes that give values their meaning are "
        "others now",
        clarity=0.45,
    ),
    Check(
        "not_replaced",
        _REPLACED,
        WARNING,
        "The source replaced the state after it was captured, as it may.",
        flag=False,
        cause="replacement: the source replaced the state, as it may",
        clarity=0.15,
    ),
    Check(
        "moving",
        _STALLED,
        WARNING,
        "The chunk usually changes and did not: the source may not have been updated.",
        flag=False,
        cause="stale source: the data did not change",
        clarity=0.1,
    ),
    Check(
        "hardly_lost",
        _MISSING_CHANGE,
        WARNING,
        "More than a tenth of the values are gone: fewer cells have one than before.",
        maximum=0.1,
        cause="missing cells: some cells that had values lost them",
        clarity=0.2,
    ),
)
"""The checks of captures, in the order in which their findings are told."""
