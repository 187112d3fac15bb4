"""A repository is what its model says, whatever happens: see `tests.storage.machine`."""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.storage.machine import AppendMachine, RepositoryMachine, StateMachine

settings.register_profile(
    "machine-short",
    deadline=None,
    max_examples=6,
    stateful_step_count=25,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "machine-long",
    deadline=None,
    max_examples=60,
    stateful_step_count=50,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("machine", [AppendMachine, StateMachine])
def test_a_repository_is_what_its_model_says(machine: type[RepositoryMachine]) -> None:
    profile = os.environ.get("GNOMON_MACHINE", "short")
    run_state_machine_as_test(machine, settings=settings.get_profile(f"machine-{profile}"))
