"""A process of the command line has one heap, whatever the number of its threads."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gnomon.cli import memory

PROGRAM = """
import ctypes, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from gnomon.cli import memory

if sys.argv[1] == "foreign":
    memory.ctypes.CDLL = lambda name: object()
if sys.argv[1] != "usual":
    memory.settle_memory()
together = Barrier(4)

def work(number):
    together.wait()
    kept = [bytes(1000 + number) for _ in range(1000)]
    together.wait()
    return len(kept)

with ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(work, range(4))) == 4000
ctypes.cdll.LoadLibrary("libc.so.6").malloc_stats()
"""


def heaps(how: str, **environment: str) -> int:
    """Return how many heaps a process with four threads has."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": root} | environment,
    )
    return done.stderr.count("Arena ")


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="no C library with several heaps"
)
def test_threads_share_a_heap() -> None:
    assert heaps("usual") > 1
    assert heaps("foreign") > 1
    assert heaps("shared") == 1
    assert heaps("shared", MALLOC_ARENA_MAX="2") == 2


def test_large_blocks_stay_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    settled: dict[int, int] = {}
    library = SimpleNamespace(mallopt=settled.__setitem__)
    monkeypatch.setattr("ctypes.CDLL", lambda _name: library)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    memory.settle_memory()
    assert settled[-3] == 2**25
    assert -1 not in settled
