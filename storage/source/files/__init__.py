"""Many files as one source."""
