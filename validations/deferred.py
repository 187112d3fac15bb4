"""Modules that others import and seldom use, loaded when something of them is first asked for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["deferred"]


class _Deferred(ModuleType):
    """Stands for a module until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # what is asked of any module
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)
        # By the usual way, whose locks keep other threads from half a module.
        return getattr(import_module(self.__name__), name)


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Let what is imported meanwhile have modules that are loaded at their first use.

    Who imports such a module afterwards gets the module itself.  What was loaded before stays.
    Python's own lazy modules would do, but before 3.12.3 threads may see half of one.
    """
    stand_ins = {name: _Deferred(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                sys.modules.pop(name, None)
