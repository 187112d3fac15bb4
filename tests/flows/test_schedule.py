from gnomon.flows.schedule import next_due

TIMES = [f"2001-01-{day:02d}" for day in range(1, 5)]


def test_the_longest_lead_that_meets_the_target() -> None:
    due = next_due([0.95, 0.9, 0.7, 0.9], TIMES, target=0.8, suspects=0)
    assert (due.lead, due.valid_time) == (2, "2001-01-02")
    assert next_due([0.9] * 4, TIMES, target=0.8, suspects=0).lead == 4


def test_at_once_below_the_target_or_while_suspect() -> None:
    assert next_due([0.5] * 4, TIMES, target=0.8, suspects=0).lead == 1
    due = next_due([0.99] * 4, TIMES, target=0.8, suspects=2)
    assert (due.lead, due.reason) == (1, "2 chunks are suspect in the newest capture")
