"""How good restored states are: python -m benchmarks.restore PART SOURCE --variable V.

Each part is a file in benchmarks/restoring/, and goes through the public API on any dataset.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.restoring import simulate

PARTS = (simulate,)


def main() -> None:
    """Run the part that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(required=True, metavar="PART")
    for part in PARTS:
        part.add_parser(subparsers)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    main()
