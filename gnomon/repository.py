"""The Python API: keep a repository up to date, inspect it, restore from it."""

from os import PathLike
from typing import Unpack

from gnomon.comparing import Comparing
from gnomon.description import SourceDescription
from gnomon.forecast import Forecasting
from gnomon.healing import Healing
from gnomon.judging import Judging
from gnomon.maintenance import utc
from gnomon.progress import Progress, mapper_of
from gnomon.reading import Reading
from gnomon.rollingback import RollingBack
from gnomon.simulating import Simulating
from gnomon.storage.repository import Repository
from gnomon.storage.userpath import place_of
from gnomon.tasks.restoring.cells import Cells
from gnomon.tasks.restoring.request import StateOptions, StateRequest
from gnomon.tasks.restoring.restore import Restored, restore
from gnomon.tasks.restoring.states import choose_states
from gnomon.tasks.restoring.targets.target import Target
from gnomon.updating import Updating

__all__ = ["GnomonRepository", "Progress", "open_repository", "utc"]


def open_repository(path: str | PathLike[str]) -> "GnomonRepository":
    """Open an existing repository at its newest commit.

    Parameters
    ----------
    path
        Its folder, as text or path, or its object-store URL, as text.

    Raises
    ------
    NotFound
        There is no repository.
    Format
        It was written by a newer Gnomon.
    Integrity
        Its settings or log are damaged.
    """
    return GnomonRepository(Repository.open(place_of(path)))


class GnomonRepository(
    Updating, Reading, Healing, Judging, Forecasting, RollingBack, Simulating, Comparing
):
    """A repository: the captures of one source, and their shadow.

    Made by :func:`gnomon.create` and :func:`gnomon.open`.
    """

    def __init__(
        self, repository: Repository, description: SourceDescription | None = None
    ) -> None:
        super().__init__(repository)
        self.description = description
        """What is captured of the source, what is not, and why; known only after `create`."""
        self.skipped = dict(description.skipped if description else {})
        """Variables of the source that are not protected, and why; known only after `create`."""

    def __repr__(self) -> str:
        names = ", ".join(v.name for v in self._repository.settings.variables if v.forecast)
        count = len(self._repository.timeline)
        return f"<GnomonRepository {self.path}: {count} captures of {names}>"

    def restore(  # noqa: PLR0913 - what a user may settle, all keyword-only after the data
        self,
        at: str | None,
        to: str | PathLike[str] | Target,
        *,
        from_: str | None = None,
        until: str | None = None,
        accept_predicted: bool = False,
        plain: bool = False,
        marks: bool = False,
        zarr_format: int | None = None,
        cells: Cells | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
        **options: Unpack[StateOptions],
    ) -> Restored:
        """Write the state of a time, or those of a period, to a new dataset, and verify it.

        A state whose cells were all captured is written as it was in the source, and nothing else.

        What a killed call with the same arguments has written is not written again.

        Parameters
        ----------
        at
            As for :meth:`dataset`; None if `from_` or `until` is given.
        to
            Path of the new dataset, or URL in an object store; its ending says of which kind it is:
            ``.zarr``, ``.nc`` or ``.icechunk``.  Or a
            :class:`~gnomon.tasks.restoring.targets.target.Target`.
        from_, until, accept_predicted, plain, marks
            As for :meth:`dataset`.
        zarr_format
            Of a Zarr store: 2 or 3; default: 3.
        cells
            Damaged cells that are to be estimated, and no others, of `variable` or of all that have
            their shape; as for :meth:`heal`.
        workers
            Threads that write; default: from the settings.
        progress
            Called as the work goes on.
        **options
            Which state of the time it is, and what part of it:
            :class:`~gnomon.tasks.restoring.request.StateOptions`.

        Raises
        ------
        Conflict
            The target exists.
        NotFound
            There is no such state, variable, dimension or chunk; the message says what there is.
        InvalidInput
            What is asked for holds predictions that were not accepted, no cell lies in the region,
            or nothing can be written there.
        """
        mapper = mapper_of("blocks", workers, progress)
        request = StateRequest.of(
            at, from_=from_, until=until, accept_predicted=accept_predicted, **options
        )
        states = choose_states(self._repository, request, cells)
        return restore(states, to, plain=plain, marks=marks, zarr_format=zarr_format, mapper=mapper)
