"""The page of versions says what is declared."""

import re
import tomllib
from pathlib import Path

import gnomon
from gnomon.storage.values.model import FORMAT
from gnomon.tasks.forecasting.specification import FORMAT_VERSION

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "versions.md").read_text()
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]


def test_bounds_are_those_that_are_declared() -> None:
    stated = dict(re.findall(r"^\| ([\w-]+) \| `([^`]+)` \|", PAGE, re.M))
    assert stated.pop("Python") == PROJECT["requires-python"]
    declared = dict(re.findall(r"^([\w-]+)(.*)$", "\n".join(PROJECT["dependencies"]), re.M))
    assert stated == {name: declared[name] for name in stated}
    assert {"zarr", "xarray", "prefect"} <= set(stated)


def test_versions_are_the_present_ones() -> None:
    assert f"present version is {PROJECT['version']}," in PAGE
    assert gnomon.__version__ == PROJECT["version"]
    assert f"as `format`. It is {FORMAT} at present" in PAGE
    assert f"(`FORMAT_VERSION`, {FORMAT_VERSION} at present)" in PAGE


def test_every_public_name_is_listed() -> None:
    public = set(gnomon.__all__) - {"__version__"}
    listed = PAGE[PAGE.index("These are public:") : PAGE.index("Everything else may change")]
    assert public <= set(re.findall(r"`(\w+)`", listed))
