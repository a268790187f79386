"""How models on servers are called: how many calls, how fast, and what becomes of failures."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from reflectory.config.base import Settings


class ModelLimits(Settings):
    """Limits of one model, in the place of those of all.

    Attributes:
        max_concurrency: Most calls at the same time.
        requests_per_minute: Most requests in any minute; ``None`` for no limit.
        tokens_per_minute: Most tokens in any minute; ``None`` for no limit.
    """

    max_concurrency: int = Field(default=16, ge=1, le=100_000)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)


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
        limits: Other limits for some models, by the name that teacher or student has
            (``openai:MODEL``). What an entry does not name is as for all.
    """

    max_concurrency: int = Field(default=16, ge=1, le=100_000)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    retries: int = Field(default=5, ge=0, le=100)
    backoff_s: float = Field(default=0.5, gt=0.0, le=60.0)
    timeout_s: float = Field(default=300.0, gt=0.0, le=86_400.0)
    pause_after: int = Field(default=8, ge=1)
    longest_pause_s: float = Field(default=1800.0, ge=0.0, allow_inf_nan=False)
    limits: dict[str, ModelLimits] = Field(default_factory=dict)

    def of(self, model: str) -> Self:
        """Return how one model is called.

        Args:
            model: As it is named in the configuration.
        """
        own = self.limits.get(model)
        changes = {} if own is None else own.model_dump(exclude_unset=True)
        return self.model_copy(update={**changes, "limits": {}})
