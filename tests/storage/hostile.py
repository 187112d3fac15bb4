"""Repositories as an attacker would make them: any field is any value, and all hashes fit."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon.storage.log import gz
from gnomon.storage.log.records import COPIES, _seal, content_hash, record_name
from gnomon.storage.log.staging import object_hash

PLACE = "@@ here @@"
NASTY: dict[str, str] = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "a negative number": "-1",
    "a large number": str(2**62),
    "a huge number": str(2**70),
    "a number of many digits": "9" * 5000,
    "a fraction": "0.5",
    "a large fraction": "1e308",
    "beyond floats": "1e999",
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "nothing": '""',
    "a word": '"x"',
    "a name that leads out": '"../../../etc/passwd"',
    "a name with a zero": '"a\\u0000b"',
    "half a character": '"\\ud800"',
    "a long text": '"' + "hours since 2000-01-01 " * 220_000 + '"',
    "a list": "[]",
    "a list of lists": "[[1], [2]]",
    "a list of large numbers": "[1099511627776, 1099511627776]",
    "an object": "{}",
    "an object in an object": '{"x": {"y": {}}}',
    "a key twice": '{"x": 1, "x": 2}',
    "depth": "[" * 10_000 + "]" * 10_000,
    "deep objects": '{"a":' * 3_000 + "1" + "}" * 3_000,
    "some depth": "[" * 90 + "]" * 90,
    "millions": "[" + "0," * 3_000_000 + "0]",
}
"""JSON as it stands in the file."""

Step = str | int


@dataclass(frozen=True, slots=True)
class Mutation:
    """One field of one document that is another value."""

    document: str
    """Name of the object; of a log record ``log/<n>``."""
    path: tuple[Step, ...]
    what: str
    """Key of `NASTY`, or ``gone``."""
    fitting: bool
    """Whether all hashes are made to fit."""

    def __str__(self) -> str:
        hashes = "" if self.fitting else ", hashes left"
        return f"{self.document} {'/'.join(map(str, self.path))}: {self.what}{hashes}"


def paths(value: Any, above: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """Yield every place in a document; of lists the first and the last item."""
    yield above
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*above, key))
    elif isinstance(value, list):
        for k in sorted({0, len(value) - 1} if value else set()):
            yield from paths(value[k], (*above, k))


def stored(value: Any) -> bytes:
    """Return JSON as the log has it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def changed(value: Any, path: tuple[Step, ...], what: str) -> bytes:
    """Return a document with one field replaced, or gone."""
    copy = json.loads(json.dumps(value))
    if not path:
        return NASTY.get(what, "").encode()
    holder = copy
    for step in path[:-1]:
        holder = holder[step]
    if what == "gone":
        del holder[path[-1]]
    else:
        holder[path[-1]] = PLACE
    return stored(copy).replace(stored(PLACE), NASTY.get(what, "").encode())


