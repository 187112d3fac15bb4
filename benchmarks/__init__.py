"""Commands that print the figures of README and docs, on any dataset."""
