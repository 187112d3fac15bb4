"""One rule for what other packages register; here with candidates, beside each socket's own tests.

Targets are in `tests/tasks/restoring/test_targets.py`, checks and channels in `tests/flows/`:
`test_registered_checks.py` and `test_channels.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gnomon.storage.entrypoints import choose, registered
from gnomon.storage.errors import InvalidInput
from gnomon.tasks.candidates.ridge import Ridge
from gnomon.tasks.forecasting import registry
from tests.packages import Install, installing

CODE = """
class Mine:
    name, per, cost_s = "mine", "mode", 1.0
    def fit(self, record, before): return before
    def predict(self, parameters, past): return past
class Ridge(Mine):
    name = "ridge"
class Theta(Mine):
    name = "theta"
mine, theta = Mine(), Theta()
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a package with candidates."""
    registry._load.cache_clear()
    with installing(tmp_path / "site", monkeypatch, "gnomon.candidates") as install:
        yield install
    registry._load.cache_clear()


def test_candidates_follow_the_rule(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    entries = ["mine = {0}:Mine", "ridge = {0}:Ridge", "persistence = {0}:Mine"]
    for name in ("ours", "theirs"):
        install(name, CODE, *(entry.format(name) for entry in entries))
    install("third", CODE, "theta = third:theta", "lost = no_such:thing")
    assert type(registry.find("ridge")) is Ridge
    assert type(registry.find("ridge")) is Ridge
    assert len(caplog.records) == 2  # of each package, once
    with pytest.raises(InvalidInput, match=r"ours \(ours:Mine\) and theirs \(theirs:Mine\)"):
        registry.find("mine")
    assert registry.find("theta").name == "theta"
    with pytest.raises(InvalidInput, match=r"'lost' of gnomon\.candidates cannot be loaded"):
        registry.find("lost")
    with pytest.raises(InvalidInput, match="built-in"):
        registry.name_of("persistence")
    assert "persistence" not in registry.installed()


def test_the_package_of_gnomon_is_its_own() -> None:
    ridge = next(entry for entry in registered("gnomon.candidates") if entry.name == "ridge")
    assert choose([ridge]) is ridge
