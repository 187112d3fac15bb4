"""Why a variable of a source is not protected, in words that the log keeps."""

__all__ = ["NEW", "UNNAMED", "advice"]

UNNAMED = "not named"
"""The user named others."""
NEW = "new in the source"
"""It came after init."""


def advice(reason: str) -> str:
    """Return why a variable is not protected, and what to do."""
    if reason == NEW:
        return f"{reason}; 'gnomon add' takes it in"
    if reason == UNNAMED:
        return f"{reason} at init; 'gnomon add' takes it in"
    return reason
