"""Zarr groups as they are: metadata that was consolidated too early, appends that are half done."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import obstore
import xarray as xr
import zarr
from zarr.storage import ObjectStore

from gnomon.storage.errors import InvalidInput
from gnomon.storage.source.axes import is_timelike

__all__ = ["form_of", "open_whole_steps", "stale_arrays"]

_SHOWN = 8


def form_of(store: ObjectStore[Any], group: str | None) -> dict[str, Any]:
    """Return in which form a group in a bucket is stored, as options of xarray.

    Not told, Zarr and xarray ask for the metadata of every form, twice.  Of version 2, and of what
    is no group, nothing is returned.
    """
    name = f"{group.strip('/')}/zarr.json" if group else "zarr.json"
    try:
        document = json.loads(bytes(obstore.get(store.store, name).bytes()))
        is_consolidated = document.get("consolidated_metadata") is not None
    except (FileNotFoundError, ValueError, AttributeError):
        return {}
    return {"zarr_format": 3, "consolidated": is_consolidated}


def stale_arrays(group: Path) -> list[str] | None:
    """Return the arrays whose own metadata differ from the consolidated ones.

    None if nothing is consolidated.  A store that has no other metadata is believed.
    """
    try:
        if (group / ".zmetadata").exists():
            consolidated = _version_2(json.loads((group / ".zmetadata").read_text())["metadata"])
            name = ".zarray"
        else:
            whole = json.loads((group / "zarr.json").read_text()).get("consolidated_metadata")
            if whole is None:
                return None
            consolidated = _version_3(whole["metadata"])
            name = "zarr.json"
        arrays = {p.parent.name for p in group.glob(f"*/{name}") if _is_array(p)}
        if not arrays:
            return []
        documents = {
            n: _own(group / n, name) for n in arrays | {n for n in consolidated if "/" not in n}
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return sorted(n for n, document in documents.items() if consolidated.get(n) != document)


def _version_2(metadata: dict[str, Any]) -> dict[str, Any]:
    arrays = [key.removesuffix("/.zarray") for key in metadata if key.endswith("/.zarray")]
    return {
        n: _told(metadata[f"{n}/.zarray"]["shape"], metadata.get(f"{n}/.zattrs")) for n in arrays
    }


def _version_3(metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _told(document["shape"], document.get("attributes"))
        for name, document in metadata.items()
        if document.get("node_type") == "array"
    }


def _told(shape: list[int], attributes: dict[str, Any] | None) -> str:
    """Return what is compared, as text: NaN equals itself there."""
    return json.dumps([shape, attributes or {}], sort_keys=True)


def _is_array(document: Path) -> bool:
    return document.name == ".zarray" or json.loads(document.read_text())["node_type"] == "array"


def _own(array: Path, name: str) -> Any:
    """Return shape and attributes as an array itself tells them; None if it is gone."""
    if not (array / name).exists():
        return None
    document = json.loads((array / name).read_text())
    if name == "zarr.json":
        return _told(document["shape"], document.get("attributes"))
    attributes = array / ".zattrs"
    return _told(
        document["shape"], json.loads(attributes.read_text()) if attributes.exists() else None
    )


def open_whole_steps(
    store: Any, group: str | None, time: str | None, url: str, **options: Any
) -> xr.Dataset:
    """Open a group whose arrays have different lengths along time: the steps that all of them have.

    Parameters
    ----------
    time
        The time dimension; None: the one that differs, if it is called so.

    Raises
    ------
    InvalidInput
        They differ along another dimension.
    """
    lengths = _lengths(store, group)
    unlike = {d: sizes for d, sizes in lengths.items() if len(set(sizes.values())) > 1}
    for dim, sizes in unlike.items():
        if dim != time and not (time is None and _is_time(dim, store, group)):
            raise InvalidInput(
                f"the variables of source {url} differ in length along {dim!r}: "
                f"{_by_length(sizes)}; make them agree, or protect a group in which they do"
            )
    if not unlike:
        raise InvalidInput(f"the variables of source {url} do not fit together")
    (dim, sizes), *_ = unlike.items()
    least = min(sizes.values())
    names = {n for sizes in lengths.values() for n in sizes}
    parts = []
    for length in sorted(set(sizes.values())):
        without = [n for n, size in sizes.items() if size != length]
        if length != least:  # what does not lie along time is in the first part
            without += sorted(names - set(sizes))
        parts.append(xr.open_dataset(store, drop_variables=without, group=group, **options))
    whole = parts[0].assign({n: v for p in parts[1:] for n, v in _cut(p, dim, least).items()})
    whole.attrs, whole.encoding = parts[0].attrs, dict(parts[0].encoding)
    whole.encoding["notes"] = (
        f"the variables of the source differ in length along {dim!r}, as in the middle of an "
        f"append: {_by_length(sizes)}; the first {least} steps, which all of them have, are taken",
    )
    whole.set_close(lambda: _close(parts))
    return whole


def _cut(part: xr.Dataset, dim: str, least: int) -> dict[Any, xr.Variable]:
    cut = part.isel({dim: slice(0, least)})
    return {name: variable for name, variable in cut.variables.items() if dim in variable.dims}


def _close(parts: Iterable[xr.Dataset]) -> None:
    for part in parts:
        part.close()


def _by_length(sizes: dict[str, int]) -> str:
    by_size: dict[int, list[str]] = {}
    for name, size in sorted(sizes.items()):
        by_size.setdefault(size, []).append(name)
    return ", ".join(
        f"{size} in {', '.join(names[:_SHOWN])}" for size, names in sorted(by_size.items())
    )


def _lengths(store: Any, group: str | None) -> dict[str, dict[str, int]]:
    """Return by dimension how long each array is along it."""
    lengths: dict[str, dict[str, int]] = {}
    opened = zarr.open_group(store, mode="r", path=group or "", use_consolidated=False)
    for name, array in opened.arrays():
        dims: Any = getattr(array.metadata, "dimension_names", None)
        dims = dims or array.attrs.get("_ARRAY_DIMENSIONS") or ()
        for dim, size in zip(dims, array.shape, strict=False):
            lengths.setdefault(str(dim), {})[name] = size
    return lengths


def _is_time(dim: str, store: Any, group: str | None) -> bool:
    """Tell whether a dimension is called time, or has a coordinate that tells times."""
    if is_timelike(dim):
        return True
    opened = zarr.open_group(store, mode="r", path=group or "", use_consolidated=False)
    coordinate = opened.get(dim)
    units = "" if coordinate is None else str(coordinate.attrs.get("units", ""))
    return " since " in units or (
        isinstance(coordinate, zarr.Array) and coordinate.dtype.kind == "M"
    )
