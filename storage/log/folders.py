"""The folders of a commit: where its captures, shadow, patches, forecaster's state and statistics
are.

The names are written here, and taken apart in :mod:`gnomon.storage.care`.
"""

from collections.abc import Sequence

from gnomon.storage.values.model import Variable

__all__ = [
    "GROUPS",
    "LATER",
    "captured_statistics",
    "captures_of",
    "frame_of",
    "is_later",
    "is_mark",
    "ledger_of",
    "patches_of",
    "predicted_statistics",
    "replaced_of",
    "shadow_of",
    "state_of",
]

GROUPS = ("captures", "shadows", "patches", "forecaster", "ledger", "frame", "replaced")
"""What a commit writes below folders of its name; copies of captures' indices apart."""
LATER = "_later"
"""How the names of arrays end that hold those leads of a shadow that newer ones supersede."""


def captures_of(commit: str, variable: Variable) -> str:
    """Return the folder of the captured states of a variable."""
    return f"captures/{commit}/{variable.folder}"


def shadow_of(commit: str, variable: Variable | None = None) -> str:
    """Return the folder of the predicted states of a variable; None: of all of them."""
    return "/".join(["shadows", commit, *([variable.folder] if variable else [])])


def is_later(parts: Sequence[str]) -> bool:
    """Tell whether an object below a shadow's folder holds leads that newer shadows supersede."""
    return len(parts) > 1 and parts[1].endswith(LATER)


def patches_of(commit: str, variable: Variable) -> str:
    """Return the folder of the estimated chunks of a variable."""
    return f"patches/{commit}/{variable.folder}"


def state_of(commit: str, variable: Variable | None = None) -> str:
    """Return the folder of the forecaster's state of a variable; None: of all of them."""
    return "/".join(["forecaster", commit, *([variable.folder] if variable else [])])


def ledger_of(commit: str) -> str:
    """Return the folder of the statistics."""
    return f"ledger/{commit}"


def captured_statistics(variable: Variable) -> str:
    """Return the name, in the ledger, of the statistics of a variable's captures."""
    return f"actual-{variable.folder}"


def predicted_statistics(variable: Variable) -> str:
    """Return the name, in the ledger, of the statistics of a variable's predictions."""
    return f"prediction-{variable.folder}"


def frame_of(commit: str) -> str:
    """Return the folder of the variables that do not change."""
    return f"frame/{commit}"


def replaced_of(commit: str) -> str:
    """Return the folder of what a rollback has replaced in a live dataset."""
    return f"replaced/{commit}"


def is_mark(parts: Sequence[str]) -> bool:
    """Tell whether an object below that folder says which cells a rollback wrote as estimates."""
    return [*parts[:1]] in (["objects.json.gz"], ["estimates"])
