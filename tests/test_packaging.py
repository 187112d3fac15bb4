"""What is declared is what is there: packages, links, entry points, constraints, light imports."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
FLOORS = ["flows", "storage", "tasks", "validations"]
# an import of Gnomon takes a quarter of a second; any of these takes seconds
HEAVY = ["prefect", "great_expectations", "distributed", "pmdarima", "matplotlib"]


def entry_points() -> list[str]:
    project = PYPROJECT["project"]
    groups = [project["scripts"], *project["entry-points"].values()]
    return [target for group in groups for target in group.values()]


def packages_in_tree() -> list[str]:
    floors = [
        ".".join(["gnomon", *path.parent.relative_to(ROOT).parts])
        for floor in FLOORS
        for path in (ROOT / floor).rglob("__init__.py")
    ]
    # rglob does not follow the links, so this finds what gnomon/ itself holds
    face = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "gnomon").rglob("__init__.py")
    ]
    return sorted(floors + face)


def test_every_package_is_listed() -> None:
    assert sorted(SETUPTOOLS["packages"]) == packages_in_tree()


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for floor in FLOORS for path in (ROOT / floor).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_package_outside_the_face_is_mapped_to_its_folder() -> None:
    mapped = {
        name: name.removeprefix("gnomon.").replace(".", "/")
        for name in SETUPTOOLS["packages"]
        if name.split(".")[1:2] and name.split(".")[1] in FLOORS
    }
    assert SETUPTOOLS["package-dir"] == mapped


@pytest.mark.parametrize("floor", FLOORS)
def test_the_face_links_to_the_floor(floor: str) -> None:
    link = ROOT / "gnomon" / floor
    assert link.is_symlink()
    assert link.readlink() == Path("..") / floor


@pytest.mark.parametrize("name", SETUPTOOLS["packages"])
def test_a_package_opens_with_one_sentence(name: str) -> None:
    doc = importlib.import_module(name).__doc__
    assert doc is not None
    assert doc.splitlines()[0].endswith(".")


@pytest.mark.parametrize("target", entry_points())
def test_an_entry_point_can_be_loaded(target: str) -> None:
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("module", ["gnomon", "gnomon.storage", "gnomon.tasks"])
def test_the_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert loaded.stdout.split() == []


def test_constraints_are_names_and_versions_in_order() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin)] == []
    assert pins == sorted(pins, key=str.upper)


def test_every_required_distribution_is_constrained() -> None:
    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonical(line.partition("==")[0]) for line in lines}
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["demo"], *extras["docs"]]
    names = {canonical(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in wanted}
    assert names - pinned == {"gnomon"}
