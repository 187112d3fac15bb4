import pytest

from gnomon.storage.checks.check import Check, Statistic
from gnomon.storage.errors import GnomonError
from gnomon.validations.context import open_context
from gnomon.validations.suite import validate
from tests.validations.tables import sound_actual


def test_an_expectation_that_cannot_be_evaluated_is_no_success() -> None:
    check = Check("odd", Statistic("no_such_column", "1", "none"), "critical", "why", maximum=0)
    with pytest.raises(GnomonError, match="odd could not be evaluated"):
        validate("odd", sound_actual(), [check])


def test_one_context_serves_several_tables() -> None:
    context = open_context()
    check = Check("cold", Statistic("maximum", "1", "largest"), "warning", "why", maximum=20)
    for name in ("first", "second", "first"):
        for rows in (2, 3):
            validation = validate(name, sound_actual(rows), [check], context)
            assert len(validation.findings) == validation.rows == rows
            assert validation.success
