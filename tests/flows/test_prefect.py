"""The flows with a real server and real Dask workers."""

import asyncio
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import dask
import pytest

from gnomon import Check, Chunk, Statistic
from tests import sources
from tests.cases import HISTORY, Case

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            patch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
            yield


@pytest.fixture(scope="module")
def life(server: None, _grown: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A backfill, an update with damage, and a restore, each as a flow on one Dask cluster."""
    from gnomon.creation import create
    from gnomon.flows import launch as runs
    from gnomon.flows import registered
    from gnomon.flows.cluster import local_cluster
    from gnomon.flows.restore import restore
    from gnomon.flows.run import EventAlert
    from gnomon.flows.settings import Settings

    folder = tmp_path_factory.mktemp("flows")
    source, place = folder / "source.zarr", str(folder / "r")
    data = _grown.data.copy(deep=True)
    data.sst.values[HISTORY, :4, :4] += 25
    sources.write(source, data, 0, HISTORY)
    create(place, str(source), chunks={"lat": 4, "lon": 4}, leads=2)
    found: dict[str, Any] = {"data": data, "target": folder / "healed.zarr", "events": []}
    found["folder"] = folder
    post = EventAlert.post
    with pytest.MonkeyPatch.context() as patch, local_cluster(1) as address:
        # The settings alone say where the chunks go: nothing in the environment does.
        settings = Settings(
            scheduler=address,
            docs=folder / "docs",
            alerts=folder / "alerts.jsonl",
            webhook="http://127.0.0.1:9/down",
        )

        def keep(event: Any) -> None:
            found["events"].append(event)
            post(event)

        patch.setattr(EventAlert, "post", staticmethod(keep))
        point = EntryPoint("a", "tests.flows.test_prefect:PROCESS", registered.GROUP)
        patch.setattr(registered, "_points", lambda: (point,))
        found["backfill"] = runs.run_backfill(place, until=None, settings=settings)
        found["workers"] = ran_on_workers(address)
        sources.write(source, data, HISTORY, HISTORY + 1)
        found["update"] = runs.run_update(place, time=None, refit=False, settings=settings)
        found["restore"] = restore(
            place, "2001-01-25", str(found["target"]), accept_predicted=True, settings=settings
        )
    found["place"] = place
    found["runs"] = flow_runs()
    return found


def process(_chunk: Chunk) -> float:
    return float(os.getpid())


PROCESS = Check(
    "any_process",
    Statistic("process", "1", "number of the process that measured it", measure=process),
    "critical",
    "Workers measure chunks.",
    minimum=1,
)


def flow_runs() -> dict[str, Any]:
    """Return the newest flow run of each kind that the server has."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        runs = sorted(client.read_flow_runs(), key=lambda run: str(run.created))
    return {run.name.partition(" ")[0]: run for run in runs}


def ran_on_workers(address: str) -> dict[int, set[str]]:
    """Return what ran on the cluster, by process."""
    from distributed import Client

    with Client(address) as client:  # type: ignore[no-untyped-call]
        return dict(client.run(_ran).values())


def _ran(dask_worker: Any) -> tuple[int, set[str]]:
    return os.getpid(), {str(entry[0]) for entry in dask_worker.state.log if entry}


def test_flows_complete(life: dict[str, Any]) -> None:
    assert len(life["backfill"]["captured"]) == HISTORY
    assert life["backfill"]["suspect_chunks"] == 0
    assert life["update"]["captured"] == ["2001-01-25T00:00:00"]
    assert life["restore"]["point"]["kind"] == "healed"
    states = {what: run.state for what, run in life["runs"].items()}
    assert {what: state.name for what, state in states.items()} == {
        "backfill": "Completed",
        "update": "Suspect",
        "restore": "Completed",
    }
    assert all(state.is_completed() for state in states.values())


def test_the_final_state_says_what_was_done(life: dict[str, Any]) -> None:
    message = life["runs"]["update"].state.message
    assert "captured 1 (2001-01-25T00:00:00)" in message
    assert "1 suspect, sst at 2001-01-25T00:00:00" in message
    assert "forecast 2 leads" in message
    assert "1 alert NOT SENT (webhook)" in message
    message = life["runs"]["backfill"].state.message
    assert f"captured {HISTORY} (2001-01-01T00:00:00 to 2001-01-24T00:00:00)" in message
    assert "none suspect" in message
    assert "healed state of 2001-01-25" in life["runs"]["restore"].state.message


def test_runs_are_named_for_dataset_and_time(life: dict[str, Any]) -> None:
    names = {what: run.name for what, run in life["runs"].items()}
    assert names["restore"] == "restore r 2001-01-25"
    for what in ("update", "backfill"):
        assert re.fullmatch(rf"{what} r 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", names[what])


def test_the_log_of_the_flow_run_tells_of_the_damage(life: dict[str, Any]) -> None:
    """From the flow's own process: a worker's standard error is read by nobody."""
    texts = [text for text in logs(life["runs"]["update"].id) if "2001-01-25" in text]
    assert any("1 suspect" in text for text in texts)
    assert any("alert severity=critical" in text for text in texts)


def logs(run: Any) -> list[str]:
    from prefect import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        only = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
        return [log.message for log in client.read_logs(only)]


def test_what_a_run_leaves_beside_the_repository_is_left_where_the_flow_runs(
    life: dict[str, Any],
) -> None:
    (line,) = (life["folder"] / "alerts.jsonl").read_text().splitlines()
    assert json.loads(line)["incident"]["chunks"] == ["0/0"]
    assert list((life["folder"] / "docs").rglob("*.html"))
    # No check, plan or commit ever ran on a worker; only chunks did.
    ((_, names),) = life["workers"].items()
    assert not any("check" in name or "keep" in name or "plan" in name for name in names), names


def test_what_was_not_sent_is_sent_by_the_next_run(life: dict[str, Any]) -> None:
    assert [a["channel"] for a in life["update"]["alerts_unsent"]] == ["webhook"]
    import gnomon

    unsent = gnomon.open(life["place"]).status()["alerts_unsent"]
    assert [a["channel"] for a in unsent] == ["webhook"]


def test_work_ran_on_dask_workers(life: dict[str, Any]) -> None:
    ((process, names),) = life["workers"].items()
    assert process != os.getpid()
    for block in ("_capture_block", "_features_of", "_forecast_block", "_materialize_block"):
        assert any(block in name for name in names), (block, names)


def test_registered_checks_are_made_on_the_workers(life: dict[str, Any]) -> None:
    from gnomon.storage.repository import Repository
    from tests.flows.test_added_checks import column

    ((worker, _),) = life["workers"].items()
    numbers = column(Repository.open(life["place"]), HISTORY, "process")
    assert (numbers == worker).all()
    assert life["update"]["failed_checks"] == {}


def test_flows_come_to_the_same_as_plain_functions(life: dict[str, Any], tmp_path: Path) -> None:
    from gnomon.creation import create
    from tests.flows.test_cycle import captures, forecasts

    source = tmp_path / "source.zarr"
    sources.write(source, life["data"], 0, HISTORY)
    plain = create(str(tmp_path / "r"), str(source), chunks={"lat": 4, "lon": 4}, leads=2)
    plain.backfill()
    sources.write(source, life["data"], HISTORY, HISTORY + 1)
    plain.update()
    import gnomon

    flows = gnomon.open(life["place"])
    assert captures(flows) == captures(plain)
    assert forecasts(flows) == forecasts(plain)


def test_a_suspect_capture_emits_an_event(life: dict[str, Any]) -> None:
    from uuid import NAMESPACE_URL, uuid5

    assert life["update"]["suspect_chunks"] == 1
    (event,) = life["events"]
    assert event.event == "gnomon.capture.suspect"
    assert event.payload["chunks"] == ["0/0"]
    assert event.resource["prefect.resource.id"].startswith("gnomon.repository.")
    alert = json.loads((life["folder"] / "alerts.jsonl").read_text())
    assert event.id == uuid5(NAMESPACE_URL, f"gnomon:{alert['id']}")


def test_the_restored_dataset_is_marked(life: dict[str, Any]) -> None:
    found = sources.raw(life["target"])
    provenance = found.sst_provenance.values[0]
    assert (provenance[:4, :4] != 0).all()
    assert (provenance[4:, :] == 0).all()
    truth = life["data"].sst.values[HISTORY]
    assert sources.bits(found.sst.values[0, 4:]) == sources.bits(truth[4:])


def test_artifacts_are_kept(life: dict[str, Any]) -> None:
    from prefect.artifacts import Artifact

    for key in ("gnomon-confidence", "gnomon-restore", "gnomon-update"):
        artifact = Artifact.get(key)
        assert artifact is not None, key
    assert "**critical** sst at 2001-01-25T00:00:00" in str(artifact)
    assert "Alerts that were not sent" in str(artifact)


def test_a_schedule_creates_runs(server: None) -> None:
    """With some versions of its libraries a server looks healthy and never schedules."""
    from prefect import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import IntervalSchedule
    from prefect.server.services.scheduler import schedule_deployments

    from gnomon.flows.update import update

    with get_client(sync_client=True) as client:
        schedule = IntervalSchedule(interval=timedelta(hours=1))
        deployment = client.create_deployment(
            flow_id=client.create_flow(update),
            name=f"hourly-{uuid.uuid4()}",
            schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
            parameters={"repository": "nowhere"},
        )
        # What the server's scheduler does in each loop; the server of a test has none running.
        asyncio.run(schedule_deployments())
        runs = [r for r in client.read_flow_runs() if r.deployment_id == deployment]
    assert runs
    assert all(run.state is not None and run.state.is_scheduled() for run in runs)


def test_a_run_of_a_deployment_has_it_run_once_when_the_next_update_is_due(
    server: None, grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import get_client

    from gnomon.flows.run import NOT_DUE
    from gnomon.flows.settings import Settings
    from gnomon.flows.update import update

    name = f"adaptive-{uuid.uuid4()}"
    place, settings = str(grown.place), Settings(workers=1)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(flow_id=client.create_flow(update), name=name)
        monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", str(deployment))
        monkeypatch.chdir(grown.folder)
        for _ in range(2):
            state = update(place, settings=settings, if_due=True, return_state=True)
            assert state.name == NOT_DUE
        due = grown.open().status()["due"]
        assert str(due["at"]) in str(state.message)
        runs = [r for r in client.read_flow_runs() if r.deployment_id == deployment]
    (run,) = runs
    assert run.state is not None
    assert run.state.is_scheduled()
    assert run.expected_start_time == datetime.fromisoformat(due["at"])
    assert run.parameters["repository"] == place
    assert run.parameters["if_due"] is True


def test_the_settings_of_a_run_decide_about_its_workers(server: None, tmp_path: Path) -> None:
    """Of a deployed run they come as a parameter, long after the flow was made."""
    from prefect import flow

    from gnomon.flows.cluster import Workers
    from gnomon.flows.settings import Settings
    from gnomon.flows.tasks import run_as_task

    @flow(persist_result=False)
    def where(settings: Settings) -> tuple[int, set[int]]:
        with Workers(settings) as workers:
            work = run_as_task("where", lambda: workers.mapper(_process_of, range(12)))
            again = run_as_task("where", lambda: workers.mapper(_process_of, range(12)))
        return os.getpid(), {*work, *again}

    for count in (1, 3):
        here, there = where(Settings(workers=count))
        assert here not in there
        assert len(there) <= count
        assert count == 1 or len(there) > 1


def _process_of(_item: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def test_workers_that_die_and_schedulers_that_are_not_there() -> None:
    from gnomon.flows.cluster import Workers
    from gnomon.flows.settings import Settings
    from gnomon.storage.errors import Unavailable
    from gnomon.tasks.forecasting import Telling

    with Workers(Settings(workers=1)) as workers:
        with pytest.raises(Unavailable, match=r"died 4 times over one block of _die"):
            workers.mapper(Telling(_die), [0])
        assert workers.mapper(_process_of, [0]) != [os.getpid()]
    nowhere = Workers(Settings(scheduler="tcp://127.0.0.1:9"))
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        nowhere,
        pytest.raises(Unavailable, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
    ):
        nowhere.mapper(_process_of, [0])


def _die(_item: int) -> None:
    os._exit(1)


def test_a_run_that_fails_says_what_it_kept(
    server: None, grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gnomon.flows import checks
    from gnomon.flows import launch as runs
    from gnomon.flows.settings import Settings
    from gnomon.storage.errors import GnomonError

    def fail(*_: Any, **__: Any) -> Any:
        raise GnomonError("the numbers ran out")

    grown.arrive(HISTORY, HISTORY + 1)
    monkeypatch.setattr(checks, "check_prediction", fail)
    with pytest.raises(GnomonError, match="numbers ran out"):
        runs.run_update(str(grown.place), time=None, refit=False, settings=Settings(workers=1))
    state = flow_runs()["update"].state
    assert state.is_failed()
    assert "captured 1 (2001-01-25T00:00:00)" in state.message
    assert "then it failed: the numbers ran out" in state.message
    assert len(grown.open().stored.captured) == HISTORY + 1


def test_an_api_that_goes_away_costs_no_capture(
    server: None, grown: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step on nobody takes events, artifacts or logs."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from gnomon.flows.run import EventAlert, keep_artifacts
    from gnomon.storage.errors import Unavailable
    from gnomon.validations.alerts import Alert

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        keep_artifacts({"gnomon-update": "text"}, {"gnomon-confidence": [{"a": 1}]})
        with pytest.raises(Unavailable, match="did not take the event"):
            EventAlert("r")(Alert("critical", "t", "x", {}, "id"))
