"""The verdict claims what the figures carry, and no more."""

from typing import Any

import pytest

from gnomon.tasks.hindcasting.verdict import verdict

NAN = float("nan")
GOOD: dict[str, Any] = {
    "ratio": {"persistence": 0.6, "climatology": 0.8, "damped_anomaly": 0.9},
    "ratio_interval": {
        "persistence": (0.5, 0.7),
        "climatology": (0.7, 0.9),
        "damped_anomaly": (0.85, 0.96),
    },
    "coverage": {"50": 0.51, "90": 0.9, "99": 0.985},
    "coverage_interval": {"50": (0.46, 0.56), "90": (0.87, 0.93), "99": (0.97, 0.995)},
    "season": (0.87, (0.8, 0.93)),
    "ece": (0.04, 0.04, 0.08),
}


def said(*, compared: bool = True, **changes: Any) -> tuple[bool, str]:
    given = {n: GOOD[n] | v if isinstance(v, dict) else v for n, v in changes.items()}
    return verdict(**{**GOOD, **given}, compared=compared)


def test_what_holds_is_said_to_hold() -> None:
    suitable, words = said()
    assert suitable
    assert words.startswith("suitable: predictions have 60% of the last capture's error (50% to")
    assert words.endswith("the error bars hold")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "50 % too wide": (
        {"coverage": {"50": 0.75}, "coverage_interval": {"50": (0.68, 0.81)}},
        "take care: 50 % intervals cover 75% (68% to 81%)",
    ),
    "50 % too narrow": (
        {"coverage": {"50": 0.3}, "coverage_interval": {"50": (0.22, 0.4)}},
        "take care: 50 % intervals cover 30%",
    ),
    "90 % too narrow": (
        {"coverage": {"90": 0.8}, "coverage_interval": {"90": (0.74, 0.86)}},
        "take care: 90 % intervals cover 80%",
    ),
    "99 % too narrow": (
        {"coverage": {"99": 0.93}, "coverage_interval": {"99": (0.9, 0.96)}},
        "take care: 99 % intervals cover 93%",
    ),
    "a season": (
        {"season": (0.6, (0.5, 0.75))},
        "take care: 90 % intervals cover 60% in the worst season (50% to 75%)",
    ),
    "the confidence": ({"ece": (0.2, 0.05, 0.1)}, "take care: the confidence is off by 0.20"),
    "50 %, of few origins": (
        {"coverage": {"50": 0.75}, "coverage_interval": {"50": (0.4, 0.95)}},
        "too few origins to be sure: 50 % intervals cover 75% (40% to 95%)",
    ),
    "50 %, of one origin": (
        {"coverage": {"50": 0.75}, "coverage_interval": {"50": (NAN, NAN)}},
        "too few origins to be sure: 50 % intervals cover 75%",
    ),
    "a season, of few origins": (
        {"season": (0.8, (0.6, 0.95))},
        "too few origins to be sure: 90 % intervals cover 80% in the worst season",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_hold_is_told(kind: str) -> None:
    changes, words = WRONG[kind]
    told = said(**changes)[1]
    assert words in told
    assert "the error bars hold" not in told


def test_what_chance_would_show_is_no_matter() -> None:
    assert said(ece=(0.12, 0.1, 0.15))[1].endswith("the error bars hold")


def test_a_tie_with_the_last_capture_is_no_success() -> None:
    changes = {"persistence": 0.9}, {"persistence": (0.78, 1.05)}
    suitable, words = said(ratio=changes[0], ratio_interval=changes[1])
    assert not suitable
    assert words.startswith("unsuitable so far: predictions have 90%")
    assert "so few origins cannot tell" in words


def test_one_origin_is_no_success() -> None:
    unknown = dict.fromkeys(GOOD["ratio"], (NAN, NAN))
    suitable, words = said(ratio_interval=unknown)
    assert not suitable
    assert "so few origins cannot tell" in words


def test_a_tie_with_a_baseline_is_said() -> None:
    suitable, words = said(
        ratio={"damped_anomaly": 0.95}, ratio_interval={"damped_anomaly": (0.88, 1.02)}
    )
    assert suitable
    assert words.startswith("of some use: ")
    assert "a tie with the damped anomaly alone" in words


def test_worse_than_the_last_capture_is_unsuitable() -> None:
    suitable, words = said(ratio={"persistence": 1.1}, ratio_interval={"persistence": (1.0, 1.2)})
    assert (suitable, words.split(":")[0]) == (False, "unsuitable")


@pytest.mark.parametrize("ratio", [NAN, float("inf")])
def test_a_last_capture_that_is_never_wrong_cannot_be_beaten(ratio: float) -> None:
    assert "never wrong" in said(ratio={"persistence": ratio})[1]


def test_nothing_to_compare_with() -> None:
    assert "nothing was captured" in said(coverage={"90": NAN}, compared=False)[1]


def test_of_flags_no_interval_is_spoken_of() -> None:
    ratio = dict.fromkeys(GOOD["ratio"], NAN) | {"persistence": 1.0}
    given = {**GOOD, "ratio": ratio, "coverage": None, "coverage_interval": {}}
    assert verdict(**given) == (
        False,
        "unsuitable: the forecast of flags is the last capture itself; the confidence holds",
    )
    bold = {**given, "ece": (0.2, 0.0, 0.1)}
    assert "itself; take care: the confidence is off by 0.20" in verdict(**bold)[1]
    assert "never wrong" in verdict(**given | {"ratio": {"persistence": NAN}})[1]
    assert "nothing was captured" in verdict(**given, compared=False)[1]
