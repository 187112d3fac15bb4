"""Every benchmark on one dataset: python -m benchmarks [SOURCE --variable V].

Default: the sea surface temperatures of the demo.
"""

import argparse
import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "bits",
    "skill",
    "calibration",
    "speed",
    "heal",
    "storage",
    "scale",
    "requests",
    "restore copy",
    "memory",
    "faults",
    "crashes",
)


def main() -> int:
    """Run them one after the other; the worst exit code is the answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--variable", default="surface_temperature")
    options = parser.parse_args()
    source = options.source
    if source is None:
        import iris_sample_data

        source = str(Path(iris_sample_data.path) / "ostia_monthly.nc")
    worst = 0
    for name in BENCHMARKS:
        print(f"\n== {name}", flush=True)
        module, *part = name.split()
        command = [sys.executable, "-m", f"benchmarks.{module}", *part, source]
        command += ["--variable", options.variable]
        worst = max(worst, subprocess.run(command, check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
