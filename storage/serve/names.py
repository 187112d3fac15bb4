"""How the arrays are called that stand beside the values of a variable."""

from itertools import count

from gnomon.storage.repository import Repository

__all__ = ["extra_name"]


def extra_name(repository: Repository, name: str, ending: str) -> str:
    """Return a variable's name with an ending; numbered, where the source has such a variable.

    It has where it is itself a restored dataset: what was captured keeps its name.
    """
    taken = {v.name for v in repository.settings.variables}
    taken |= set(map(str, repository.frame.variables))
    names = (f"{name}{ending}{'' if k == 1 else f'_{k}'}" for k in count(1))
    return next(free for free in names if free not in taken)
