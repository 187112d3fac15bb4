"""A lean import of Great Expectations: what it takes to evaluate a table in memory, and no more.

Its packages import all that they have: databases, clouds, sixty kinds of expectations.  That takes
longer than the rest of a small update.  Here a package imports a name when it is first asked for,
and libraries that it can do without are not looked for.  None of its modules is changed, but not
all expectations and metrics are registered: so this is for a process in which nobody else uses it.
Where a release of it differs from what is expected here, it is imported as usual.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import resolve_name
from threading import Event, Lock
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from gnomon.validations.deferred import deferred

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.expectations.expectation import Expectation

__all__ = ["UNUSED", "evaluate", "forget", "is_ready", "permit"]

logger = logging.getLogger(__name__)

UNUSED = ("altair", "scipy.stats")
"""Modules that a few of its metrics need, none of ours, and that take a third of the time that it
takes to import."""

_ROOT = "great_expectations"
_GATHERING = frozenset(
    f"{_ROOT}{inner}"
    for inner in (
        "",
        ".core",
        ".data_context",
        ".data_context.data_context",
        ".datasource.fluent",
        ".execution_engine",
        ".expectations",
        ".expectations.core",
        ".expectations.metrics",
        ".expectations.metrics.column_map_metrics",
        ".expectations.metrics.query_metrics",
        ".expectations.metrics.table_metrics",
        ".metrics",
        ".validator",
    )
)
"""Packages that gather names of their modules, and import most of what is not needed by that."""
_METRICS = (
    "column_map_metrics.column_values_between",
    "column_map_metrics.column_values_in_set",
    "column_map_metrics.column_values_non_null",
    "column_map_metrics.column_values_null",
    "table_metrics.table_column_types",
    "table_metrics.table_columns",
    "table_metrics.table_row_count",
)
"""Modules that register the metrics of our expectations."""
_ACCOUNTING = (f"{_ROOT}.", "marshmallow.", "pydantic.v1.")
"""Where a class of it is known by its name, and would be once more after another import."""
_OPTIONAL = ("boto3", "botocore", "pyspark", "shapely", "sqlalchemy")
"""Libraries that it uses where they are installed: it requires none of them."""

_permitted = Event()
_ready = Event()
_lock = Lock()


def permit() -> None:
    """Let this process import Great Expectations leanly: nothing else in it uses that."""
    _permitted.set()


def is_ready() -> bool:
    """Import it leanly, if that is permitted, it was not imported before, and it works."""
    with _lock:
        if _ready.is_set():
            return True
        if not _permitted.is_set() or _ROOT in sys.modules:
            return False
        try:
            with _gathering(), _without(_OPTIONAL), deferred(*UNUSED):
                for name in _METRICS:
                    import_module(f"{_ROOT}.expectations.metrics.{name}")
                right = _is_right()
        except Exception as error:
            logger.debug("imported as usual because=%r", error)
            right = False
        if right:
            _ready.set()
        else:
            _drop()
        return right


def forget() -> None:
    """Let the next import be as usual."""
    with _lock:
        if _ready.is_set():
            _drop()


def evaluate(
    frame: "pd.DataFrame", rules: "Sequence[Expectation]", result_format: Mapping[str, Any]
) -> "list[ExpectationValidationResult]":
    """Return what each expectation says of a table, after :func:`is_ready` said that it works."""
    from great_expectations.core.batch import Batch
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.validator.validator import Validator

    quiet: Any = SimpleNamespace(progress_bars={"globally": False})
    table: Any = frame  # its annotations ask for a class
    validator = Validator(PandasExecutionEngine(), data_context=quiet, batches=[Batch(data=table)])
    return validator.graph_validate(
        configurations=[rule.configuration for rule in rules],
        runtime_configuration={"result_format": dict(result_format)},
    )


def _is_right() -> bool:
    """Tell whether it finds what is wrong with a table of which that is known."""
    import pandas as pd
    from great_expectations.expectations.core.expect_column_values_to_be_between import (
        ExpectColumnValuesToBeBetween,
    )
    from great_expectations.expectations.core.expect_column_values_to_be_in_set import (
        ExpectColumnValuesToBeInSet,
    )
    from great_expectations.expectations.metadata_types import FailureSeverity

    told: dict[str, Any] = {
        "severity": FailureSeverity("warning"),
        "description": "why",
        "meta": {"name": "of a check"},
    }
    table = pd.DataFrame(
        {"number": [0.0, float("nan"), 2.0], "flag": [False, True, False]}, list("abc")
    )
    rules = (
        ExpectColumnValuesToBeBetween(column="number", min_value=0.0, strict_min=True, **told),
        ExpectColumnValuesToBeBetween(column="number", max_value=1.0, **told),
        ExpectColumnValuesToBeInSet(column="flag", value_set=[False], **told),
        ExpectColumnValuesToBeInSet(column="flag", value_set=[False, True], **told),
    )
    form = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
    failing = [r.result.get("unexpected_index_list") for r in evaluate(table, rules, form)]
    return failing == [["a"], ["c"], ["b"], []]


def _drop() -> None:
    """Let it be imported once more, with the libraries that keep account of its classes."""
    _ready.clear()
    for name in [n for n in sys.modules if f"{n}.".startswith(_ACCOUNTING)]:
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            vars(sys.modules[parent]).pop(child, None)
        del sys.modules[name]


class _Gathering(SourceFileLoader):
    """Runs no package: each name that it would import is imported when it is asked for."""

    def exec_module(self, module: ModuleType) -> None:
        places = _places(self.get_data(self.path), module.__name__)

        def find(name: str) -> Any:
            if name not in places:
                raise AttributeError(f"{module.__name__} gathers no {name}")
            place, name_there = places[name]
            if place == module.__name__:
                found: Any = import_module(f"{place}.{name_there}")
            else:
                found = getattr(import_module(place), name_there)
            setattr(module, name, found)
            return found

        vars(module)["__getattr__"] = find
        if module.__name__ == _ROOT:
            from importlib.metadata import version

            vars(module)["__version__"] = version(_ROOT)


class _Packages(PathFinder):
    """Finds the packages that gather names."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _GATHERING:
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Gathering(fullname, spec.loader.path)
        return spec


def _places(source: bytes, package: str) -> dict[str, tuple[str, str]]:
    """Return where the names are that a package imports from others: a module, the name there."""
    import ast

    return {
        alias.asname or alias.name: (
            resolve_name("." * node.level + (node.module or ""), package),
            alias.name,
        )
        for node in ast.parse(source).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@contextmanager
def _gathering() -> Iterator[None]:
    sys.meta_path.insert(0, _Packages)
    try:
        yield
    finally:
        sys.meta_path.remove(_Packages)


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """Let what is imported meanwhile find none of these modules; what was loaded before stays."""
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in names if name not in modules]
    modules |= dict.fromkeys(hidden)  # None: not to be found
    try:
        yield
    finally:
        for name in hidden:
            if modules.get(name) is None:
                modules.pop(name, None)
