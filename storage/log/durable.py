"""Durable: what is written survives a loss of power once it is forced to the disk."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["force", "force_name", "force_tree"]


def force_tree(path: Path) -> None:
    """Force a file, or a folder and all that is in it, to the disk."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    folders = {p for p in paths if p.is_dir()}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(force, (p for p in paths if p not in folders)))
        list(pool.map(force, folders))


def force_name(path: Path) -> None:
    """Force the name of a file or folder to the disk."""
    force(path.absolute().parent)


def force(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
