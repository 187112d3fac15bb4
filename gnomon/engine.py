"""The xarray engine: ``xr.open_dataset("sst.gnomon", engine="gnomon", at="2010-09")``."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import xarray as xr
from xarray.backends import BackendEntrypoint

__all__ = ["GnomonBackendEntrypoint"]


class GnomonBackendEntrypoint(BackendEntrypoint):
    """Opens a restore point of a repository, lazily."""

    description = "Open a restore point of a Gnomon repository"
    open_dataset_parameters: ClassVar[tuple[str, ...]] = (
        "filename_or_obj",
        "drop_variables",
        "mask_and_scale",
        "decode_times",
        "concat_characters",
        "decode_coords",
        "use_cftime",
        "decode_timedelta",
        "at",
        "from_",
        "until",
        "match",
        "kind",
        "capture",
        "variable",
        "region",
        "chunk",
        "accept_predicted",
        "plain",
        "marks",
        "shadow",
        "reference",
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether this is the folder of a repository."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        return (Path(filename_or_obj) / "gnomon.json").is_file()

    def open_dataset(  # noqa: PLR0913 - what a user may settle, all keyword-only after the path
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        at: str | None = None,
        from_: str | None = None,
        until: str | None = None,
        match: Literal["exact", "nearest", "before"] = "exact",
        kind: str | None = None,
        capture: int | None = None,
        variable: str | Sequence[str] = (),
        region: str | Sequence[str] | Mapping[str, Any] | None = None,
        chunk: str | tuple[int, ...] | Sequence[str | tuple[int, ...]] = (),
        accept_predicted: bool = False,
        plain: bool = False,
        marks: bool = False,
        shadow: bool = False,
        reference: str | None = None,
        **decoding: Any,
    ) -> xr.Dataset:
        """Open the state of a time; the options are those of `GnomonRepository.dataset`.

        Without a time: all captured states of an append source, or with kind ``forecast`` all leads
        of the newest shadow along time.  With `shadow`: the shadow itself along its leads, that
        made at `reference` or else the newest, as `GnomonRepository.shadow_dataset` gives it.
        """
        from gnomon.reading import decoded
        from gnomon.repository import open_repository
        from gnomon.storage.errors import InvalidInput

        repository = open_repository(os.fspath(filename_or_obj))
        options: dict[str, Any] = {
            "from_": from_,
            "until": until,
            "match": match,
            "kind": kind,
            "capture": capture,
            "variable": variable,
            "region": region,
            "chunk": chunk,
            "plain": plain,
            "marks": marks,
        }
        if not shadow:
            if reference is not None:
                raise InvalidInput("reference names a shadow; ask for it with shadow=True")
            raw = repository.dataset(at, accept_predicted=accept_predicted, decode=False, **options)
        else:
            options |= {"at": at, "match": None if match == "exact" else match}
            given = sorted(name.rstrip("_") for name, value in options.items() if value)
            if given:
                raise InvalidInput(
                    "shadow=True opens all leads of one forecast, all of them predicted; choose it "
                    f"by its reference time with 'reference', and leave out {', '.join(given)}"
                )
            raw = repository.shadow_dataset(reference, decode=False)
        # From the undecoded dataset, whose attributes have the exact types.
        return decoded(raw, drop_variables=drop_variables, **decoding)
