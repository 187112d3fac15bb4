"""The numerics of healing: estimating what is lost from what is intact.  Knows no repository."""
