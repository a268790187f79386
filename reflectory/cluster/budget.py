"""One budget for all workers: a process beside the run directory keeps the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any, Protocol

from reflectory.cluster.said import describe_error, error_from
from reflectory.config import BudgetConfig
from reflectory.errors import ReflectoryError
from reflectory.models.prices import Price, PriceList
from reflectory.runs.budget import Held, Ledger, Spent


class LedgerDoor(Protocol):
    """A worker's way to the ledger that counts for all."""

    async def reserve(
        self, worker: str, number: int, tokens: int, cost: float | None
    ) -> dict[str, Any] | None:
        """Hold what a call may use; return an error's description where it does not fit."""
        ...

    def settle(self, worker: str, number: int, tokens: int, cost: float | None) -> None:
        """Put what the call did use in the place of what it held, and wait for nothing."""
        ...


class LedgerKeeper:
    """Keeps the ledger of a run; the body of an asynchronous Ray actor.

    What a worker that died held counts as used: whether its calls were answered, and paid
    for, nobody knows, and a budget must not be passed.

    Args:
        limits: The budget.
        before: What earlier sessions spent.
    """

    def __init__(self, limits: BudgetConfig, before: Spent) -> None:
        self._ledger = Ledger(limits, before=before)
        self._held: dict[tuple[str, int], Held] = {}
        self._gone: set[str] = set()

    async def reserve(
        self, worker: str, number: int, tokens: int, cost: float | None
    ) -> dict[str, Any] | None:
        """Hold what a worker's call may use; see :meth:`Ledger.reserve`."""
        try:
            held = await self._ledger.reserve(tokens, cost)
        except ReflectoryError as error:
            return describe_error(error)
        if worker in self._gone:  # it died while it waited, and made no call
            self._ledger.settle(held, tokens=0, cost=0.0)
        else:
            self._held[worker, number] = held
        return None

    async def settle(self, worker: str, number: int, tokens: int, cost: float | None) -> None:
        """Count what a worker's call did use; see :meth:`Ledger.settle`."""
        held = self._held.pop((worker, number), None)
        if held is not None:
            self._ledger.settle(held, tokens=tokens, cost=cost)

    async def forget(self, worker: str) -> None:
        """Count as used what a worker that died held."""
        self._gone.add(worker)
        for place in [place for place in self._held if place[0] == worker]:
            held = self._held.pop(place)
            self._ledger.settle(held, tokens=held.tokens, cost=held.cost)


class SharedLedger(Ledger):
    """The ledger of a worker: it asks the one that counts for all workers.

    Args:
        worker: Who asks.
        door: The way to the keeper.
        limits: The budget.
        prices: Prices of the models.
    """

    def __init__(
        self, worker: str, door: LedgerDoor, limits: BudgetConfig, prices: PriceList
    ) -> None:
        super().__init__(limits, prices=prices)
        self._worker = worker
        self._door = door
        self._numbers = count()
        self._mine: dict[int, int] = {}

    async def reserve(self, tokens: int, cost: float | None) -> Held:
        """Wait until a call fits beside those of all workers.

        Raises:
            BudgetSpent: It does not fit, and no call is in flight that might leave something.
        """
        number = next(self._numbers)
        asking = asyncio.ensure_future(self._door.reserve(self._worker, number, tokens, cost))
        try:
            refused = await asyncio.shield(asking)
        except asyncio.CancelledError:
            # What is granted to a call that nobody makes any more is given back.
            asking.add_done_callback(lambda _: self._door.settle(self._worker, number, 0, 0.0))
            raise
        if refused is not None:
            raise error_from(refused)
        held = Held(1, tokens, cost or 0.0)
        self._mine[id(held)] = number
        return held

    def settle(self, held: Held, *, tokens: int, cost: float | None) -> None:
        """Tell the keeper what a call did use."""
        self._door.settle(self._worker, self._mine.pop(id(held)), tokens, cost)


def prices_of(prices: PriceList, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return the prices of teacher and student as JSON values, ``None`` where unknown."""
    found = {fingerprints[part]: prices.of(fingerprints[part]) for part in ("teacher", "student")}
    return {name: None if price is None else price.model_dump() for name, price in found.items()}


def price_list(limits: BudgetConfig, told: Mapping[str, Any]) -> PriceList:
    """Return the prices that a worker told, and those of the user's file besides.

    Args:
        limits: Its ``prices`` names the file.
        told: What :func:`prices_of` returned.
    """
    prices = PriceList.load(limits.prices)
    for fingerprint, price in told.items():
        prices.tell(fingerprint, None if price is None else Price.model_validate(price))
    return prices
