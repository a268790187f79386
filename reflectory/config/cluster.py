"""Where the loops of a run are computed: in this process, or by workers of a Ray cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reflectory.config.base import Settings


class ClusterConfig(Settings):
    """Where the loops of a run are computed. No result depends on it.

    Attributes:
        engine: ``local`` (this process) or ``ray`` (workers of a Ray cluster; needs
            ``reflectory[ray]``).
        address: Of a running Ray cluster, ``auto`` for the one of this machine; when
            empty, ``RAY_ADDRESS`` decides, and without it a cluster is started on
            this machine for the length of the run.
        workers: Processes that hold models; each runs ``concurrency`` loops at once.
        cpus: Processor cores that Ray keeps for a worker.
        gpus: GPUs that Ray keeps for a worker; a fraction shares one.
        deaths: An instruction that was in the hands of this many workers when their
            processes died is recorded as failed, because it may be what kills them.
        patience_s: How long to go on without any living worker before the run stops
            (and can be continued), in seconds.
    """

    engine: Literal["local", "ray"] = "local"
    address: str = ""
    workers: int = Field(default=2, ge=1, le=10_000)
    cpus: float = Field(default=1.0, ge=0.0, le=1024.0)
    gpus: float = Field(default=0.0, ge=0.0, le=64.0)
    deaths: int = Field(default=5, ge=1, le=1000)
    patience_s: float = Field(default=600.0, gt=0.0, le=86_400.0)
