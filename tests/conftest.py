"""What every test relies on: nothing reports home, Prefect tests stay together, no deadlines."""

import os

# before any of them is imported; the Makefile sets the same for what it runs
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from pathlib import Path

import hypothesis
import pytest

from tests.cases import Case, damage, grow

# two workers share two cores with a server: the time of one example says nothing
hypothesis.settings.register_profile("gnomon", deadline=None, print_blob=True)
hypothesis.settings.load_profile("gnomon")


OPEN = {
    "test_a_chain_of_changes_is_mended_from_below",
    "test_a_disk_that_is_full_at_any_write_loses_nothing",
    "test_a_disk_that_is_really_full_loses_nothing",
    "test_a_dry_run_says_what_it_would_do_and_changes_nothing",
    "test_a_file_in_the_place_of_another_is_named_and_never_becomes_its_data",
    "test_a_file_that_the_disk_cannot_read_is_named",
    "test_a_folder_in_the_place_of_a_file_does_not_stop_a_repair",
    "test_a_hostile_description_of_a_table_is_damage",
    "test_a_part_beyond_the_end_is_short_or_damage",
    "test_a_record_in_the_place_of_another_is_read_from_its_copy",
    "test_a_record_of_nonsense_is_refused",
    "test_a_repository_that_is_read_only_cannot_be_written",
    "test_a_shard_that_points_elsewhere_is_damage",
    "test_a_tampered_entry_is_refused",
    "test_a_tampered_repository_is_refused_or_named_and_never_a_traceback",
    "test_a_violation_is_found_in_its_row",
    "test_a_whole_life",
    "test_an_index_that_was_edited_with_its_checksum_is_not_believed",
    "test_an_object_that_is_larger_than_its_chunk_can_be_is_not_read_whole",
    "test_text_that_is_no_list_of_so_many_strings_is_refused",
}
"""Tests of defects that are known and not yet mended; remove a name with its defect."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests marked prefect on one worker: their server takes 30 s to start."""
    for item in items:
        if item.get_closest_marker("prefect") is not None:
            item.add_marker(pytest.mark.xdist_group("prefect"))
        if item.name.partition("[")[0] in OPEN:
            item.add_marker(pytest.mark.xfail(reason="a known defect", strict=False))


@pytest.fixture(scope="session")
def _grown(tmp_path_factory: pytest.TempPathFactory) -> Case:
    with pytest.MonkeyPatch.context() as patch:
        return grow(tmp_path_factory.mktemp("grown"), patch)


@pytest.fixture(scope="session")
def _damaged(_grown: Case, tmp_path_factory: pytest.TempPathFactory) -> Case:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("damaged")
        patch.chdir(folder)
        return damage(_grown.copy(folder))


@pytest.fixture
def grown(_grown: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Return a copy of a repository with 24 days captured, and its source."""
    monkeypatch.chdir(tmp_path)
    return _grown.copy(tmp_path)


@pytest.fixture
def damaged(_damaged: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Return a copy of the same with a 25th day of which one chunk is suspect."""
    monkeypatch.chdir(tmp_path)
    return _damaged.copy(tmp_path)
