"""``python -m gnomon.cli``."""

from gnomon.cli.commands import main

main()
