import pytest

from gnomon.storage.errors import GnomonError
from gnomon.validations.context import open_context
from gnomon.validations.expectations import Expectation
from gnomon.validations.suite import validate
from tests.validations.tables import sound_actual


def test_an_expectation_that_cannot_be_evaluated_is_no_success() -> None:
    expectation = Expectation("odd", "no_such_column", "critical", "why", maximum=0)
    with pytest.raises(GnomonError, match="odd could not be evaluated"):
        validate("odd", sound_actual(), [expectation])


def test_one_context_serves_several_tables() -> None:
    context = open_context()
    expectation = Expectation("cold", "maximum", "warning", "why", maximum=20)
    for name in ("first", "second", "first"):
        for rows in (2, 3):
            validation = validate(name, sound_actual(rows), [expectation], context)
            assert len(validation.findings) == validation.rows == rows
            assert validation.success
