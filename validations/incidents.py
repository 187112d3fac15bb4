"""Groups what a validation found into incidents: touching chunks that went wrong together."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from gnomon.storage.checks.captures import CAPTURE_CHECKS
from gnomon.storage.checks.check import CRITICAL, WARNING, Check
from gnomon.validations.causes import UNKNOWN, UNUSABLE, Statistics, suspected_cause
from gnomon.validations.expectations import Finding, Severity, Validation
from gnomon.validations.incident import Incident

__all__ = ["group_incidents"]

_Place = tuple[str, str, str]


def group_incidents(
    validation: Validation, frame: pd.DataFrame, checks: Sequence[Check] = CAPTURE_CHECKS
) -> tuple[Incident, ...]:
    """Return the incidents of a validation: critical ones first, then the larger.

    Chunks belong to one incident if they are of the same variable, valid time and severity, and
    a path of chunks that share a face in the chunk grid leads from one to the other.

    Parameters
    ----------
    validation : Validation
        What was found.
    frame : DataFrame
        The table that was validated, of a capture or a shadow.
    checks : sequence of Check
        Those of captures; they know the causes.
    """
    findings: dict[_Place, list[Finding]] = defaultdict(list)
    for finding in validation.findings:
        findings[finding.variable, finding.valid_time, finding.chunk].append(finding)
    causes = _causes(frame, findings, checks)
    fields: dict[tuple[str, str, Severity], dict[tuple[int, ...], _Place]] = defaultdict(dict)
    for place, chunk_findings in findings.items():
        fields[place[0], place[1], _worst(chunk_findings)][_index(place[2])] = place
    incidents = [
        _incident(severity, [chunks[index] for index in group], findings, causes)
        for (_, _, severity), chunks in fields.items()
        for group in _touching(set(chunks))
    ]
    return tuple(
        sorted(
            incidents, key=lambda incident: (incident.severity != CRITICAL, -len(incident.chunks))
        )
    )


def _incident(
    severity: Severity,
    places: list[_Place],
    findings: Mapping[_Place, list[Finding]],
    causes: Mapping[_Place, str],
) -> Incident:
    violated = {finding.expectation for place in places for finding in findings[place]}
    likely = Counter(causes[place] for place in places)
    return Incident(
        variable=places[0][0],
        valid_time=places[0][1],
        chunks=tuple(place[2] for place in places),
        expectations=tuple(sorted(violated)),
        severity=severity,
        suspected_cause=likely.most_common(1)[0][0],
    )


def _causes(
    frame: pd.DataFrame, findings: Mapping[_Place, list[Finding]], checks: Sequence[Check]
) -> dict[_Place, str]:
    """Return what each chunk suggests that went wrong."""
    statistics = _statistics(frame, findings)
    return {
        place: suspected_cause(
            {finding.expectation for finding in of_chunk}, statistics.get(place, UNKNOWN), checks
        )
        if of_chunk[0].lead is None
        else UNUSABLE
        for place, of_chunk in findings.items()
    }


def _statistics(frame: pd.DataFrame, chosen: Mapping[_Place, object]) -> dict[_Place, Statistics]:
    """Return the statistics of the captured chunks that are wanted; none for a shadow."""
    if "departure_mean" not in frame.columns:
        return {}
    places = zip(frame["variable"], frame["valid_time"], frame["chunk"], strict=True)
    values = zip(frame["mean"], frame["departure_mean"], frame["spread"], strict=True)
    return {
        place: Statistics(*numbers)
        for place, numbers in zip(places, values, strict=True)
        if place in chosen
    }


def _worst(findings: list[Finding]) -> Severity:
    return CRITICAL if any(finding.severity == CRITICAL for finding in findings) else WARNING


def _index(chunk: str) -> tuple[int, ...]:
    return tuple(int(part) for part in chunk.split("/")) if chunk else ()


def _touching(indices: set[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Yield the groups of chunks that share faces, each in the order of the grid; empties it."""
    for first in sorted(indices):
        if first not in indices:
            continue
        indices.remove(first)
        group, frontier = [first], [first]
        while frontier:
            near = indices.intersection(_neighbours(frontier.pop()))
            indices -= near
            group.extend(near)
            frontier.extend(near)
        yield sorted(group)


def _neighbours(index: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for axis, position in enumerate(index):
        for step in (-1, 1):
            yield (*index[:axis], position + step, *index[axis + 1 :])
