"""The part of the Python API that gives the shadow itself: the forecast, lead by lead."""

from os import PathLike

import xarray as xr

from gnomon.progress import Progress, mapper_of
from gnomon.reading import decoded
from gnomon.storage.repository import Repository
from gnomon.storage.serve.view import raw_dataset
from gnomon.tasks.restoring.shadow import Exported, export_shadow, find_shadow, shadow_planes
from gnomon.tasks.restoring.targets.target import Target

__all__ = ["Forecasting"]


class Forecasting:
    """Methods that open and export a shadow."""

    _repository: Repository

    def shadow_dataset(self, reference: str | None = None, *, decode: bool = True) -> xr.Dataset:
        """Return a shadow as a lazy dataset along its leads; every chunk is verified when read.

        Along ``lead`` (CF ``forecast_period``, hours) lie the valid times, ``<var>`` and
        ``<var>_standard_error`` (its units), ``<var>_provenance`` (all ``forecast``, or ``missing``
        where nothing is predicted: values and errors are NaN there), ``<var>_confidence`` (0 to 1,
        the same for all cells of a chunk) and ``<var>_expected_error`` (RMSE, one per lead).
        ``forecast_reference_time`` is one for all.

        Parameters
        ----------
        reference
            When the forecast was made, ISO 8601, as partial as is unique; default: the newest.  Of
            older shadows those are there that no `prune` has removed.
        decode
            Decode CF times, scales and missing values; otherwise values are as they are packed.

        Raises
        ------
        NotFound
            There is no such shadow; the message says which there are.
        InvalidInput
            The time names several.
        """
        seen, shadow = find_shadow(self._repository, reference)
        planes, notes = shadow_planes(seen, shadow)
        raw = raw_dataset(seen, planes, by_lead=True, notes=notes)
        return decoded(raw) if decode else raw

    def export_shadow(
        self,
        to: str | PathLike[str] | Target,
        *,
        reference: str | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> Exported:
        """Write what :meth:`shadow_dataset` gives to a new dataset, and verify what was written.

        Parameters
        ----------
        to
            As for :meth:`GnomonRepository.restore`.
        workers
            Threads that write; default: from the settings.
        progress
            Called as the work goes on.

        Raises
        ------
        Conflict
            The target exists.
        NotFound, InvalidInput
            As for :meth:`shadow_dataset`; or nothing can be written there.
        Integrity
            A stored chunk is damaged; nothing is left of the target.
        """
        mapper = mapper_of("blocks", workers, progress)
        return export_shadow(self._repository, to, reference=reference, mapper=mapper)
