"""The commit log: where it lies, its records, and the history that they add up to."""
