"""Settings of a run, from arguments or the environment (``GNOMON_...``)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]


class Settings(BaseSettings):
    """What a run may be told; every field is also an environment variable."""

    model_config = SettingsConfigDict(env_prefix="GNOMON_", extra="forbid", frozen=True)

    scheduler: str | None = Field(None, description="address of an existing Dask scheduler")
    workers: int = Field(2, ge=1, description="workers of a cluster, or threads, made for the run")
    docs: Path | None = Field(None, description="folder of the Data Docs; none are written without")
    alerts: Path | None = Field(None, description="file that alerts are appended to, JSON lines")
    webhook: str | None = Field(None, description="URL that alerts are posted to (Slack's form)")
    compare: int = Field(
        2, ge=-1, description="captures compared with the source at each update; -1: all"
    )
    alpha: float = Field(0.001, gt=0, lt=1, description="rate of false discoveries of damage")
    refit_share: float = Field(
        0.005,
        ge=0,
        lt=1,
        description="share of the capture interval that refits may take to be made at every "
        "update; 0: only when something makes one due",
    )
    target_confidence: float = Field(
        0.8, gt=0, lt=1, description="confidence below which the next update is due"
    )
