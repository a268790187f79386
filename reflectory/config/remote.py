"""How models on servers are called: how many calls, how fast, and what becomes of failures."""

from __future__ import annotations

from pydantic import Field

from reflectory.config.base import Settings


class RemoteConfig(Settings):
    """How a model on a server is called; every bound holds for each model by itself.

    Attributes:
        max_concurrency: Most calls of one model at the same time.
        requests_per_minute: Most requests of one model in any minute, repetitions
            included; ``None`` for no limit.
        tokens_per_minute: Most tokens, read and written, in any minute. A call counts as
            its prompt and the most that it may write, and as what it used once it is
            answered; ``None`` for no limit.
        retries: How often a call that may succeed when repeated is repeated. Refusals for
            being too fast (429) do not count.
        backoff_s: Seconds before the first repetition; doubled each time, up to a minute.
        timeout_s: Seconds that one attempt may take, until the last byte is there.
        pause_after: Failures in a row, over all calls, after which the model pauses: one
            call at a time then tries whether the server is back.
        longest_pause_s: Seconds without an answer, all pauses of one outage together,
            after which the run is stopped; it goes on later.
    """

    max_concurrency: int = Field(default=16, ge=1, le=100_000)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    retries: int = Field(default=5, ge=0, le=100)
    backoff_s: float = Field(default=0.5, gt=0.0, le=60.0)
    timeout_s: float = Field(default=300.0, gt=0.0, le=86_400.0)
    pause_after: int = Field(default=8, ge=1)
    longest_pause_s: float = Field(default=1800.0, ge=0.0, allow_inf_nan=False)