class Forge:
    """A sound repository, and what an attacker makes of it."""

    def __init__(self, sound: Path) -> None:
        self.sound = sound
        logs = sorted((sound / "log").iterdir())
        self.settings = json.loads((sound / "gnomon.json").read_bytes())
        self.records = [json.loads(p.read_bytes()) for p in logs]
        names = [p.relative_to(sound).as_posix() for p in sorted(sound.rglob("*")) if p.is_file()]
        self.tables = [n for n in names if n.endswith("zarr.json") and not n.startswith(COPIES)]
        self.manifests = [n for n in names if n.startswith("manifests/")]

    def mutations(self) -> Iterator[Mutation]:
        """Yield every mutation of every document."""
        for fitting in (True, False):
            for document, value in self._documents():
                skipped = {"sha256", "parent", "version", "nonce"} if fitting else set()
                for path in paths(value):
                    if document.startswith("log/") and path and path[0] in skipped:
                        continue
                    for what in (*NASTY, "gone"):
                        yield Mutation(document, path, what, fitting)

    def _documents(self) -> Iterator[tuple[str, Any]]:
        yield "gnomon.json", self.settings
        for number, record in enumerate(self.records):
            yield f"log/{number}", record
        for name in self.tables:
            yield name, json.loads((self.sound / name).read_bytes())
        for name in self.manifests:
            yield name, json.loads(gz.unpack((self.sound / name).read_bytes(), 2**30))

    def make(self, mutation: Mutation, target: Path) -> None:
        """Write the mutated repository, in the place of what was there."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.sound, target)
        document = mutation.document
        if document == "gnomon.json":
            data = changed(self.settings, mutation.path, mutation.what)
            self._put(target, document, data)
            if mutation.fitting:
                self._chain(target, data, {})
        elif document.startswith("log/"):
            number = int(document.removeprefix("log/"))
            fields = {k: v for k, v in self.records[number].items() if k != "sha256"}
            if mutation.fitting:
                data = changed(fields, mutation.path, mutation.what)
                self._chain(target, (target / "gnomon.json").read_bytes(), {number: data})
            else:
                data = changed(self.records[number], mutation.path, mutation.what)
                self._put(target, record_name(number), data)
        elif document in self.manifests:
            old = json.loads(gz.unpack((self.sound / document).read_bytes(), 2**30))
            data = gz.pack(changed(old, mutation.path, mutation.what))
            self._put(target, document, data)
            if mutation.fitting:
                self._manifest(target, document, data)
        else:
            old = json.loads((self.sound / document).read_bytes())
            data = changed(old, mutation.path, mutation.what)
            self._put(target, document, data)
            if mutation.fitting:
                self._listed(target, document, data)

    def edited(self, target: Path, edit: Callable[[Any, list[Any]], None]) -> None:
        """Write the repository with settings and records edited in place, all hashes fitting."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.sound, target)
        settings, records = json.loads(json.dumps([self.settings, self.records]))
        edit(settings, records)
        data = json.dumps(settings).encode()
        self._put(target, "gnomon.json", data)
        forged = {}
        for number, record in enumerate(records):
            fields = {k: v for k, v in record.items() if k != "sha256"}
            forged[number] = stored(fields)
        self._chain(target, data, forged)

    def _put(self, target: Path, name: str, data: bytes) -> None:
        """Write an object, and its copy if it has one."""
        for place in (name, COPIES + name):
            if (target / place).exists():
                (target / place).write_bytes(data)

    def _listed(self, target: Path, name: str, data: bytes) -> None:
        """Let the manifest say what an object is now."""
        (manifest,) = (m for m in self.manifests if name.split("/")[1] in m)
        entries = json.loads(gz.unpack((target / manifest).read_bytes(), 2**30))
        for place in (name, COPIES + name):
            if place in entries:
                entries[place] = [len(data), object_hash(data)]
        packed = gz.pack(json.dumps(entries).encode())
        self._put(target, manifest, packed)
        self._manifest(target, manifest, packed)

    def _manifest(self, target: Path, manifest: str, data: bytes) -> None:
        """Let the log say what a manifest is now."""
        folder = manifest.removeprefix("manifests/").removesuffix(".json.gz")
        made = {}
        for number, record in enumerate(self.records):
            if record["body"].get("id") == folder:
                fields = {k: v for k, v in record.items() if k != "sha256"}
                body = {**fields["body"], "manifest": content_hash(data)}
                made[number] = stored(fields | {"body": body})
        self._chain(target, (target / "gnomon.json").read_bytes(), made)

    def _chain(self, target: Path, settings: bytes, forged: dict[int, bytes]) -> None:
        """Write the log anew, so that every hash fits."""
        parent = content_hash(settings)
        for number, record in enumerate(self.records):
            fields = {k: v for k, v in record.items() if k != "sha256"}
            data = forged.get(number) or stored(fields)
            data = data.replace(json.dumps(record["parent"]).encode(), f'"{parent}"'.encode(), 1)
            head = data.removesuffix(b"}")
            whole = head + _seal(head)
            self._put(target, record_name(number), whole)
            parent = content_hash(whole)
