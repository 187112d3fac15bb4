"""Settings of a run, from arguments or the environment (``GNOMON_...``)."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gnomon.storage.errors import InvalidInput
from gnomon.storage.outbox import CHANNEL
from gnomon.storage.redaction import HIDDEN, credential_in, redacted
from gnomon.storage.userpath import check_output, is_url, shown
from gnomon.validations.context import check_docs

__all__ = ["PREFIX", "Settings", "named_urls"]

PREFIX = "GNOMON_"

_BLOCK = re.compile(r"[a-z0-9-]{1,200}", re.ASCII)
_WEB_PATH = re.compile(r"(https?://[^/\s'\"]*/|(?!http)\b[a-z][a-z0-9+.-]*://)[^\s'\"]+", re.I)


_SECRET = ("webhook", "webhook_block", "apprise")
"""What is never shown: a block's name may be a webhook's URL, set in the wrong place."""
_APPRISE = re.compile(r"(?:([^=:/]*)=)?([a-z][a-z0-9+.-]*://.+)", re.I | re.ASCII)


def _without_secrets(schema: dict[str, Any]) -> None:
    # Prefect keeps the parameters of a run in its database: it shall refuse a secret among them.
    for name in ("webhook", "apprise"):
        schema["properties"].pop(name)


class Settings(BaseSettings):
    """What a run may be told; every field is also an environment variable.

    Raises
    ------
    InvalidInput
        Names the setting, what was found and what is expected, in one line.

    Notes
    -----
    The URLs of the webhook and of Apprise are secrets.  They are not part of what is printed or
    dumped, so that a run that is started from stored parameters takes them from its own
    environment, or the webhook from the Prefect block whose name is stored.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_extra=_without_secrets,
    )

    scheduler: str | None = Field(None, description="address of an existing Dask scheduler")
    workers: int = Field(2, ge=1, description="workers of a cluster, or threads, made for the run")
    docs: Path | None = Field(None, description="folder of the Data Docs; none are written without")
    alerts: Path | None = Field(None, description="file that alerts are appended to, JSON lines")
    checks: Path | None = Field(
        None, description="Python file of checks of your own, beside those of installed packages"
    )
    webhook: SecretStr | None = Field(
        None,
        exclude=True,
        description="URL that alerts are posted to (Slack's form); a secret, never stored",
    )
    webhook_block: str | None = Field(
        None, description="name of a Prefect block of type Secret that holds the webhook's URL"
    )
    apprise: SecretStr | None = Field(
        None,
        exclude=True,
        description="Apprise URLs that alerts are sent to (mail, Slack, Teams, Matrix...), several "
        "as NAME=URL with blanks between; secrets, never stored",
    )
    channels: str | None = Field(
        None,
        description="alert channels of installed packages, by the names of their entry points in "
        "gnomon.alerts, with commas between",
    )
    compare: int = Field(
        2, ge=-1, description="captures compared with the source at each update; -1: all"
    )
    alpha: float = Field(0.001, gt=0, lt=1, description="rate of false discoveries of damage")
    refit_share: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="share of the capture interval that refits may take to be made whenever the "
        "captures have grown by 6 %; 0: only when something else makes one due",
    )
    target_confidence: float = Field(
        0.8, gt=0, lt=1, description="confidence below which the next update is due"
    )
    min_interval: timedelta = Field(
        timedelta(),
        ge=timedelta(),
        description="no update is due sooner after the last; such as PT10M",
    )
    max_interval: timedelta | None = Field(
        None, gt=timedelta(), description="no update is due later after the last; such as P1D"
    )
    publication_delay: timedelta | None = Field(
        None,
        ge=timedelta(),
        description="time from the valid time of a state until the source has it; default: learnt "
        "from when captures found it",
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidInput(_told(error)) from None

    @field_validator("docs", "alerts", "checks", mode="before")
    @classmethod
    def _is_here(cls, path: object) -> object:
        if is_url(str(path)):
            raise ValueError("expected a path on this machine, not a URL")
        return path

    @field_validator("docs", "alerts", "checks")
    @classmethod
    def _at_home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @field_validator("scheduler", "docs", "alerts", "checks", "webhook_block")
    @classmethod
    def _holds_no_secret(cls, value: Path | str | None) -> Path | str | None:
        kind = credential_in(str(value))
        if kind is not None:
            raise ValueError(
                f"it holds {kind}, and settings are stored with a run; leave that out (Dask reads "
                "certificates from its own configuration)"
            )
        return value

    @field_validator("webhook_block")
    @classmethod
    def _names_a_block(cls, name: str | None) -> str | None:
        if name is not None and not _BLOCK.fullmatch(name):
            raise ValueError(
                "expected the name of a Prefect block: lower-case letters, digits and dashes"
            )
        return name

    @field_validator("scheduler")
    @classmethod
    def _is_no_web_address(cls, address: str | None) -> str | None:
        if address is not None and address.lower().startswith(("http://", "https://")):
            raise ValueError("expected the address of a Dask scheduler, such as tcp://host:8786")
        return address

    @field_validator("webhook")
    @classmethod
    def _is_web_address(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook is not None:
            try:
                parts = urlsplit(webhook.get_secret_value())
            except ValueError:  # whose text may quote it
                raise ValueError("expected an http or https address") from None
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("expected an http or https address")
        return webhook

    @field_validator("apprise")
    @classmethod
    def _are_named_urls(cls, apprise: SecretStr | None) -> SecretStr | None:
        if apprise is not None:
            named_urls(apprise.get_secret_value())
        return apprise

    @field_validator("channels")
    @classmethod
    def _are_names(cls, channels: str | None) -> str | None:
        if channels is not None and not all(map(CHANNEL.fullmatch, channels.split(","))):
            raise ValueError("expected names of letters a-z with commas between, no blanks")
        return channels

    @model_validator(mode="after")
    def _are_in_order(self) -> Self:
        if self.max_interval is not None and self.min_interval > self.max_interval:
            raise ValueError(
                f"min_interval is {self.min_interval} and max_interval {self.max_interval}: "
                "expected a least that is not above the most"
            )
        return self

    def check_outputs(self) -> None:
        """Refuse paths that cannot be written, before a run begins.

        Raises
        ------
        InvalidInput
            Names the option and the path.
        """
        if self.docs is not None:
            check_docs(self.docs)
        if self.alerts is not None:
            check_output(f"--alerts ({PREFIX}ALERTS)", self.alerts)


def named_urls(text: str) -> dict[str, str]:
    """Return Apprise URLs by the name of their channel: ``apprise`` of one without a name.

    Raises
    ------
    ValueError
        Says what is wrong, and tells nothing of the text.
    """
    urls: dict[str, str] = {}
    for number, entry in enumerate(text.split(), start=1):
        parts = _APPRISE.fullmatch(entry)
        if parts is None:
            raise ValueError(f"entry {number} is no URL of Apprise: expected SCHEME://...")
        name = "apprise" if parts[1] is None else parts[1]
        if not CHANNEL.fullmatch(name):
            raise ValueError(f"entry {number} has no valid name: expected 1 to 32 letters a-z")
        if name in urls:
            raise ValueError(
                f"entry {number} has the name of another: expected NAME=URL, each with its own"
            )
        urls[name] = parts[2]
    if not urls:
        raise ValueError("expected URLs of Apprise, found blanks")
    return urls


def _told(error: ValidationError) -> str:
    """Return in one line what is wrong with settings; inputs that may be secret are hidden."""
    parts = []
    for problem in error.errors(include_url=False):
        if not problem["loc"]:
            parts.append(problem["msg"].removeprefix("Value error, "))
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            there = ", ".join(Settings.model_fields)
            parts.append(f"there is no setting {name!r}; there are {there}")
            continue
        value = HIDDEN if name in _SECRET else _shown(problem["input"])
        expected = problem["msg"].removeprefix("Value error, ")
        if problem["type"].startswith("time_delta"):
            expected = "expected a duration such as PT10M, P1D or 00:10:00"
        expected = expected[:1].lower() + expected[1:]
        parts.append(f"setting {name} ({PREFIX}{name.upper()}) is {value}: {expected}")
    return "; ".join(parts)


def _shown(value: object) -> str:
    if isinstance(value, Path):
        value = shown(value)
    if isinstance(value, timedelta):
        value = f"{value.total_seconds():g} s"
    # The path of a web address may be the secret of a webhook, set in place of something else; of
    # an Apprise URL all but the scheme.
    text = _WEB_PATH.sub(rf"\1{HIDDEN}", redacted(repr(value)))
    return text[:100]
