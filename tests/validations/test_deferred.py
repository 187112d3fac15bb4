"""Modules that are imported and seldom used wait until they are."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from gnomon.validations.deferred import deferred


@pytest.fixture
def seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that says when it is loaded."""
    package = tmp_path / "seldom_used"
    package.mkdir()
    (package / "__init__.py").write_text("import sys\nsys.modules[__name__].value = 42\n")
    (package / "inner.py").write_text("value = 43\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("seldom_used", "seldom_used.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return package.name


def test_a_module_is_loaded_at_its_first_use(seldom: str) -> None:
    with deferred(seldom):
        module = import_module(seldom)
        assert "value" not in vars(module)
    assert seldom not in sys.modules
    assert module.value == 42
    assert import_module(seldom).value == 42


def test_what_is_used_meanwhile_is_loaded_meanwhile(seldom: str) -> None:
    with deferred(seldom):
        assert import_module(seldom).value == 42
        assert import_module(f"{seldom}.inner").value == 43
    assert "value" in vars(sys.modules[seldom])


def test_a_part_of_it_may_be_imported_meanwhile(seldom: str) -> None:
    """By another thread, say."""
    with deferred(seldom):
        assert import_module(f"{seldom}.inner").value == 43


def test_what_was_loaded_before_stays(seldom: str) -> None:
    before = import_module(seldom)
    with deferred(seldom):
        assert import_module(seldom) is before
    assert sys.modules[seldom] is before


def test_what_a_module_lacks_is_told_as_usual(seldom: str) -> None:
    with deferred(seldom):
        module = import_module(seldom)
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing
