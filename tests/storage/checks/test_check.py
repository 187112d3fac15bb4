import pytest

from gnomon.storage.checks.check import Check, Statistic

NUMBER = Statistic("c", "1", "a number")
FLAG = Statistic("f", "1", "a flag", "bool")


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (Check("n", NUMBER, "critical", "r", minimum=0.001), "at least 0.001"),
        (Check("n", NUMBER, "critical", "r", minimum=0, strict=True), "more than 0"),
        (Check("n", NUMBER, "critical", "r", maximum=0.5), "at most 0.5"),
        (Check("n", NUMBER, "critical", "r", minimum=0, maximum=1), "0 to 1"),
        (Check("n", FLAG, "critical", "r", flag=False), "false"),
    ],
)
def test_what_is_allowed_reads_in_words(check: Check, words: str) -> None:
    assert check.expected == words
