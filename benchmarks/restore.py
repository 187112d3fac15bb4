"""What restores are worth, beside simpler systems: python -m benchmarks.restore TASK SOURCE ...

Each task is a module of `benchmarks/restoring/`; `python -m benchmarks.restore TASK --help` says
what it measures.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

if __name__ == "__main__" and not __package__:
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.restoring import band, chunk

TASKS = (chunk, band)


def main() -> None:
    """Run a task."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(required=True, metavar="TASK")
    for task in TASKS:
        task.add_parser(subparsers)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    main()
