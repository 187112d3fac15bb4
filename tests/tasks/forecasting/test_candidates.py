"""Candidates of the user's own: chosen by the blend as far as they are good, harmless if not."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest

from gnomon.storage.errors import InvalidInput, NotFound
from gnomon.tasks.forecasting import (
    CANDIDATES,
    Outlook,
    Specification,
    blend,
    choose,
    engine,
    names_of,
    registry,
)
from gnomon.tasks.forecasting import guarded as module
from gnomon.tasks.forecasting.builtin import BUILT_IN
from gnomon.tasks.forecasting.candidate import CellPast, CellRecord, ModeRecord
from gnomon.tasks.forecasting.hindcasts import Window, rolling
from tests.tasks.forecasting.series import (
    HOUR,
    Array,
    Fitted,
    autoregressive,
    fit,
    specification,
    times,
)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Leave no candidate behind, and say failures anew."""
    module._told.clear()
    yield
    registry._registered.clear()


@dataclass
class Cycle:
    """Knows that a cell repeats itself after seven slots, which no other model looks back to."""

    name: str = "cycle"
    cost_s: float = 0.1
    per: Literal["cell"] = "cell"
    seen: list[CellRecord] = field(default_factory=list)

    def lags(self, spec: Specification) -> int:
        return 7

    def fit(self, record: CellRecord, before: Array | None) -> Array:
        self.seen.append(record)
        return np.array([float(len(record.times_s))])

    def predict(self, parameters: Array, past: CellPast) -> Array:
        rows = [6 - lead % 7 for lead in range(len(past.times_s))]
        return np.asarray(past.season + past.anomalies[rows])


@dataclass
class Still:
    """A model of the modes: they stay."""

    name: str = "still"
    cost_s: float = 0.1
    per: Literal["mode"] = "mode"
    predicted: list[int] = field(default_factory=list)

    def fit(self, record: ModeRecord, before: Array | None) -> Array:
        return np.empty(0) if before is None else before

    def predict(self, parameters: Array, record: ModeRecord, leads: int) -> Array:
        self.predicted.append(len(record.amplitudes))
        return np.repeat(record.amplitudes[-1:], leads, axis=0)


def sevens(captures: int, cells: int) -> Array:
    """Noise that comes back every seven slots, a little changed."""
    rng = np.random.default_rng(1)
    shape = rng.standard_normal((7, cells))
    values: Array = shape[np.arange(captures) % 7]
    return values + 0.05 * rng.standard_normal(values.shape)


