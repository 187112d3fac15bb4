"""Delivery: a target is made, compared with what it should hold, and blamed for what is its own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import xarray as xr

from gnomon.storage.entrypoints import FOREIGN
from gnomon.storage.errors import GnomonError, TargetFailed, Unavailable
from gnomon.storage.redaction import one_line
from gnomon.storage.userpath import blame
from gnomon.storage.values.dtypes import native
from gnomon.tasks.restoring.targets.target import Target

__all__ = ["blaming", "making", "unfaithful", "verify_rest"]

logger = logging.getLogger(__name__)


@contextmanager
def making(target: Target) -> Iterator[Target]:
    """Give the target that is written to, and let it clear up after a failure.

    The failure is what is raised: not what goes wrong with clearing up, nor nothing, where a target
    swallows it.
    """
    failure: BaseException | None = None
    try:
        with target.making() as draft:
            try:
                with blaming_disk(target):
                    yield draft
            except BaseException as error:
                failure = error
                raise
    except FOREIGN as error:
        if failure is None:
            with blaming(target):
                raise
        if error is failure:
            raise
        left = f"the target could not remove what was written ({one_line(error)}): look there"
        if not isinstance(failure, GnomonError):
            logger.warning("%s target=%s", left, target)
            raise failure from None
        raise type(failure)(f"{failure}; {left}") from failure
    if failure is not None:
        raise failure


@contextmanager
def blaming(target: Target) -> Iterator[None]:
    """Say of what a target raises that it is the target's; somebody else may have written it."""
    try:
        with blaming_disk(target):
            yield
    except GnomonError:
        raise
    except FOREIGN as error:
        raise TargetFailed(
            f"--to {target}: the target failed ({type(error).__name__}: {one_line(error)}); "
            "mend the target, or choose another"
        ) from error


@contextmanager
def blaming_disk(target: Target) -> Iterator[None]:
    """Say of what the system refuses that it was for the target; what else fails is not told so."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # the NetCDF library raises RuntimeError
        if isinstance(error, OSError) and error.errno is None:  # a worker that went away
            raise Unavailable(f"writing {target} failed: {one_line(error)}; try again") from error
        raise blame("--to", str(target), error) from error


def verify_rest(rest: xr.Dataset, target: Target) -> None:
    """Read back coordinates and other variables that do not change, and compare."""
    for name, variable in rest.variables.items():
        before = np.asarray(variable.values)
        after = np.asarray(target.read(str(name), (...,), before.dtype))
        same = (
            before.tolist() == after.tolist()
            if before.dtype.kind in "OTUS"
            else native(before).tobytes() == native(after.astype(before.dtype)).tobytes()
        )
        if not same:
            raise unfaithful(target, name)


def unfaithful(target: Target, what: object) -> TargetFailed:
    """Return the error that says that a target gives back other bytes than were written."""
    return TargetFailed(
        f"--to {target}: the target gives back other bytes of {what} than were written; the "
        "repository is whole: check the disk there, mend the target, or choose another"
    )
