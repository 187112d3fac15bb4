"""The inventory: every object that a repository should hold, with its size and hash.

It is read from the manifests of the commits; what was pruned since is left out.  Log records,
their copies and checkpoints are not in it: they vouch for themselves.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gnomon.storage.errors import Integrity, NotFound
from gnomon.storage.log.bodies.body import Header
from gnomon.storage.log.bodies.care import RepairBody
from gnomon.storage.log.folders import GROUPS, is_later, is_mark
from gnomon.storage.log.history import History
from gnomon.storage.log.location import Location
from gnomon.storage.log.records import COPIES, Record
from gnomon.storage.log.staging import Entry, load_manifest, manifest_name
from gnomon.storage.repository import Repository
from gnomon.storage.values.documents import NONSENSE

__all__ = ["Inventory", "take_inventory"]


@dataclass(slots=True)
class Inventory:
    """What a repository should hold."""

    objects: dict[str, Entry] = field(default_factory=dict)
    """Size and hash by name."""
    manifests: dict[str, str] = field(default_factory=dict)
    """SHA-256 by name, of manifests and their copies."""
    damaged: dict[str, str] = field(default_factory=dict)
    """What is wrong with a manifest, by name."""


def take_inventory(repository: Repository) -> Inventory:
    """Return what the repository should hold, reading every manifest and its copy."""
    inventory = Inventory()
    for state in repository.eras:
        for folder, sequence in state.folders.items():
            name = manifest_name(folder)
            expected = str(Header.from_json(repository.records[sequence].body).manifest)
            entries: dict[str, Entry] | None = None
            for place in (name, COPIES + name):
                inventory.manifests[place] = expected
                try:
                    entries = _read(repository.location, place, expected)
                except Integrity as error:
                    inventory.damaged[place] = str(error)
            if entries is None:
                continue
            inventory.objects |= {n: e for n, e in entries.items() if is_expected(state, folder, n)}
    for record in repository.records:
        if record.kind == "repair":
            inventory.objects |= {n: e for n, e in _restated(record) if n in inventory.objects}
    return inventory


def _restated(record: Record) -> Iterator[tuple[str, Entry]]:
    """Yield the objects that a repair has packed in another way."""
    try:
        yield from RepairBody.from_json(record.body).objects.items()
    except NONSENSE as error:
        raise Integrity(
            f"log record {record.sequence} (repair) does not hold what it should "
            f"({type(error).__name__}: {str(error)[:200]}); the repository was tampered with, "
            "restore it from a copy"
        ) from error


def _read(location: Location, name: str, expected: str) -> dict[str, Entry]:
    try:
        return load_manifest(location.read(name), expected, name)
    except NotFound as error:
        raise Integrity(f"{name} is missing; run 'gnomon repair'") from error


def is_expected(state: History, folder: str, name: str) -> bool:
    """Tell whether an object of a commit was not pruned."""
    parts = name.removeprefix(COPIES).split("/")
    if parts[0] == "captures":
        # captures/<id>/<variable>/residual/c/<local>/...
        if len(parts) > 5 and parts[3:5] == ["residual", "c"]:
            position = parts[5]
            return position.isdecimal() and (folder, int(position[:20])) in state.places
        return folder in state.written
    expected = {
        "forecaster": folder in state.forecasters,
        "shadows": any(shadow.id == folder for shadow in state.shadows)
        and not (folder in state.superseded and is_later(parts[2:])),
        "patches": any(patches.id == folder for patches in state.patches.values()),
        "frame": name in state.frames,
        "replaced": folder in state.replaced or (folder in state.marked and is_mark(parts[2:])),
    }
    return expected.get(parts[0], True)


def folder_of(name: str) -> str | None:
    """Return the commit, or the frame, whose object a name is; None for log and the like."""
    parts = name.removeprefix(COPIES).split("/")
    if parts[0] == "manifests" and len(parts) == 2:
        return parts[1].removesuffix(".json.gz")
    return parts[1] if len(parts) > 2 and parts[0] in GROUPS else None


def frames(eras: Iterable[History]) -> set[str]:
    """Return the folders under ``frame/`` that eras name."""
    return {state.settings.frame.removeprefix("frame/") for state in eras}


def unreferenced(repository: Repository, there: dict[str, int]) -> Iterator[str]:
    """Yield the objects of `there` that no commit names: left by a crash, or being written."""
    folders = {folder for state in repository.eras for folder in state.folders}
    folders |= frames(repository.eras)
    for name in there:
        folder = folder_of(name)
        if folder is not None and folder not in folders:
            yield name
