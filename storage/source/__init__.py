"""The live dataset: opening it, and what is in it.  Knows no repository."""
