"""What every test relies on: nothing reports home, no deadlines, repositories grown once."""

import os

# before any of them is imported; the Makefile sets the same for what it runs
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# Daily data would be learnt anew at each update, which takes a second and leaves rolls untested.
os.environ.setdefault("GNOMON_REFIT_SHARE", "0")

from pathlib import Path

import hypothesis
import pytest

from tests.cases import Case, damage, grow

# two workers share two cores with a server: the time of one example says nothing
hypothesis.settings.register_profile("gnomon", deadline=None, print_blob=True)
hypothesis.settings.load_profile("gnomon")


@pytest.fixture(scope="session")
def _grown(tmp_path_factory: pytest.TempPathFactory) -> Case:
    with pytest.MonkeyPatch.context() as patch:
        return grow(tmp_path_factory.mktemp("grown"), patch)


@pytest.fixture(scope="session")
def _damaged(_grown: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("damaged")
        patch.chdir(folder)
        return damage(_grown.copy(folder))


@pytest.fixture
def grown(_grown: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Return a copy of a repository with 24 days captured, and its source."""
    monkeypatch.chdir(tmp_path)
    return _grown.copy(tmp_path)


@pytest.fixture
def damaged(_damaged: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Return a copy of the same with a 25th day of which one chunk is suspect."""
    monkeypatch.chdir(tmp_path)
    return _damaged.copy(tmp_path)
