"""What restores are worth on any dataset: python -m benchmarks.restore gap SOURCE --variable V."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import restoring

QUESTIONS = (restoring.gap,)


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    subparsers = parser.add_subparsers(dest="question", required=True)
    for question in QUESTIONS:
        question.add_parser(subparsers)
    parser.epilog = " ".join(p.format_usage() for p in subparsers.choices.values())
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
