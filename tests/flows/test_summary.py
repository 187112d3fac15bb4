"""What a run says of itself."""

from gnomon.flows.report import UpdateReport
from gnomon.flows.summary import is_suspect, page, sentence

INCIDENT = {
    "severity": "critical",
    "variable": "sst",
    "valid_time": "2001-01-25T00:00:00",
    "chunks": ["0/1"],
    "expectations": ["plausible"],
    "suspected_cause": "another unit",
}
UNSENT = {
    "id": "x-1-0",
    "channel": "webhook",
    "variable": "sst",
    "valid_time": "2001-01-25T00:00:00",
    "error": "nobody listens",
}


def damaged() -> UpdateReport:
    return UpdateReport(
        "r",
        captured=["2001-01-25T00:00:00"],
        judged=6,
        suspect_chunks=1,
        incidents=[INCIDENT],
        confidence={"sst": [0.9, 0.8], "ice": [0.7, 0.95]},
        due={"lead": 1, "valid_time": "2001-01-26T00:00:00", "reason": "1 chunk is suspect"},
        repeated=["capture: another writer was first"],
        alerts_unsent=[UNSENT],
        message="captured 1",
    )


def test_the_span_is_in_the_order_of_time_and_not_of_letters() -> None:
    for first, last in (("9999", "10000"), ("-0005", "-0001"), ("-0001", "0002")):
        times = [f"{year}-01-01T00:00:00" for year in (last, first)]
        assert f"({times[1]} to {times[0]})" in sentence(UpdateReport("r", captured=times))


def test_a_sentence_says_what_was_captured_judged_and_forecast() -> None:
    assert sentence(damaged()) == (
        "captured 1 (2001-01-25T00:00:00); judged 6 chunks: 1 suspect, sst at "
        "2001-01-25T00:00:00: another unit; forecast 2 leads with confidence 0.70 to 0.80, next "
        "update due 2001-01-26T00:00:00; repeated 1 times because of other writers; "
        "1 alert NOT SENT (webhook)"
    )
    assert is_suspect(damaged())


def test_a_run_without_news_says_so() -> None:
    report = UpdateReport("r", message="nothing new in the source")
    assert sentence(report) == "captured nothing; nothing new in the source"
    assert not is_suspect(report)


def test_the_page_tells_what_the_source_has_changed() -> None:
    report = UpdateReport("r", notes=["comment of sst is new: 'x'"])
    assert "## Changes of the source\n\n- comment of sst is new: 'x'" in page(report)
    assert "Changes" not in page(UpdateReport("r"))


def test_a_warning_is_not_suspect() -> None:
    report = UpdateReport("r", captured=["a"], incidents=[INCIDENT | {"severity": "warning"}])
    assert not is_suspect(report)


def test_a_page_lists_incidents_confidences_alerts_and_the_failure() -> None:
    text = page(damaged(), "no worker is left")
    assert "**It failed then:** no worker is left" in text
    assert "- **critical** sst at 2001-01-25T00:00:00, 1 chunk (0/1): another unit" in text
    assert "| sst | 0.90 | 0.80 |" in text
    assert "- webhook: sst at 2001-01-25T00:00:00: nobody listens" in text
    assert "- capture: another writer was first" in text


def test_a_page_does_not_list_a_thousand_incidents() -> None:
    report = UpdateReport("r", incidents=[INCIDENT] * 1000)
    assert "- and 980 more" in page(report)
    assert page(report).count("another unit") == 20
