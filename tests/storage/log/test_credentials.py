"""Credentials are refused where they would be stored, and hidden where they are already."""

import json
import logging
import pickle
import traceback
from functools import partial
from pathlib import Path

import pytest

import gnomon
from gnomon.hindcasting import hindcast
from gnomon.repository import open_repository
from gnomon.storage.errors import GnomonError, Integrity, InvalidInput, NotFound, Unavailable
from gnomon.storage.log.credentials import without_secrets
from gnomon.storage.log.genesis import SETTINGS
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES
from gnomon.storage.repository import _OPENED, Repository
from gnomon.storage.source.opening import open_source, source_path
from gnomon.storage.values.model import SourceSpec
from gnomon.tasks.work import serial
from tests import sources
from tests.storage.test_redaction import SECRETS

SECRET = "wJalrXUtnFEMI"
URLS = [text for text in SECRETS.values() if "://" in text and " " not in text]


@pytest.mark.parametrize("url", URLS)
def test_a_source_with_a_secret_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="put credentials into the environment") as refusal:
        gnomon.create(str(tmp_path / "r"), url)
    assert "Xut" not in str(refusal.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("url", URLS)
def test_a_place_with_a_secret_is_refused(url: str, tmp_path: Path) -> None:
    for ask in (Location, open_repository, lambda u: gnomon.create(u, "source.zarr")):
        with pytest.raises(InvalidInput) as refusal:
            ask(url)
        assert "Xut" not in str(refusal.value)


@pytest.mark.parametrize("letter", ['"', "<", ">", " ", "'", "\t", "/", "?", "#", ":", "@", "%"])
def test_no_letter_of_a_password_lets_it_pass(letter: str, tmp_path: Path) -> None:
    for url in (f"s3://AK:Xut{letter}nFE@bucket/x", f"https://host/x?sig=Xut{letter}nFE"):
        with pytest.raises(InvalidInput, match="credentials into the environment") as refusal:
            gnomon.create(str(tmp_path / "r"), url)
        assert "Xut" not in str(refusal.value)
        assert "nFE" not in str(refusal.value) or letter in "#"


@pytest.mark.parametrize("option", ["engine", "group", "time"])
def test_an_option_with_a_secret_is_refused(option: str, tmp_path: Path) -> None:
    source = tmp_path / "source.zarr"
    sources.write(source, sources.temperature(3))
    with pytest.raises(InvalidInput, match=f"the {option} of the source") as refusal:
        gnomon.create(
            str(tmp_path / "r"),
            str(source),
            **{option: f"x?token={SECRET}"},  # type: ignore[arg-type]
        )
    assert SECRET not in str(refusal.value)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "url", ["ssh://me@host/x.nc", "abfs://container@account.dfs.core.windows.net/x.zarr"]
)
def test_a_name_that_is_no_secret_is_not_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(GnomonError) as error:
        gnomon.create(str(tmp_path / "r"), url)
    assert "credentials into the environment (" not in str(error.value)
    assert "@" in str(error.value)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of before, with a secret in the URL of its source."""
    source, place = tmp_path / "source.zarr", tmp_path / "r"
    sources.write(source, sources.temperature(4))
    bare = source_path(str(source))
    monkeypatch.chdir(tmp_path)
    url = f"https://me:{SECRET}@127.0.0.1:9/x.zarr?sig={SECRET}"
    with monkeypatch.context() as patch:
        patch.setattr("gnomon.storage.repository.refuse_in_source", lambda _: None)
        patch.setattr("gnomon.creation.refuse_in_source", lambda _: None)
        patch.setattr("gnomon.creation.source_path", lambda _: url)
        patch.setattr(
            "gnomon.creation.open_source",
            lambda spec: open_source(SourceSpec(bare, spec.kind, spec.time)),
        )
        gnomon.create(str(place), "source")
    assert SECRET in (place / SETTINGS).read_text()
    assert SECRET in (place / COPIES / SETTINGS).read_text()
    _OPENED.clear()
    return place


def test_a_repository_of_before_opens_with_a_warning(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        repository = open_repository(str(old))
    (record,) = caplog.records
    assert "https://***@127.0.0.1:9/x.zarr?sig=***" in record.getMessage()
    assert "revoked" in record.getMessage()
    shown = [
        caplog.text,
        repr(repository),
        str(repository.status()),
        repr(repository.stored.settings),
        repr(repository.stored),
    ]
    assert repository.status()["source"] == "https://***@127.0.0.1:9/x.zarr?sig=***"
    for text in shown:
        assert SECRET not in text


@pytest.mark.parametrize("work", ["update", "backfill", "hindcast"])
def test_a_repository_of_before_fails_without_telling(
    old: Path, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnomon.storage.source.opening.RETRIES", {"max_retries": 0})
    repository = open_repository(str(old))
    url = repository.stored.settings.source.url
    run = partial(hindcast, url, "sst") if work == "hindcast" else getattr(repository, work)
    with pytest.raises(Unavailable) as failure:
        run()
    assert SECRET not in "".join(traceback.format_exception(failure.value))
    assert SECRET not in "".join(str(r) for r in Repository.open(str(old)).records)


def test_a_new_era_does_not_store_it_again(old: Path) -> None:
    with pytest.raises(InvalidInput, match="leave it out"):
        open_repository(str(old)).update(new_era=True)


# What errors tell. -----------------------------------------------------------------------------

URL = f"https://me:{SECRET}@host/x"


def _raw() -> None:
    raise OSError(f"cannot connect to {URL}")


def _chained() -> None:
    try:
        _raw()
    except OSError as error:
        raise RuntimeError("it failed") from error


def _noted() -> None:
    error = KeyError("x")
    error.add_note(f"while reading {URL}")
    raise error


def _ours() -> None:
    try:
        _raw()
    except OSError as error:
        raise Integrity(f"damaged: {URL}") from error


@pytest.mark.parametrize(
    ("fail", "kind"),
    [(_raw, Unavailable), (_chained, GnomonError), (_noted, GnomonError), (_ours, Integrity)],
)
def test_an_error_is_told_without_its_secrets(fail: object, kind: type[Exception]) -> None:
    assert callable(fail)
    with pytest.raises(kind) as failure:
        without_secrets(fail)()
    assert type(failure.value) is kind
    assert SECRET not in "".join(traceback.format_exception(failure.value))
    assert "in _" in "".join(traceback.format_exception(failure.value)), "where is still told"
    with pytest.raises(kind):
        serial(lambda _: fail(), [0])


def test_an_error_without_a_secret_is_left_as_it_is() -> None:
    error = OSError(28, "No space left on device")

    def fail() -> None:
        raise error

    with pytest.raises(OSError, match="No space") as failure:
        without_secrets(fail)()
    assert failure.value is error


@pytest.mark.parametrize("kind", [InvalidInput, NotFound, Integrity, GnomonError])
def test_errors_hide_what_their_texts_quote(kind: type[GnomonError]) -> None:
    error = kind(f"cannot read {URL}")
    assert str(error) == "cannot read https://***@host/x"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_secret_is_hidden_before_a_text_is_cut(tmp_path: Path) -> None:
    long = f"{'x' * 180} https://me:{SECRET}@host/x"

    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError(long)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xarray.open_dataset", fail)
        for length in range(150, 200):
            long = f"{'x' * length} https://me:{SECRET}@host/x"
            with pytest.raises(NotFound) as failure:
                open_source(SourceSpec("https://host/x.nc", "append"))
            assert SECRET[:4] not in str(failure.value)


# Paths of sources. -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["source.zarr", "./source.zarr", "~/source.zarr", "file://{}"])
def test_a_path_is_kept_whole(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source.zarr"
    sources.write(source, sources.temperature(4))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    gnomon.create("r", form.replace("{}", str(source)))
    stored = json.loads((tmp_path / "r" / SETTINGS).read_text())
    assert stored["source"]["url"] == str(source)
    monkeypatch.chdir("/")
    assert len(open_repository(str(tmp_path / "r")).update().captured) == 4


@pytest.mark.parametrize("url", ["s3://bucket/x.zarr", "https://host/x.nc", "memory://x"])
def test_a_url_is_kept_as_it_is(url: str) -> None:
    assert source_path(url) == url
