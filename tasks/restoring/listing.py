"""Every restore point that a repository keeps, at a glance: captures, and predictions after."""

from gnomon.storage.repository import Repository
from gnomon.tasks.restoring.points import known_points
from gnomon.tasks.restoring.restore_point import RestorePoint

__all__ = ["every_point"]


def every_point(repository: Repository) -> tuple[RestorePoint, ...]:
    """Return one restore point per time, newest first: captures, and the newest shadow's leads.

    Only the log is read, so that it is quick with thousands of captures. Of earlier eras there are
    the captures.
    """
    points: list[RestorePoint] = []
    for era in reversed(range(repository.era + 1)):
        seen = repository if era == repository.era else repository.in_era(era)
        points += known_points(seen, ahead=era == repository.era)
    return tuple(points)
