"""The flows with a real server and real Dask workers."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

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
    from gnomon import runs
    from gnomon.creation import create
    from gnomon.flows import update as module
    from gnomon.flows.settings import Settings

    folder = tmp_path_factory.mktemp("flows")
    source, place = folder / "source.zarr", str(folder / "r")
    data = _grown.data.copy(deep=True)
    data.sst.values[HISTORY, :4, :4] += 25
    sources.write(source, data, 0, HISTORY)
    create(place, str(source), chunks={"lat": 4, "lon": 4}, leads=2)
    found: dict[str, Any] = {"data": data, "target": folder / "healed.zarr", "events": []}
    with pytest.MonkeyPatch.context() as patch, runs.local_cluster(1) as address:
        settings = Settings(scheduler=address)
        patch.setenv("GNOMON_SCHEDULER", address)
        patch.setattr(module, "emit_event", lambda *a, **k: found["events"].append((a, k)))
        found["backfill"] = runs.run_backfill(place, until=None, settings=settings)
        found["workers"] = ran_on_workers(address)
        sources.write(source, data, HISTORY, HISTORY + 1)
        found["update"] = runs.run_update(place, time=None, refit=False, settings=settings)
        found["restore"] = restore_on(address, place, str(found["target"]))
    found["place"] = place
    return found


def restore_on(address: str, place: str, target: str) -> Any:
    from gnomon.flows.cluster import task_runner
    from gnomon.flows.restore import restore
    from gnomon.flows.settings import Settings

    flow = restore.with_options(task_runner=task_runner(Settings(scheduler=address)))
    return flow(place, "2001-01-25", target, accept_predicted=True)


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
    from prefect import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    assert len(runs) == 3
    assert {run.state_name for run in runs} == {"Completed"}


def test_work_ran_on_dask_workers(life: dict[str, Any]) -> None:
    ((process, names),) = life["workers"].items()
    assert process != os.getpid()
    for block in ("_capture_block", "_features_of", "_forecast_block", "_materialize_block"):
        assert any(block in name for name in names), (block, names)


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
    assert life["update"]["suspect_chunks"] == 1
    ((name,), options) = life["events"][0]
    assert name == "gnomon.capture.suspect"
    assert options["payload"]["chunks"] == ["0/0"]
    assert options["resource"]["prefect.resource.id"].startswith("gnomon.repository.")
    assert len(life["events"]) == 1


def test_the_restored_dataset_is_marked(life: dict[str, Any]) -> None:
    found = sources.raw(life["target"])
    provenance = found.sst_provenance.values[0]
    assert (provenance[:4, :4] != 0).all()
    assert (provenance[4:, :] == 0).all()
    truth = life["data"].sst.values[HISTORY]
    assert sources.bits(found.sst.values[0, 4:]) == sources.bits(truth[4:])


def test_artifacts_are_kept(life: dict[str, Any]) -> None:
    from prefect.artifacts import Artifact

    for key in ("gnomon-confidence", "gnomon-restore"):
        artifact = Artifact.get(key)
        assert artifact is not None, key


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
