"""Hindcasts: what a repository would have forecast of a record, and how well.  Knows none."""
