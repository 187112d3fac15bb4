"""The xarray engine: ``xr.open_dataset("sst.gnomon", engine="gnomon", at="2010-09")``."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import xarray as xr
from xarray.backends import BackendEntrypoint, StoreBackendEntrypoint, ZarrStore

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
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether this is the folder of a repository."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        return (Path(filename_or_obj) / "gnomon.json").is_file()

    def open_dataset(  # noqa: PLR0913 - what a user may settle, all keyword-only
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
        **decoding: Any,
    ) -> xr.Dataset:
        """Open the state of a time; the options are those of `GnomonRepository.dataset`.

        Without a time: all captured states of an append source, or with kind ``forecast`` all leads
        of the newest shadow.
        """
        from gnomon.repository import open_repository
        from gnomon.storage.serve.view import chunked_as_source

        repository = open_repository(os.fspath(filename_or_obj))
        store = repository.reading_store(
            at,
            from_=from_,
            until=until,
            match=match,
            kind=kind,
            capture=capture,
            variable=variable,
            region=region,
            chunk=chunk,
            accept_predicted=accept_predicted,
            plain=plain,
            marks=marks,
        )
        zarr_store = ZarrStore.open_group(store, mode="r", consolidated=False)
        dataset = StoreBackendEntrypoint().open_dataset(
            zarr_store, drop_variables=drop_variables, **decoding
        )
        return chunked_as_source(dataset, store)
