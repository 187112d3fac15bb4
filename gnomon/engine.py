"""The xarray engine: ``xr.open_dataset("sst.gnomon", engine="gnomon", at="2010-09")``."""

import os
from collections.abc import Iterable
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
        "match",
        "kind",
        "capture",
        "accept_predicted",
        "plain",
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
        match: Literal["exact", "nearest", "before"] = "exact",
        kind: str | None = None,
        capture: int | None = None,
        accept_predicted: bool = False,
        plain: bool = False,
        shadow: bool = False,
        reference: str | None = None,
        **decoding: Any,
    ) -> xr.Dataset:
        """Open the state of a time; the options are those of `GnomonRepository.dataset`.

        Without `at`: all captured states of an append source, or with kind ``forecast`` all leads
        of the newest shadow along time.  With `shadow`: the shadow itself along its leads, that
        made at `reference` or else the newest, as `GnomonRepository.shadow_dataset` gives it.
        """
        from gnomon.reading import decoded
        from gnomon.repository import open_repository
        from gnomon.storage.errors import InvalidInput

        repository = open_repository(os.fspath(filename_or_obj))
        if not shadow:
            if reference is not None:
                raise InvalidInput("reference names a shadow; ask for it with shadow=True")
            raw = repository.dataset(
                at,
                match=match,
                kind=kind,
                capture=capture,
                accept_predicted=accept_predicted,
                plain=plain,
                decode=False,
            )
        else:
            if (at, match, kind, capture, plain) != (None, "exact", None, None, False):
                raise InvalidInput(
                    "shadow=True opens all leads of one forecast, all of them predicted; choose it "
                    "by its reference time with 'reference', and leave out at, match, kind, "
                    "capture and plain"
                )
            raw = repository.shadow_dataset(reference, decode=False)
        # From the undecoded dataset, whose attributes have the exact types.
        return decoded(raw, drop_variables=drop_variables, **decoding)
