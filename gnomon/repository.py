"""The Python API: keep a repository up to date, inspect it, restore from it."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Unpack

from gnomon.comparing import Comparing
from gnomon.description import SourceDescription
from gnomon.flows import steps
from gnomon.flows.alerting import channels_of
from gnomon.flows.cycle import Cycle, UpdateReport
from gnomon.flows.outbox import Outbox
from gnomon.flows.registered import checks_in_use
from gnomon.flows.settings import Settings
from gnomon.forecast import Forecasting
from gnomon.healing import Healing
from gnomon.judging import Judging
from gnomon.maintenance import utc
from gnomon.progress import Progress, mapper_of
from gnomon.reading import Reading
from gnomon.rollingback import RollingBack
from gnomon.simulating import Simulating
from gnomon.storage.checks.check import Check
from gnomon.storage.repository import Repository
from gnomon.storage.userpath import place_of
from gnomon.tasks.restoring.cells import Cells
from gnomon.tasks.restoring.request import StateOptions, StateRequest
from gnomon.tasks.restoring.restore import Restored, restore
from gnomon.tasks.restoring.states import choose_states
from gnomon.tasks.restoring.targets.target import Target

if TYPE_CHECKING:
    from gnomon.validations.alerts import Channel

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


class GnomonRepository(Reading, Healing, Judging, Forecasting, RollingBack, Simulating, Comparing):
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

    def update(  # noqa: PLR0913 - what a user may settle, all keyword-only after the time
        self,
        time: str | None = None,
        *,
        until: str | None = None,
        refit: bool = False,
        new_era: bool = False,
        compare: int | None = None,
        checks: Sequence[Check] = (),
        alerts: "Sequence[Channel]" = (),
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> UpdateReport:
        """Capture what is new in the source, check it, and renew the shadow.

        Parameters
        ----------
        time
            Valid time of a state source, ISO 8601; default: now.
        until
            Capture nothing after this time (or after its period, if it is partial).
        refit
            Learn everything anew.
        new_era
            Continue with a source whose grid, types or variables have changed; what was captured
            before stays as it is.
        compare
            Least number of captures to compare with the source, which may have changed them since;
            -1: all.  Default: from the settings.
        checks
            Checks of captures for this run, beside the built-in ones, those that packages register
            and those of the file that the settings name.
        alerts
            Channels of your own for alerts, beside those of the settings.  Each is called with an
            :class:`~gnomon.validations.alerts.Alert` and has a `name`, under which the repository
            notes what was sent: 1 to 32 letters a-z, the same in every run.
        settings
            Docs, alerts, workers; default: from the environment.
        progress
            Called as the work goes on.

        Raises
        ------
        InvalidInput
            A check or a channel lacks something, or has a name that is taken; or another argument
            cannot be. Nothing was done.
        """
        settings = settings or Settings()
        settings.check_outputs()
        in_use = checks_in_use(checks, settings.checks)
        outbox = Outbox(self.path, channels_of(settings, alerts))
        if new_era:
            steps.new_era(self.path)
            self._repository = self._repository.refresh()
        now = steps.valid_time(self.path, time)

        def call(step: Callable[..., Any], /, *arguments: Any) -> Any:
            if step not in steps.ON_CHUNKS:
                return step(*arguments)
            return step(*arguments, mapper=mapper_of(step.__name__, settings.workers, progress))

        last = None if until is None else steps.last_time(self.path, until)
        wanted = settings.compare if compare is None else compare
        report = Cycle(self.path, settings, call, outbox, in_use).run(
            now=now,
            until=last,
            refit="asked for" if refit else None,
            compare=None if wanted < 0 else wanted,
        )
        self._repository = self._repository.refresh()
        return report

    def backfill(self, until: str | None = None, **options: Any) -> UpdateReport:
        """Capture the history of an append source; the options are those of :meth:`update`."""
        steps.last_time(self.path, until)
        return self.update(until=until, **options)

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
