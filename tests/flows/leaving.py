"""Runs that know secrets, good ones and failing ones, in a process of their own.

Started by ``test_secrets.py``, which then looks through all that they leave behind.
"""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import sources
from tests.cases import HISTORY


def allow_http() -> None:
    """Let sources be read over plain http: there is no encrypted server in a test."""
    from gnomon.storage.source import opening as source

    vars(source)["from_url"] = open_store


def open_store(url: str, **options: Any) -> Any:
    """Open a store without encryption, and without asking it again."""
    from obstore.store import from_url

    wanted: Any = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
    return from_url(url, **options | wanted)


def old_repository(place: Path, bare: Path, url: str) -> None:
    """Make a repository as an earlier program did: with a secret in the URL of its source."""
    import pytest

    import gnomon
    from gnomon.storage.source.opening import open_source
    from gnomon.storage.values.model import SourceSpec

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gnomon.storage.repository.refuse_in_source", lambda _: None)
        patch.setattr("gnomon.creation.refuse_in_source", lambda _: None)
        patch.setattr("gnomon.creation.source_path", lambda _: url)
        patch.setattr(
            "gnomon.creation.open_source",
            lambda spec: open_source(SourceSpec(str(bare), spec.kind, spec.time)),
        )
        gnomon.create(str(place), "source", chunks={"lat": 4, "lon": 4}, leads=2)


def attempt(name: str, run: Callable[[], Any]) -> None:
    """Run, and print what came of it as a person would see it."""
    try:
        print(f"\n{name} came to {run()}\n", end="", flush=True)
    except Exception as error:
        import traceback

        print(f"\n{name} failed with {type(error).__name__}\n", end="", flush=True)
        traceback.print_exception(error)


def deployment(repository: str, webhook: str) -> None:
    """Ask for a run of a deployment with a secret among its parameters."""
    from prefect import get_client

    from gnomon.flows.update import update

    with get_client(sync_client=True) as client:
        made = client.create_deployment(
            flow_id=client.create_flow(update),
            name=f"d-{uuid.uuid4()}",
            parameter_openapi_schema=update.parameters.model_dump(),
            enforce_parameter_schema=True,
        )
        for name in ("webhook", "no such setting"):
            settings = {"workers": 1, name: webhook}
            try:
                client.create_flow_run_from_deployment(
                    made, parameters={"repository": repository, "settings": settings}
                )
            except Exception as error:
                print(f"\ndeployment refused: {type(error).__name__}\n", end="")
            else:
                print(f"\ndeployment took {name}\n", end="")
        run = client.create_flow_run_from_deployment(
            made, parameters={"repository": repository, "settings": {"workers": 1}}
        )
        client.delete_flow_run(run.id)


def main(folder: Path, url: str, webhook: str, control: Callable[[str], None]) -> None:
    """Do everything in one folder; `control` tells the servers how to behave from now on."""
    import gnomon
    from gnomon.flows import launch as runs
    from gnomon.flows.cluster import local_cluster

    runs.prepare()
    from distributed import Client

    from gnomon.flows.settings import Settings

    bare, place = folder / "source.zarr", folder / "repository"
    data = sources.temperature(HISTORY + 6)
    data.sst.values[HISTORY, :4, :4] += 25
    data.sst.values[HISTORY + 1, 4:, :4] += 25
    data.sst.values[HISTORY + 2, 4:, :4] -= 25

    def arrive(stop: int) -> None:
        data.isel(time=slice(stop)).to_zarr(bare, mode="w", zarr_format=3, consolidated=True)

    allow_http()
    arrive(HISTORY)
    old_repository(place, bare, url)
    attempt("init", lambda: gnomon.create(str(folder / "new"), url))
    with runs.prefect_api(), local_cluster(1) as address:
        with Client(address) as client:  # type: ignore[no-untyped-call]
            client.run(allow_http)
        settings = Settings(
            scheduler=address,
            docs=folder / "docs",
            alerts=folder / "alerts.jsonl",
            webhook_block="no-such-block",
        )

        def update(compare: int = 0) -> Any:
            chosen = settings.model_copy(update={"compare": compare})
            return runs.run_update(str(place), time=None, refit=False, settings=chosen)

        attempt("backfill", lambda: runs.run_backfill(str(place), until=None, settings=settings))
        for number, mode in enumerate(("up", "rude", "down"), start=1):
            control(f"webhook {mode}")
            arrive(HISTORY + number)
            attempt(f"update, webhook {mode}", update)
        control("source denied")
        attempt("update, wrong credentials", lambda: update(2))
        control("source gone")
        attempt("update, source gone", update)
        control("source good")
        attempt(
            "restore",
            lambda: runs.run_restore(
                str(place),
                "2001-01-25",
                str(folder / "healed.zarr"),
                kind=None,
                accept_predicted=True,
                plain=False,
                settings=settings,
            ),
        )
        secret_place = url.replace("http://", "s3://")
        attempt(
            "update elsewhere",
            lambda: runs.run_update(secret_place, time=None, refit=False, settings=settings),
        )
        attempt(
            "restore elsewhere",
            lambda: runs.run_restore(
                str(place),
                "2001-01-25",
                f"{secret_place}/x.zarr",
                kind=None,
                accept_predicted=True,
                plain=False,
                settings=settings,
            ),
        )
        deployment(str(place), webhook)
        attempt("scheduler", lambda: Settings(scheduler=url.replace("http://", "tls://")))


if __name__ == "__main__":

    def ask(mode: str) -> None:
        """Tell the servers, which run in the process that started this one."""
        import urllib.request

        with urllib.request.urlopen(f"{sys.argv[4]}/{mode.replace(' ', '/')}", timeout=10):
            pass

    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], ask)
