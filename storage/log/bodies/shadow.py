"""What a shadow's record says: predictions, and the state of the forecaster that made them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, ClassVar

from gnomon.storage.log.bodies.body import ALL_WRITTEN, Margin, claim, folder_name, numbers
from gnomon.storage.log.bodies.report import Report
from gnomon.storage.values.documents import items, whole
from gnomon.storage.values.grid import Index
from gnomon.storage.values.plausible import MOST_LEADS, members_of, size

__all__ = ["LearntEntry", "PredictedEntry", "ShadowBody"]

MOST_ROWS = 2**16
"""Rows or columns of a forecaster's state."""
MOST_ROLLED = 2**10
"""Captures that a state may go on by, far beyond what is worth it."""


@dataclass(frozen=True, slots=True)
class PredictedEntry:
    """What a shadow has of one variable."""

    index_root: str
    """Hash that vouches for the index of the chunks."""
    score_root: str
    """Hash that vouches for the scores of the chunks."""
    confidence: tuple[float | None, ...]
    """Per lead; None where nothing is predicted."""
    expected_rmse: tuple[float | None, ...]
    """Per lead, in the variable's units; None where nothing is predicted."""
    tolerance: float
    """The error that the user can live with, in the variable's units."""
    ledger: str = ""
    """Hash that vouches for the statistics; empty: they are not written yet."""
    last_capture_rmse: tuple[float | None, ...] = ()
    """The error of the last capture in place of the prediction, per lead; empty: it is not said."""
    usual_change: float | None = None
    """Over one slot, in the variable's units; 0: it never changed; None: it is not known."""
    withheld: tuple[Index, ...] = ()
    """Chunks whose prediction a check refused."""
    unpredicted: int = 0
    """Cells that have values in the last trusted capture of their chunk, and no prediction."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset(
        {
            "roots",
            "confidence",
            "expected_rmse",
            "tolerance",
            "ledger",
            "last_capture_rmse",
            "usual_change",
            "withheld",
            "unpredicted",
        }
    )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {
            "roots": {"index": self.index_root, "score": self.score_root},
            "confidence": list(self.confidence),
            "expected_rmse": list(self.expected_rmse),
            "tolerance": self.tolerance,
            "ledger": self.ledger,
            "last_capture_rmse": list(self.last_capture_rmse),
            "usual_change": self.usual_change,
            "withheld": [list(index) for index in self.withheld],
            "unpredicted": self.unpredicted,
        }
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], leads: int) -> "PredictedEntry":
        """Read the JSON form; ValueError and its like unless there is a score for every lead."""
        entry = cls(
            folder_name(data["roots"]["index"]),
            folder_name(data["roots"]["score"]),
            items(data["confidence"], "confidence", partial(_claim, most=1.0)),
            items(data["expected_rmse"], "expected_rmse", _claim),
            claim(data["tolerance"], "tolerance"),
            folder_name(data["ledger"]),
            items(data.get("last_capture_rmse", []), "last_capture_rmse", _claim),
            _claim(data.get("usual_change"), "usual_change"),
            items(data.get("withheld", []), "withheld", _index),
            whole(data.get("unpredicted", 0), "unpredicted", least=0),
            Margin.of(data, cls._ALWAYS),
        )
        scores = len(entry.confidence), len(entry.expected_rmse)
        if set(scores) != {leads}:
            raise ValueError(f"{scores[0]} and {scores[1]} scores for {leads} leads")
        return entry


def _claim(value: object, what: str, *, most: float = inf) -> float | None:
    """Return what a shadow says of itself; None where nothing is predicted."""
    return None if value is None else claim(value, what, most=most)


def _rolled(value: object) -> tuple[int, ...]:
    steps = numbers(value)
    if len(steps) > MOST_ROLLED:
        raise ValueError(
            f"{len(steps)} captures were learnt on top of a state, expected {MOST_ROLLED} at most"
        )
    return steps


def _index(value: object, what: str) -> Index:
    return items(value, what, size)


@dataclass(frozen=True, slots=True)
class LearntEntry:
    """What the forecaster has learnt of one variable; what it means is for who reads it."""

    root: str
    """Hash that vouches for the index of the chunks' state."""
    shared: str
    """Hash that vouches for the numbers per chunk; empty: it has the form of before there were."""
    rows: int
    """Numbers per cell."""
    columns: int
    """Numbers per chunk."""
    outlook: str
    """Hash that vouches for what is known of the variable as a whole; empty: nothing is."""
    specification: Mapping[str, Any]
    """The form of the model, as the forecaster writes it."""
    cadence: Mapping[str, Any]
    """The grid of capture times, as the forecaster writes it."""
    sample: tuple[Index, ...]
    """Chunks that the outlook's numbers are of."""
    refit: str | None
    """Why everything was learnt anew; None: the state has rolled forward.  For people, and not
    verified."""
    refit_captures: int
    """How many captures there were at the last refit."""
    drifted: float
    """Share of the chunks that have drifted from the model."""
    anchor: str = ""
    """The commit that wrote the state, which the captures since are learnt on top of; empty: this
    one."""
    rolled: tuple[int, ...] = ()
    """These captures, in order of time."""
    carried: str = ""
    """Hash that vouches for what else they left behind; empty: nothing."""
    onward: str = ""
    """Hash that vouches for what the variable as a whole goes on with, whose numbers the anchor
    wrote; empty: this commit wrote them anew."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset(
        {
            "root",
            "shared",
            "rows",
            "columns",
            "outlook",
            "specification",
            "cadence",
            "sample",
            "refit",
            "refit_captures",
            "drifted",
        }
    )
    _SOMETIMES: ClassVar = frozenset({"anchor", "rolled", "carried", "onward"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {name: getattr(self, name) for name in self._ALWAYS}
        if self.anchor:
            rolled = list(self.rolled)
            fields |= {"anchor": self.anchor, "rolled": rolled, "carried": self.carried}
        if self.onward:
            fields["onward"] = self.onward
        return self.margin.around(fields | {"sample": [list(index) for index in self.sample]})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LearntEntry":
        """Read the JSON form; ValueError and its like unless the state can be looked for."""
        outlook, shared = data.get("outlook", ""), data.get("shared", "")
        anchored = "anchor" in data
        return cls(
            folder_name(data["root"]),
            folder_name(shared) if shared else "",
            whole(data["rows"], "rows", least=0, most=MOST_ROWS),
            whole(data["columns"], "columns", least=0, most=MOST_ROWS),
            folder_name(outlook) if outlook else str(outlook),
            members_of(data.get("specification", {})),
            members_of(data.get("cadence", {})),
            items(data.get("sample", []), "sample", _index),
            data.get("refit"),
            whole(data.get("refit_captures", 0), "refit_captures", least=0),
            claim(data.get("drifted", 0), "drifted"),
            folder_name(data["anchor"]) if anchored else "",
            _rolled(data["rolled"]) if anchored else (),
            folder_name(data["carried"]) if anchored else "",
            folder_name(data["onward"]) if anchored and "onward" in data else "",
            Margin.of(data, cls._ALWAYS, cls._SOMETIMES),
        )


@dataclass(frozen=True, slots=True)
class ShadowBody:
    """States were predicted, and the forecaster's state is a newer one."""

    kind: ClassVar[str] = "shadow"
    step: int
    """The capture that they were made from."""
    reference: int
    """Its instant."""
    instants: tuple[int, ...]
    """Valid times of leads 1..H."""
    bases: tuple[int, ...]
    """Captures that the changes are counted from."""
    variables: Mapping[str, PredictedEntry]
    """What is predicted of each variable."""
    forecaster: Mapping[str, LearntEntry]
    """What was learnt of each variable."""
    report: Report = field(default_factory=lambda: Report({}))
    """What the check said."""
    lasting: int | None = None
    """How many leads, the first ones, stay when newer shadows predict the others; None: all."""
    margin: Margin = ALL_WRITTEN
    """What the record says beside."""

    _ALWAYS: ClassVar = frozenset(
        {"step", "reference", "instants", "bases", "variables", "forecaster", "report"}
    )
    _SOMETIMES: ClassVar = frozenset({"lasting"})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {
            "step": self.step,
            "reference": self.reference,
            "instants": list(self.instants),
            "bases": list(self.bases),
            "variables": {name: entry.to_json() for name, entry in self.variables.items()},
            "forecaster": {name: entry.to_json() for name, entry in self.forecaster.items()},
            "report": self.report.to_json(),
        }
        if self.lasting is not None:
            fields["lasting"] = self.lasting
        return self.margin.around(fields)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ShadowBody":
        """Read the JSON form; ValueError or the like if it is not one."""
        instants = items(data["instants"], "instants", whole, most=MOST_LEADS)
        leads = len(instants)
        variables = data["variables"].items()
        step, *bases = numbers([data["step"], *data["bases"]])
        return cls(
            step,
            whole(data["reference"], "reference"),
            instants,
            tuple(bases),
            {name: PredictedEntry.from_json(entry, leads) for name, entry in variables},
            {name: LearntEntry.from_json(entry) for name, entry in data["forecaster"].items()},
            Report.from_json(data.get("report", {})),
            whole(data["lasting"], "lasting", least=1, most=leads) if "lasting" in data else None,
            Margin.of(data, cls._ALWAYS, cls._SOMETIMES),
        )