def jumps(captures: int, cells: int) -> Array:
    """What stays for eleven slots, and then is another: neither damped nor with a trend."""
    rng = np.random.default_rng(2)
    shape, size = rng.standard_normal(cells), 10.0 * rng.standard_normal(captures // 11 + 1)
    values: Array = size[np.arange(captures) // 11][:, None] * shape
    return values + 0.1 * rng.standard_normal(values.shape)


def candidates(found: Fitted) -> Array:
    """What every candidate predicts after the last capture."""
    last = float(found.state.recent_times[0])
    ahead = last + times(found.spec.leads + 1, found.spec.interval_s)[1:]
    return engine.candidates(found.spec, found.state, found.outlook, ahead)


def chosen(*candidates: object) -> Specification:
    names = [registry.register(candidate) for candidate in candidates]  # type: ignore[arg-type]
    return choose(specification(), names)


def test_the_blend_follows_a_candidate_that_is_better() -> None:
    spec = chosen(Cycle())
    assert spec.recent == 7
    assert names_of(spec) == (*CANDIDATES, "cycle")
    values = sevens(160, 20)
    found = fit(spec, values[:150])
    assert found.outlook.calibration.weights[:, -1].min() > 0.8
    error = np.sqrt(np.mean((found.forecast().mean - values[150:156]) ** 2))
    assert error < 0.2


def test_candidates_of_cells_and_modes_go_on_with_a_roll() -> None:
    cycle, still = Cycle(), Still()
    values = autoregressive((0.8,), 130, 20, seed=3)
    found = fit(chosen(cycle, still), values[:120])
    before = len(still.predicted)
    later = found.outlook.roll(found.spec, 120, 120 * HOUR, values[120])
    assert still.predicted[before:] == [121]
    for _ in range(3):  # what was predicted is kept: a slow model is asked once
        assert later.forecast(found.spec, 6).ahead[-1] is later.ahead[-1]
    assert len(still.predicted) == before + 1
    assert later.fitted == found.outlook.fitted


def test_an_outlook_keeps_what_candidates_left_behind() -> None:
    class Broken(Cycle):
        def fit(self, record: CellRecord, before: Array | None) -> Array:
            raise RuntimeError("no luck")

    found = fit(chosen(Cycle(), Still(), Broken("broken")), autoregressive((0.8,), 80, 9, seed=3))
    packed = found.outlook.pack()
    again = Outlook.unpack(found.spec, packed)
    assert again.pack().tobytes() == packed.tobytes()
    assert [None if f is None else f.tolist() for f in again.fitted] == [[80.0], [], None]
    assert again.ahead[0] is None
    assert again.ahead[1] is not None
    for torn in (packed[:-1], np.append(packed, 0.0), packed[: len(packed) // 2]):
        with pytest.raises(InvalidInput, match="was the specification changed"):
            Outlook.unpack(found.spec, torn)


@pytest.mark.parametrize("where", ["fit", "predict"])
@pytest.mark.parametrize("what", ["raise", "nan", "shape", "text"])
@pytest.mark.parametrize("kind", [Cycle, Still])
def test_a_candidate_that_fails_costs_nothing(
    where: str, what: str, kind: type, caplog: pytest.LogCaptureFixture
) -> None:
    """The ARIMA takes its place, and it is said once."""
    candidate = kind()
    right = getattr(candidate, where)

    def wrong(*given: object) -> object:
        if what == "raise":
            raise ZeroDivisionError("no luck")
        result = right(*given)
        return {"nan": np.full(result.shape, np.nan), "shape": np.zeros((2, 3, 4)), "text": "?"}[
            what
        ]

    setattr(candidate, where, wrong)
    values = autoregressive((0.8,), 80, 20, seed=3)
    silent = kind is Still and where == "fit" and what == "nan"  # nothing is left behind: no NaN
    with caplog.at_level(logging.WARNING):
        found = fit(chosen(candidate), values)
        made = found.forecast()
    assert np.isfinite(made.mean).all()
    said = [r.getMessage() for r in caplog.records if "is left out" in r.getMessage()]
    whole_nan = kind is Cycle and where == "predict" and what == "nan"
    assert len(said) == (0 if silent or whole_nan else 1)
    plain = fit(specification(), values).forecast()
    np.testing.assert_allclose(made.mean, plain.mean, atol=0.5 * plain.standard_error.min())


@pytest.mark.parametrize("kind", [Cycle, Still])
@pytest.mark.parametrize("gone", [False, True])
def test_one_that_fails_later_takes_its_error_bars_with_it(kind: type, gone: bool) -> None:
    """What was calibrated with a good model says nothing of a forecast without it."""
    candidate = kind()
    values = sevens(150, 20) if kind is Cycle else jumps(150, 20)
    found, plain = fit(chosen(candidate), values), fit(specification(), values)
    assert found.outlook.calibration.weights[0, -1] > 0.0
    ahead: tuple[Array | None, ...] = (None,)
    if gone:
        registry._registered.clear()
    else:

        def fail(*_given: object) -> Array:
            raise RuntimeError("no luck")

        candidate.predict = fail
        ahead = found.outlook.look_ahead(found.spec).ahead
    outlook = found.outlook if kind is Cycle else replace(found.outlook, ahead=ahead)
    made, usual = replace(found, outlook=outlook).forecast(), plain.forecast()
    for part in ("mean", "standard_error", "confidence", "expected_rmse"):
        np.testing.assert_allclose(getattr(made, part), getattr(usual, part), rtol=1e-9)
    # The next capture is judged by the same.
    given = 150, 150 * HOUR, values[-1]
    one = engine.departures(found.spec, found.state, outlook, *given)
    other = engine.departures(plain.spec, plain.state, plain.outlook, *given)
    np.testing.assert_allclose(one.standardised_rms, other.standardised_rms, rtol=1e-9)


@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_tiles_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a model that looks at the other cells of a chunk."""
    values = autoregressive((0.8,), 90, 50, seed=6)
    found = fit(choose(specification(), [name]), values, starts=(0, 8, 38, 50))
    whole = found.forecast()
    for tile in (5, 10, 37, 49):
        monkeypatch.setattr(engine, "TILE", tile)
        part = found.forecast()
        np.testing.assert_allclose(part.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(part.standard_error, whole.standard_error, rtol=1e-12)


def test_what_was_fitted_before_is_what_the_candidate_returned() -> None:
    """Or nothing: where there were no modes there was no fit."""

    class Remembering(Still):
        def fit(self, record: ModeRecord, before: Array | None) -> Array:
            assert before is None or len(before) == 2
            return np.array([1.0, 2.0])

    fit(chosen(Remembering()), autoregressive((0.8,), 60, 20, seed=3))
    assert module._told == set()


def test_one_that_is_like_nothing_is_found_too() -> None:
    class Empty(Cycle):
        def __len__(self) -> int:
            return 0

    assert registry.find(registry.register(Empty())).name == "cycle"


def test_an_error_that_says_nothing_stops_nothing() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise IndexError("tuple index out of range")

    class Broken(Cycle):
        def fit(self, record: CellRecord, before: Array | None) -> Array:
            raise Mute

    assert np.isfinite(
        fit(chosen(Broken()), autoregressive((0.8,), 60, 9, seed=3)).forecast().mean
    ).all()


@pytest.mark.parametrize("kind", [Cycle, Still])
def test_what_is_given_cannot_be_changed(kind: type, caplog: pytest.LogCaptureFixture) -> None:
    """A candidate that writes into what it was given would change what the others predict."""
    candidate = kind()
    right = candidate.predict

    def spoil(parameters: Array, known: Any, *leads: int) -> Array:
        array = known.amplitudes if kind is Still else known.season
        array[:] = 1e6
        return np.asarray(right(parameters, known, *leads))

    candidate.predict = spoil
    values = autoregressive((0.8,), 80, 20, seed=3)
    with caplog.at_level(logging.WARNING):
        made = fit(chosen(candidate), values).forecast()
    assert "read-only" in caplog.text
    assert np.abs(made.mean).max() < 100.0


@pytest.mark.parametrize("size", [1e5, 1e20, 9.97e36, 1e300, -np.inf])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_numbers_beyond_all_measure_change_nothing(
    size: float, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    """A fill value, say, in all cells or in some: the others keep the weights that they earned."""

    class Mad(Cycle):
        def predict(self, parameters: Array, past: CellPast) -> Array:
            values = past.season + past.anomalies[:1] * np.ones((len(past.season), 1))
            values[:, : int(share * values.shape[1])] = size
            return np.asarray(values)

    values = autoregressive((0.8,), 80, 20, seed=3)
    plain = fit(specification(), values)
    with caplog.at_level(logging.WARNING):
        found = fit(chosen(Mad()), values)
    assert "is left out" in caplog.text
    made, usual = found.forecast(), plain.forecast()
    np.testing.assert_allclose(made.mean, usual.mean, atol=0.2 * usual.standard_error.min())
    np.testing.assert_allclose(made.standard_error, usual.standard_error, rtol=0.1)


@pytest.mark.parametrize("size", [1e6, 1e20, -1e100])
def test_amplitudes_beyond_all_measure_change_nothing(
    size: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a model that had earned its weight before."""
    still, values = Still(), jumps(150, 20)
    found, plain = fit(chosen(still), values[:-1]), fit(specification(), values[:-1])
    still.predict = lambda *_: np.full((6, found.spec.modes), size)  # type: ignore[method-assign]
    assert found.outlook.calibration.weights[0, -1] > 0.0
    with caplog.at_level(logging.WARNING):
        later = found.outlook.look_ahead(found.spec)
    assert "is left out" in caplog.text
    made, usual = replace(found, outlook=later).forecast(), plain.forecast()
    np.testing.assert_allclose(made.mean, usual.mean, rtol=1e-9)
    np.testing.assert_allclose(made.standard_error, usual.standard_error, rtol=1e-9)


def test_a_runaway_has_no_weight() -> None:
    """However large its errors are, the weights of the others stay what they are."""
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((12, 1, 5, 40)) * np.array([3.0, 2.0, 2.0, 1.0, 1.1])[:, None]
    verified = np.ones((12, 1))
    usual = blend.weights(blend.moments(errors)[0], verified)
    for size in (1e7, 1e20, 1e100):
        more = np.concatenate([errors, size * rng.standard_normal((12, 1, 1, 40))], axis=2)
        weights = blend.weights(blend.moments(more)[0], verified)
        assert weights[0, -1] == 0.0
        np.testing.assert_allclose(weights[0, :-1], usual[0], atol=0.02)


def test_what_is_masked_is_not_known() -> None:
    class Partial(Cycle):
        def predict(self, parameters: Array, past: CellPast) -> Array:
            nothing = np.ones(past.season.shape, bool)
            return np.ma.masked_array(past.season + 50.0, mask=nothing)

    values = autoregressive((0.8,), 80, 20, seed=3)
    found = fit(chosen(Partial()), values)
    known = candidates(found)
    np.testing.assert_array_equal(known[:, -1], known[:, CANDIDATES.index("arima")])


def test_complex_numbers_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    class Turning(Cycle):
        def predict(self, parameters: Array, past: CellPast) -> Array:
            return past.season * 1j  # type: ignore[return-value]

    with caplog.at_level(logging.WARNING):
        fit(chosen(Turning()), autoregressive((0.8,), 80, 20, seed=3))
    assert "complex" in caplog.text


@pytest.mark.parametrize("lags", [-1, 10**9, None, "ten"])
def test_a_past_that_is_too_long_is_refused(lags: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Greedy(Cycle):
        def lags(self, spec: Specification) -> int:
            return lags  # type: ignore[no-any-return]

    with caplog.at_level(logging.WARNING):
        spec = chosen(Greedy())
    assert spec.candidates == ()
    assert "is left out" in caplog.text


def test_what_lacks_something_is_no_candidate() -> None:
    for missing in ("fit", "predict", "lags", "cost_s"):
        candidate = Cycle()
        setattr(candidate, missing, None)
        with pytest.raises(InvalidInput, match="cycle"):
            registry.register(candidate)


def test_no_hindcast_knows_what_comes_later() -> None:
    """Neither at the fit nor when it predicts: another future changes no forecast before it."""
    values = sevens(90, 6)
    origins = np.array([40, 60])
    made = []
    for factor in (1.0, 50.0):
        moved = values.copy()
        moved[61:] *= factor
        window = Window(times(90), moved, np.array([0, 6]))
        cycle = Cycle()
        spec = chosen(cycle, Still())
        made.append(rolling(spec, window, origins).predictions)
        assert [r.times_s[-1] / HOUR for r in cycle.seen] == [40.0, 60.0]
        assert all(np.nanmax(np.abs(r.anomalies)) < 10.0 for r in cycle.seen)
    np.testing.assert_array_equal(made[0], made[1])


def test_one_that_is_not_here_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        spec = choose(specification(), ["nowhere"])
    assert spec.candidates == ()
    assert "there is no candidate 'nowhere' here" in caplog.text
    # What was learnt with it elsewhere is read, and predicted by the ARIMA in its place.
    values = autoregressive((0.8,), 80, 20, seed=3)
    found = fit(chosen(Cycle()), values)
    registry._registered.clear()
    assert np.isfinite(found.forecast().mean).all()


def test_labels_have_no_candidates() -> None:
    labels = specification(categorical=True)
    registry.register(Cycle())
    assert choose(labels, ["cycle"]).candidates == ()


@pytest.mark.parametrize("name", ["", "Big", "a b", "../x", "x" * 41, None])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(InvalidInput, match="small letters"):
        registry.register(Cycle(name))


@pytest.mark.parametrize("version", [True, "1", -1, 1.5, 2**40, None])
def test_a_version_is_a_number(version: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cycle, "version", version, raising=False)
    with pytest.raises(InvalidInput, match="has version"):
        registry.register(Cycle())


def test_a_class_is_no_candidate() -> None:
    with pytest.raises(InvalidInput, match=r"Cycle is a class; give one of it: Cycle\(\)"):
        registry.register(Cycle)  # type: ignore[arg-type]


def test_a_name_is_given_once() -> None:
    with pytest.raises(InvalidInput, match="built-in"):
        registry.register(Cycle("arima"))
    with pytest.raises(InvalidInput, match="is installed"):
        registry.register(Cycle("ridge"))
    with pytest.raises(InvalidInput, match="always there"):
        registry.name_of("persistence")
    with pytest.raises(NotFound, match="there is no candidate 'nothing' here, found boosting"):
        registry.name_of("nothing")
    odd = Cycle()
    odd.per = "galaxy"  # type: ignore[assignment]
    with pytest.raises(InvalidInput, match="not per cell or mode"):
        registry.register(odd)


def test_the_built_in_ones_are_in_the_order_of_their_names() -> None:
    assert tuple(candidate.name for candidate in BUILT_IN) == CANDIDATES


def test_a_specification_names_its_candidates() -> None:
    spec = chosen(Cycle(), Still())
    assert Specification.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert specification().to_json().keys().isdisjoint({"candidates", "lags"})
    for wrong in ("cycle", [1], 3):
        with pytest.raises(InvalidInput, match="not a specification"):
            Specification.from_json(spec.to_json() | {"candidates": wrong})
    for version in (1.5, "1", -1, 10**30, True, None):
        with pytest.raises(InvalidInput, match="not a specification"):
            Specification.from_json(spec.to_json() | {"versions": [1, version]})
