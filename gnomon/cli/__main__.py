"""``python -m gnomon.cli``."""

from gnomon.cli.commands import start

start()
