import numpy as np
import pytest
from scipy.stats import false_discovery_control

from gnomon.storage.errors import InvalidInput
from gnomon.validations.false_discovery import q_values


def test_q_values_are_those_computed_by_hand() -> None:
    # sorted .01 .02 .03 .5: times 4/k gives .04 .04 .04 .5
    # sorted .005 .04 .04 .9: times 4/k gives .02 .08 .05333 .9, the second takes the third
    assert q_values([0.03, 0.5, 0.01, 0.02]) == pytest.approx([0.04, 0.5, 0.04, 0.04])
    assert q_values([0.04, 0.9, 0.005, 0.04]) == pytest.approx([0.16 / 3, 0.9, 0.02, 0.16 / 3])


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_q_values_are_those_of_scipy(count: int) -> None:
    p = np.random.default_rng(count).uniform(size=count) ** 3
    p[:: max(2, count // 3)] = p[0]  # some are the same
    assert q_values(p) == pytest.approx(false_discovery_control(p), rel=1e-12)


def test_nan_stays_and_does_not_count() -> None:
    q = q_values([np.nan, 0.01, np.nan, 0.5])
    assert np.isnan(q[[0, 2]]).all()
    assert q[[1, 3]] == pytest.approx([0.02, 0.5])


def test_no_tests_no_q_values() -> None:
    assert q_values([]).shape == (0,)
    assert np.isnan(q_values([np.nan])).all()


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.inf])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidInput, match=r"0\.\.1"):
        q_values([0.5, wrong])
