"""The command line: thin commands over the Python API, by subject."""

from gnomon.cli.commands import app, main, start

__all__ = ["app", "main", "start"]
