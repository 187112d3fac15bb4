"""The genesis: the settings that a repository begins with, as ``gnomon.json`` has them."""

import json

from gnomon.storage.errors import Conflict, Integrity, InvalidInput
from gnomon.storage.log.credentials import warn_of_secret
from gnomon.storage.log.location import Location
from gnomon.storage.values.documents import NONSENSE, parse
from gnomon.storage.values.model import RepositorySettings

__all__ = ["SETTINGS", "encode_settings", "parse_settings", "refuse_overwriting"]

SETTINGS = "gnomon.json"


def encode_settings(settings: RepositorySettings) -> bytes:
    """Return the document of settings, or raise :class:`InvalidInput` if it could not be read."""
    try:
        document = json.dumps(settings.to_json(), indent=1, allow_nan=False).encode()
        RepositorySettings.from_json(parse(document))
    except NONSENSE as error:
        raise InvalidInput(f"such a dataset cannot be protected: {error}") from error
    return document


def parse_settings(location: Location, name: str, document: bytes) -> RepositorySettings:
    """Return the settings that a document holds, or raise :class:`Integrity`.

    Parameters
    ----------
    name
        Of the object that holds it: the settings, or their copy.
    """
    try:
        settings = RepositorySettings.from_json(parse(document))
    except NONSENSE as error:
        raise Integrity(
            f"{location.url}/{name} is damaged ({type(error).__name__}: {str(error)[:200]}); "
            "restore it from a copy of the repository"
        ) from error
    warn_of_secret(settings.source, SETTINGS)
    return settings


def refuse_overwriting(location: Location) -> None:
    """Refuse a store that overwrites settings: two writers would lose commits in silence."""
    try:
        location.create(SETTINGS, b"a second writer")
    except Conflict:
        return
    raise InvalidInput(
        f"{location.url} does not honour put-if-absent, so commits could be lost; use a store that "
        "does (S3 with conditional writes, GCS, Azure, a local folder)"
    )
