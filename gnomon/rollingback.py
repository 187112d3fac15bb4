"""The part of the Python API that writes into the live dataset, and takes that back."""

from os import PathLike
from typing import Unpack

from gnomon.maintenance import utc
from gnomon.progress import Progress, mapper_of
from gnomon.storage.repository import Repository
from gnomon.storage.userpath import place_of
from gnomon.tasks.restoring.cells import Cells
from gnomon.tasks.restoring.request import StateOptions, StateRequest
from gnomon.tasks.restoring.states import choose_states
from gnomon.tasks.rollback.rollback import RollbackPlan, Rolled, plan_rollback, rollback
from gnomon.tasks.rollback.undo import Undone, settle, undo

__all__ = ["RollingBack"]


class RollingBack:
    """Methods that change the live dataset."""

    _repository: Repository

    def rollback(
        self,
        at: str,
        *,
        into: str | PathLike[str] | None = None,
        accept_predicted: bool = False,
        cells: Cells | None = None,
        plan: str | None = None,
        force: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
        **options: Unpack[StateOptions],
    ) -> Rolled:
        """Write the state of a time into the live dataset, and keep what that replaces.

        Only objects whose chunks differ are written, each as a whole: who reads the dataset
        meanwhile has a mixture of old and new chunks, unless it is an Icechunk branch.  What was
        written is read back; where that fails, or the process is stopped, all of it is taken back,
        at the latest by the next `update`, `rollback` or `undo`.

        Parameters
        ----------
        at, accept_predicted
            As for :meth:`dataset`.
        into
            Path (text or path) or URL of another dataset of the same grid; None: the source itself.
        cells
            Damaged cells that are estimated, and no others, as for :meth:`heal`.
        plan
            Token of a plan that :meth:`plan_rollback` returned: refuse if it is another by now.
        force
            Write also where somebody has changed the dataset since the plan.
        workers
            Threads; default: from the settings.
        progress
            Called as the chunks are compared.
        **options
            Which state of the time it is, and what part of it:
            :class:`~gnomon.tasks.restoring.request.StateOptions`.

        Raises
        ------
        NotFound
            The live dataset has no step of that time.
        InvalidInput
            It is on another grid, or of a form that is only read; or predictions were not accepted.
        Conflict
            It was changed since the plan, or another rollback is under way.
        """
        request = StateRequest.of(at, accept_predicted=accept_predicted, **options)
        # What a stopped rollback had written is gone before anything is chosen or compared.
        settle(self._repository.refresh(), at=utc())
        rolled = rollback(
            choose_states(self._repository.refresh(), request, cells),
            at=utc(),
            into=None if into is None else place_of(into),
            expected=plan,
            force=force,
            mapper=mapper_of("compare", workers, progress),
        )
        self._repository = self._repository.refresh()
        return rolled

    def plan_rollback(
        self,
        at: str,
        *,
        into: str | PathLike[str] | None = None,
        cells: Cells | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
        **options: Unpack[StateOptions],
    ) -> RollbackPlan:
        """Return what :meth:`rollback` would write; writes nothing."""
        request = StateRequest.of(at, accept_predicted=True, **options)
        states = choose_states(self._repository.refresh(), request, cells)
        mapper = mapper_of("compare", workers, progress)
        return plan_rollback(states, into=None if into is None else place_of(into), mapper=mapper)

    def undo(
        self,
        rollback: int | None = None,
        *,
        force: bool = False,
        dry_run: bool = False,
        interrupted: bool = False,
    ) -> Undone:
        """Take back a rollback, bit for bit, or one that was stopped half way.

        Parameters
        ----------
        rollback
            Number of its record, as `status` tells it; None: the one that was stopped, or the
            newest that stands.
        force
            Take it back also where others have written since: what they wrote is lost.  Where the
            live dataset is gone, give it up.
        dry_run
            Only say what would be taken back.
        interrupted
            Its process, on another machine, does not run any more.

        Raises
        ------
        NotFound
            There is no such rollback, or its live dataset is not there.
        Conflict
            Others have written since, or it is under way.
        """
        self._repository = self._repository.refresh()
        open_rollback = self._repository.state.open_rollback
        if open_rollback is not None and rollback in (None, open_rollback.sequence) and not dry_run:
            undone = settle(self._repository, at=utc(), interrupted=interrupted, force=force)
            assert undone is not None
        else:
            undone = undo(
                self._repository, at=utc(), sequence=rollback, force=force, dry_run=dry_run
            )
        self._repository = self._repository.refresh()
        return undone
