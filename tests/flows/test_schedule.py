from gnomon.flows.schedule import dataset_confidence, next_due
from gnomon.storage.log.bodies.shadow import PredictedEntry

TIMES = [f"2001-01-{day:02d}" for day in range(1, 5)]


def test_the_longest_lead_that_meets_the_target() -> None:
    due = next_due([0.95, 0.9, 0.7, 0.9], TIMES, target=0.8, suspects=0)
    assert (due.lead, due.valid_time) == (2, "2001-01-02")
    assert next_due([0.9] * 4, TIMES, target=0.8, suspects=0).lead == 4


def test_at_once_below_the_target_or_while_suspect() -> None:
    assert next_due([0.5] * 4, TIMES, target=0.8, suspects=0).lead == 1
    due = next_due([0.99] * 4, TIMES, target=0.8, suspects=2)
    assert (due.lead, due.reason) == (1, "2 chunks are suspect in the newest capture")


def variable(confidence: list[float | None], usual_change: float | None) -> PredictedEntry:
    return PredictedEntry("r", "r", tuple(confidence), (), 1.0, usual_change=usual_change)


def test_what_never_changed_does_not_say_when_to_look() -> None:
    moving, constant = variable([0.9, 0.8], 0.3), variable([0.7, 0.5], 0.0)
    assert dataset_confidence([moving, constant]) == [0.9, 0.8]
    assert dataset_confidence([constant, constant]) == [0.7, 0.5]
    assert dataset_confidence([moving, variable([0.95, 0.4], None)]) == [0.9, 0.4]


def test_what_is_not_predicted_does_not_count() -> None:
    empty = variable([None, None], 0.2)
    assert dataset_confidence([variable([0.9, 0.8], 0.3), empty]) == [0.9, 0.8]
    assert dataset_confidence([empty]) == [0.0, 0.0]
    assert next_due([0.0, 0.0], TIMES, target=0.8, suspects=0).lead == 1
