"""The errors of Gnomon, by what a handler would do about them.

::

    GnomonError          1   something failed
    ├── InvalidInput     2   the caller asked for something that cannot be; change the request
    │   └── TargetFailed 2   a target of a restore failed, or kept other bytes; take another
    ├── NotFound         3   a source, repository, variable, time or object is not there
    ├── Conflict         4   another was first, or a target exists; read again or choose another
    ├── Integrity        5   bytes are not what was written; repair or restore from elsewhere
    ├── Unavailable      6   a store did not answer; try again later
    │   ├── Unreadable   6   of a source, some bytes are damaged; go on without them
    │   └── Moved        6   a source was changed while it was read; read it again
    └── Format           7   of a format that this Gnomon does not read, newer or too old

The number is the exit code of the command line.  Every text says what was found, what was
expected and what to do next, in one line, and tells no secret.
"""

from typing import ClassVar

from gnomon.storage.redaction import redacted

__all__ = [
    "Conflict",
    "Format",
    "GnomonError",
    "Integrity",
    "InvalidInput",
    "Moved",
    "NotFound",
    "TargetFailed",
    "Unavailable",
    "Unreadable",
]


class GnomonError(Exception):
    """Root of all errors that Gnomon raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *arguments: object) -> None:
        # Texts quote what a user or a library said, and that may be a URL with a password.
        super().__init__(*(redacted(a) if isinstance(a, str) else a for a in arguments))


class InvalidInput(GnomonError, ValueError):
    """The request cannot be met as it stands."""

    exit_code = 2


class TargetFailed(InvalidInput):
    """What a restore writes to failed, or gave back other bytes; the repository is well."""


class NotFound(GnomonError, LookupError):
    """What was named is not there."""

    exit_code = 3


class Conflict(GnomonError):
    """Another writer was first, or the target exists."""

    exit_code = 4


class Integrity(GnomonError):
    """Stored bytes are not what was written."""

    exit_code = 5


class Unavailable(GnomonError):
    """A store or a service did not answer."""

    exit_code = 6


class Unreadable(Unavailable):
    """A part of the source holds what nobody can decode; other parts may be well."""


class Moved(Unavailable):
    """The source was changed while it was read: its states may be of other times."""


class Format(GnomonError):
    """The repository is of a format that this version cannot read."""

    exit_code = 7
