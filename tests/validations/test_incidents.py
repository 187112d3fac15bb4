import json

import pytest

from gnomon.storage.checks.captures import CAPTURE_CHECKS
from gnomon.storage.errors import Format
from gnomon.validations.expectations import Finding, Validation
from gnomon.validations.incident import Incident
from gnomon.validations.incidents import group_incidents
from tests.validations.tables import TIME, sound_actual, sound_prediction, spoiled

RECORDS = {check.name: check for check in CAPTURE_CHECKS}


def _finding(chunk: str, name: str, variable: str = "t2m", time: str = TIME) -> Finding:
    record = RECORDS[name]
    return Finding(variable, time, chunk, None, name, record.severity, 1, record.expected, "")


def _validation(*findings: Finding) -> Validation:
    return Validation(False, findings, 9, 10)


def test_chunks_that_share_faces_are_one_incident() -> None:
    chunks = ("0/0", "0/1", "1/1", "2/2", "0/10")
    found = _validation(*(_finding(chunk, "not_replayed") for chunk in chunks))
    incidents = group_incidents(found, sound_actual(9))
    expected = [("0/0", "0/1", "1/1"), ("0/10",), ("2/2",)]
    assert [one.chunks for one in incidents] == expected
    assert {one.suspected_cause for one in incidents} == {"replay: old data was ingested again"}


def test_variables_times_and_severities_are_kept_apart() -> None:
    incidents = group_incidents(
        _validation(
            _finding("0/0", "moving"),
            _finding("0/1", "moving"),
            _finding("0/2", "moving"),
            _finding("0/2", "not_mostly_lost"),
            _finding("0/2", "hardly_lost"),
            _finding("0/0", "not_replayed", variable="u10"),
            _finding("0/0", "not_replayed", time="2026-01-02T00:00:00"),
        ),
        sound_actual(),
    )
    assert len(incidents) == 4
    assert [one.severity for one in incidents] == ["critical", "critical", "critical", "warning"]
    lost = next(one for one in incidents if one.chunks == ("0/2",))
    assert lost.expectations == ("hardly_lost", "moving", "not_mostly_lost")
    assert lost.suspected_cause.startswith("missing block")
    assert incidents[-1].chunks == ("0/0", "0/1")
    assert incidents[-1].suspected_cause.startswith("stale source")


def test_most_chunks_decide_on_the_cause() -> None:
    kelvin = {"mean": 288.15, "departure_mean": 273.15}
    frame = spoiled(spoiled(sound_actual(), 0, kelvin), 1, kelvin)
    found = _validation(*(_finding(chunk, "plausible") for chunk in ("0/0", "0/1", "0/2")))
    (incident,) = group_incidents(found, frame)
    assert incident.suspected_cause.startswith("change of unit: values look like kelvin")


def test_predictions_and_single_numbers_have_incidents_too() -> None:
    finding = Finding("t2m", TIME, "", 1, "complete", "critical", 3, "at most 0", "")
    (incident,) = group_incidents(_validation(finding), sound_prediction())
    assert incident.chunks == ("",)
    assert incident.suspected_cause.startswith("unusable forecast")


def test_nothing_found_no_incident() -> None:
    assert group_incidents(Validation(True, (), 6, 10), sound_actual()) == ()


def test_an_incident_comes_back_from_strict_json() -> None:
    incident = Incident("t2m", TIME, ("0/0", "0/1"), ("plausible",), "critical", "unknown")
    assert Incident.from_json(json.loads(json.dumps(incident.to_json()))) == incident
    with pytest.raises(Format, match="version None"):
        Incident.from_json({})
    with pytest.raises(Format, match="not an incident"):
        Incident.from_json({"version": 1})
