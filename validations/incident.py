"""An incident, and its JSON form: reading one needs no table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gnomon.storage.errors import Format
from gnomon.validations.expectations import Severity

__all__ = ["Incident"]

VERSION = 1


@dataclass(frozen=True, slots=True)
class Incident:
    """Touching chunks of one variable at one time that went wrong together."""

    variable: str
    """Name of the variable."""
    valid_time: str
    """Time the state is of, ISO 8601."""
    chunks: tuple[str, ...]
    """Places in the chunk grid, as in ``0/3``, in the order of the grid."""
    expectations: tuple[str, ...]
    """Names of all expectations that one of them violates, sorted."""
    severity: Severity
    """The worst finding of each chunk has this severity."""
    suspected_cause: str
    """The cause that most of the chunks suggest; a guess."""

    def to_json(self) -> dict[str, Any]:
        """Return strict JSON values."""
        return {
            "version": VERSION,
            "variable": self.variable,
            "valid_time": self.valid_time,
            "chunks": list(self.chunks),
            "expectations": list(self.expectations),
            "severity": self.severity,
            "suspected_cause": self.suspected_cause,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Incident":
        """Read back what :meth:`to_json` returned.

        Raises
        ------
        Format
            Another version, or not an incident.
        """
        fields = dict(data)
        if (version := fields.pop("version", None)) != VERSION:
            raise Format(
                f"the incident has version {version}, this program reads {VERSION}; upgrade gnomon"
            )
        try:
            fields["chunks"] = tuple(fields["chunks"])
            fields["expectations"] = tuple(fields["expectations"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise Format(f"this is not an incident ({error}); validate the table again") from error
