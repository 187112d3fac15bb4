"""The part of the Python API that heals what a user says is damaged."""

import xarray as xr

from gnomon.reading import decoded
from gnomon.storage.repository import Repository
from gnomon.storage.serve.view import raw_dataset
from gnomon.tasks.restoring.cells import Cells, heal_cells
from gnomon.tasks.restoring.locate import Match
from gnomon.tasks.restoring.request import StateRequest
from gnomon.tasks.restoring.selection import Wanted

__all__ = ["Healing"]


class Healing:
    """Methods that estimate cells that no check has found to be damaged."""

    _repository: Repository

    def heal(
        self,
        at: str,
        cells: Cells,
        variable: str | None = None,
        *,
        match: Match = "exact",
        capture: int | None = None,
        decode: bool = True,
    ) -> xr.Dataset:
        """Return a captured state with the damaged cells estimated from the others.

        All other cells are those that were captured, bit for bit, whatever a check says of them.
        ``<var>_provenance`` marks what is estimated, and ``<var>_standard_error`` says how well.

        Parameters
        ----------
        at
            Time of a capture, as for `dataset`.
        cells
            True, or 1, in the damaged cells, and false or 0 elsewhere: an array of the shape of one
            state, without time, or the path of a file with one (``.npy``, NetCDF or Zarr).  Or
            polygons around the centres of damaged cells, longitudes and latitudes in degrees: a
            GeoJSON object, or the path of a file with one (``.geojson``).
        variable
            The variable that is damaged; None: all that are forecast and have that shape, or, of
            polygons, longitudes and latitudes.
        match, capture, decode
            As for `dataset`.

        Raises
        ------
        NotFound
            There is no capture of that time, or it was not forecast before.
        InvalidInput
            The mask is none, has another shape, or marks no cell or all of them; the same of
            polygons.
        """
        wanted = Wanted.of(() if variable is None else variable)
        request = StateRequest(at, match=match, capture=capture, wanted=wanted)
        healed = heal_cells(self._repository, request, cells)
        raw = raw_dataset(healed.repository, healed.planes, notes=healed.point.attributes())
        return decoded(raw) if decode else raw
