"""Credentials stay out of what is stored and out of what is told of a failure.

They belong in the environment, where the client of a store finds them.
"""

import logging
import re
from collections.abc import Callable, Iterator
from functools import wraps

from obstore.exceptions import BaseError

from gnomon.storage.errors import GnomonError, InvalidInput, Unavailable
from gnomon.storage.redaction import credential_in, one_line, redacted
from gnomon.storage.values.model import SourceSpec

__all__ = ["ADVICE", "refuse_credentials", "refuse_in_source", "warn_of_secret", "without_secrets"]

logger = logging.getLogger(__name__)

ADVICE = (
    "put credentials into the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "AZURE_STORAGE_SAS_TOKEN, GOOGLE_APPLICATION_CREDENTIALS) or into the configuration of the "
    "library that reads there"
)
"""Where credentials belong."""

_STOPS = re.compile(r'[\s"<>]')
"""What ends a URL within a text; in a URL by itself it may be a part of a password."""


def refuse_credentials(what: str, text: str | None) -> None:
    """Refuse a URL or an option that holds a secret.

    Parameters
    ----------
    what
        What it is, for the message: ``the source``.

    Raises
    ------
    InvalidInput
        Says what kind of secret it holds, and where that belongs; never the secret.
    """
    if text is None:
        return
    text = _STOPS.sub("_", text)
    kind = credential_in(text)
    if kind is not None:
        raise InvalidInput(
            f"{what} {redacted(text)} holds {kind}, which would be stored and shown; leave it "
            f"out, and {ADVICE}"
        )


def refuse_in_source(spec: SourceSpec) -> None:
    """Refuse a source whose description holds a secret: it is stored for ever."""
    refuse_credentials("the source", spec.url)
    for name in ("engine", "group", "time", "coordinate", "branch", "tag", "snapshot"):
        refuse_credentials(f"the {name} of the source", getattr(spec, name))


def without_secrets[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Return the function; an error that tells a secret, or was caused by one that does, loses it.

    For the doors through which errors reach logs and databases: libraries put whole URLs into
    their texts, and a chain of errors is printed to its end.
    """

    @wraps(function)
    def guarded(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return function(*arguments, **named)
        except Exception as error:  # whatever the libraries below raise
            if not any(credential_in(_text(link)) for link in _chain(error)):
                raise
            clean = _cleansed(error).with_traceback(error.__traceback__)
        raise clean

    return guarded


def warn_of_secret(source: SourceSpec, name: str) -> None:
    """Tell of a secret in the settings: nothing can take it out, as every record rests on them.

    Parameters
    ----------
    name
        The object that holds the settings.
    """
    kind = credential_in(source.url)
    if kind is not None:
        logger.warning(
            "the source %s holds %s, and so does %s with its copy: whoever reads the repository "
            "reads it. Have it revoked, make a new repository without it, and %s",
            *(redacted(source.url), kind, name, ADVICE),
        )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that are printed with it."""
    link: BaseException | None = error
    ids: set[int] = set()
    while link is not None and id(link) not in ids:
        yield link
        ids.add(id(link))
        link = link.__cause__ or link.__context__


def _text(error: BaseException) -> str:
    return "\n".join([str(error), *map(str, error.args), *getattr(error, "__notes__", ())])


def _cleansed(error: Exception) -> GnomonError:
    """Return an error of the same meaning that tells no secret and has no cause."""
    if isinstance(error, GnomonError):
        return type(error)(str(error))
    text = f"{type(error).__name__}: {one_line(error)}"
    is_outage = isinstance(error, OSError | BaseError)
    return Unavailable(f"{text}; mend it and try again") if is_outage else GnomonError(text)
