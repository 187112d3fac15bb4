"""Keeping a repository up to date: capture, check, forecast."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from gnomon.flows import steps
from gnomon.flows.alerting import channels_of
from gnomon.flows.cycle import Cycle
from gnomon.flows.due import refuse_undue
from gnomon.flows.outbox import Outbox
from gnomon.flows.registered import checks_in_use
from gnomon.flows.report import UpdateReport
from gnomon.flows.settings import Settings
from gnomon.inspecting import Inspecting
from gnomon.progress import Progress, mapper_of
from gnomon.storage.checks.check import Check
from gnomon.storage.repository import Repository
from gnomon.storage.userpath import place_of

if TYPE_CHECKING:
    from gnomon.validations.alerts import Channel

__all__ = ["Updating", "open_to_update"]


def open_to_update(path: str | PathLike[str]) -> "Updating":
    """Open an existing repository to be brought up to date; raises as :func:`gnomon.open`.

    What restores, compares and simulates is not loaded.
    """
    return Updating(Repository.open(place_of(path)))


class Updating(Inspecting):
    """Methods that bring a repository up to date."""

    def update(  # noqa: PLR0913 - what a user may settle, all keyword-only after the time
        self,
        time: str | None = None,
        *,
        until: str | None = None,
        refit: bool = False,
        new_era: bool = False,
        compare: int | None = None,
        if_due: bool = False,
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
        if_due
            Do nothing if the next update is due later than now; the report says why.
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
        if if_due:
            refuse_undue(refit=refit, new_era=new_era)
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
            if_due=if_due,
        )
        self._repository = Repository.recall(self.path)
        return report

    def backfill(self, until: str | None = None, **options: Any) -> UpdateReport:
        """Capture the history of an append source; the options are those of :meth:`update`."""
        steps.last_time(self.path, until)
        return self.update(until=until, **options)
