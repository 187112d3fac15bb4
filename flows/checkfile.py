"""Checks in a file of the user's own, for whoever has no package to register them with."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import cloudpickle

from gnomon.storage.checks.check import Check
from gnomon.storage.entrypoints import FOREIGN
from gnomon.storage.errors import GnomonError, InvalidInput
from gnomon.storage.redaction import one_line

__all__ = ["checks_of"]

_MODULE = "gnomon_checks_file"
"""Start of the name of its module; two files must not look into each other."""


def checks_of(file: Path) -> tuple[Check, ...]:
    """Return the checks at the top level of a Python file, alone or in lists, each once.

    The file is read anew each time.  What it defines goes to workers by value, so that they need
    not have the file; what it imports must be installed there.

    Raises
    ------
    InvalidInput
        It cannot be read or run, or has no check.
    """
    what = f"--checks (GNOMON_CHECKS) {file}"
    try:
        source = file.read_bytes()
        # By content: a process that runs for long reads the same file again and again.
        name = f"{_MODULE}_{hashlib.sha256(bytes(file) + source).hexdigest()[:16]}"
        module = ModuleType(name)
        module.__file__ = str(file)
        code = compile(source, str(file), "exec", dont_inherit=True)
        sys.modules[name] = module  # dataclasses and pickling look there
        cloudpickle.register_pickle_by_value(module)
        exec(code, vars(module))
    except GnomonError as error:
        raise InvalidInput(f"{what}: {error}") from error
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise InvalidInput(f"{what} cannot be read: {reason}; name a Python file") from error
    except FOREIGN as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InvalidInput(f"{what} cannot be run ({reason}); mend it") from error
    checks: list[Check] = []
    for value in vars(module).values():
        for check in value if isinstance(value, list | tuple) else [value]:
            if isinstance(check, Check) and check not in checks:
                checks.append(check)
    if not checks:
        raise InvalidInput(
            f"{what} has no gnomon.Check at its top level; define one there, alone or in a list"
        )
    return tuple(checks)
