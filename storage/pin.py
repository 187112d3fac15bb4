"""A pin: a few words by which another process, or a later call, finds the same state again."""

from dataclasses import dataclass

from gnomon.storage.errors import Conflict
from gnomon.storage.repository import Repository

__all__ = ["Pin"]


@dataclass(frozen=True, slots=True)
class Pin:
    """One repository at one commit, and one of its eras; equal only if its content is.

    A place is not enough: another repository may be made there while a process lives.
    """

    url: str
    """Where it lives."""
    sequence: int
    """Number of the commit."""
    digest: str
    """Hash of the commit's record, which depends on all records before it."""
    era: int
    """The era that is looked at."""

    @classmethod
    def of(cls, repository: Repository) -> "Pin":
        """Return the pin of a repository as it is seen."""
        newest = repository.records[-1]
        return cls(repository.location.url, newest.sequence, newest.digest, repository.era)

    def is_there(self) -> bool:
        """Tell whether the commit is still in the repository that is there by now."""
        records = Repository.open(self.url).records
        return self.sequence < len(records) and records[self.sequence].digest == self.digest

    def recall(self) -> Repository:
        """Return the repository as it was when it was pinned, from what this process has read.

        The store is asked only where this process has not read that commit; raises as `open`.
        """
        known = Repository.recall(self.url, at=self.sequence)
        return known.in_era(self.era) if known.records[-1].digest == self.digest else self.open()

    def open(self) -> Repository:
        """Open the repository as it was when it was pinned.

        Raises
        ------
        Conflict
            Another repository is there by now.
        """
        repository = Repository.open(self.url)
        if self.sequence < len(repository.records):
            repository = repository.at(self.sequence)
            if repository.records[-1].digest == self.digest:
                return repository.in_era(self.era)
        raise Conflict(
            f"{self.url} is another repository than the one that was opened: commit "
            f"{self.sequence} is not {self.digest[:12]}; open it again"
        )
