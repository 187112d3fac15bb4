"""Settings: a mistake is one line that names it, and a secret is shown by nothing."""

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gnomon.flows.alerting import BlockWebhook, channels_of
from gnomon.flows.settings import Settings
from gnomon.storage.errors import InvalidInput
from tests.cases import Case
from tests.gnomon.test_cli import run

TOKEN = "T0000-B0000-xxxxSECRETxxxx"
WEBHOOK = f"https://hooks.example.org/services/{TOKEN}"

MISTAKES: dict[str, tuple[str, str]] = {
    "WORKERS": ("zero", "integer"),
    "COMPARE": ("-2", "-1"),
    "ALPHA": ("2", "less than 1"),
    "TARGET_CONFIDENCE": ("high", "number"),
    "REFIT_SHARE": ("-1", "greater than or equal to 0"),
    "SCHEDULER": ("tls://me:PASSWORD@host:8786", "a user and a password"),
    "WEBHOOK": ("ftp://host/PASSWORD", "http or https"),
    "WEBHOOK_BLOCK": ("https://host/x?token=PASSWORD", "a value of 'token'"),
    "DOCS": ("s3://AKIA:PASSWORD@bucket/docs", "a path on this machine"),
    "ALERTS": ("alerts?token=PASSWORD", "a value of 'token'"),
    "CHECKS": ("https://host/checks.py?token=PASSWORD", "a path on this machine"),
    "APPRISE": ("json://host/PASSWORD hooks.example.org/PASSWORD", "entry 2 is no URL of Apprise"),
    "CHANNELS": ("pager, desk", "names of letters a-z"),
    "MIN_INTERVAL": ("600", "expected a duration such as PT10M, P1D or 00:10:00"),
    "MAX_INTERVAL": ("later", "expected a duration"),
    "PUBLICATION_DELAY": ("soon", "expected a duration such as PT10M, P1D or 00:10:00"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_environment_is_one_line(
    capsys: pytest.CaptureFixture[str], grown: Case, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    value, expected = MISTAKES[name]
    monkeypatch.setenv(f"GNOMON_{name}", value)
    for command in (["update"], ["update", "--flow"], ["backfill"]):
        code, out, err = run(capsys, command[0], "repository", *command[1:])
        assert (code, out) == (2, "")
        assert err.startswith("gnomon: error: ")
        assert err.count("\n") == 1
        assert f"setting {name.lower()} (GNOMON_{name}) is " in err
        assert expected in err
        assert "PASSWORD" not in err
        assert "PASSWORD" in value or repr(value) in err


def test_every_setting_has_its_mistake() -> None:
    assert {name.lower() for name in MISTAKES} == set(Settings.model_fields)


def test_several_mistakes_are_told_together() -> None:
    with pytest.raises(InvalidInput, match=r"workers.*alpha.*no setting 'wrokers'; there are"):
        Settings(workers=0, alpha=2, wrokers=3)


def test_a_mistake_within_another_model_tells_what_is_wrong() -> None:
    class Parameters(BaseModel):
        settings: Settings | None

    with pytest.raises(ValueError, match=r"setting workers .* is 'zero'"):
        Parameters(settings={"workers": "zero"})


def test_a_secret_is_not_shown() -> None:
    settings = Settings(webhook=WEBHOOK, apprise=f"json://127.0.0.1/{TOKEN}", workers=3)
    shown = [
        repr(settings),
        str(settings),
        f"{settings!r:.500}",
        str(settings.model_dump()),
        str(settings.model_dump(mode="json")),
        settings.model_dump_json(),
        str(dict(settings)),
        str(channels_of(settings)),
        json.dumps(Settings.model_json_schema()),
    ]
    assert [text for text in shown if TOKEN in text] == []
    assert {"webhook", "apprise"}.isdisjoint(settings.model_dump())


def test_a_secret_reaches_the_one_who_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given = pickle.loads(pickle.dumps(Settings(webhook=WEBHOOK)))
    assert given.webhook.get_secret_value() == WEBHOOK
    # A run that starts from stored parameters takes it from its own environment.
    monkeypatch.setenv("GNOMON_WEBHOOK", WEBHOOK)
    stored = Settings(**json.loads(Settings(workers=3).model_dump_json()))
    assert stored.webhook is not None
    assert stored.webhook.get_secret_value() == WEBHOOK
    assert stored.workers == 3


def test_the_schema_of_parameters_has_no_place_for_a_secret() -> None:
    schema = Settings.model_json_schema()
    assert {"webhook", "apprise"}.isdisjoint(schema["properties"])
    assert "webhook_block" in schema["properties"]
    assert schema["additionalProperties"] is False


def test_a_webhook_by_the_name_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.blocks.system import Secret

    from tests.validations.test_alerts import ALERT

    posted: list[Any] = []
    loaded: list[str] = []

    def load(name: str) -> Any:
        loaded.append(name)
        if name != "gnomon-webhook":
            raise ValueError("no such document")
        return Secret(value=WEBHOOK)

    monkeypatch.setattr(Secret, "load", load)
    monkeypatch.setattr(
        "gnomon.validations.alerts.WebhookAlert.__call__", lambda self, _: posted.append(self._url)
    )
    *_, action = channels_of(Settings(webhook_block="gnomon-webhook")).values()
    assert repr(action) == "BlockWebhook('gnomon-webhook')"
    assert loaded == [], "a block is only loaded when there is an alert"
    action(ALERT)
    assert posted == [WEBHOOK]
    with pytest.raises(LookupError, match="no block 'other' of type Secret"):
        BlockWebhook("other")(ALERT)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNOMON_REFIT_SHARE", raising=False)  # the tests set it
    before = Settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"GNOMON_{name.upper()}", "")
    assert Settings() == before


def test_paths_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(docs="~/docs").docs == tmp_path / "docs"


def test_a_webhook_that_fails_is_told_without_its_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from gnomon.validations.alerts import emit
    from tests.validations.test_alerts import ALERT

    settings = Settings(webhook=f"http://127.0.0.1:9/{TOKEN}")
    with caplog.at_level(logging.DEBUG):
        (failure,) = emit([ALERT], [*channels_of(settings).values()])
    assert "127.0.0.1" in failure.error
    assert "Connection refused" in failure.error
    assert TOKEN not in caplog.text + str(failure)


@pytest.mark.parametrize("name", ["WEBHOOK_BLOCK", "SCHEDULER", "ALERTS", "DOCS"])
def test_a_webhook_in_the_wrong_variable_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """All else is stored with a run, and the path of such an address is the secret."""
    monkeypatch.setenv(f"GNOMON_{name}", WEBHOOK)
    with pytest.raises(InvalidInput, match=f"GNOMON_{name}") as refused:
        Settings()
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("name", ["WEBHOOK", "WEBHOOK_BLOCK", "ALERTS", "DOCS", "CHANNELS"])
def test_an_apprise_url_in_the_wrong_variable_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"GNOMON_{name}", f"slack://{TOKEN}/{TOKEN}/{TOKEN}")
    with pytest.raises(InvalidInput, match=f"GNOMON_{name}") as refused:
        Settings()
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("address", ["http://[::1/TOKEN", "http://me:TOKEN@ho\u2100st/x"])
def test_an_address_that_is_none_is_not_shown(address: str) -> None:
    with pytest.raises(InvalidInput, match="http or https") as refused:
        Settings(webhook=address)
    assert "TOKEN" not in str(refused.value)


def test_a_prefect_api_that_does_not_answer_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    from gnomon.flows.launch import prefect_api
    from gnomon.storage.errors import Unavailable

    monkeypatch.setattr("prefect.settings.PREFECT_API_URL.value", lambda: "http://127.0.0.1:9/api")
    for error in (RuntimeError("Failed to reach API at x"), httpx.ConnectError("refused")):
        with pytest.raises(Unavailable, match="PREFECT_API_URL"), prefect_api():
            raise error
    with pytest.raises(RuntimeError, match="else"), prefect_api():
        raise RuntimeError("something else")
