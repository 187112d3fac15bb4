"""What restores cost and how good they are: python -m benchmarks.restore PART SOURCE --variable V.

Each part is measured on any dataset that xarray opens; `--help` lists the parts.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file: the others are beside it
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.restoring import PARTS


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="part", required=True, metavar="PART")
    usages = []
    for module in PARTS:
        part = module.add_parser(subparsers)
        part.add_argument("source", metavar="SOURCE", help="a dataset that xarray opens")
        part.add_argument("--variable", required=True)
        part.add_argument("--json", action="store_true")
        part.set_defaults(run=module.run)
        usages.append(part.format_usage())
    parser.epilog = "".join(usages)
    options = parser.parse_args()
    options.run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
