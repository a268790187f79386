"""The contenders by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from reflectory.contenders.condensing import BestOfNApart, BestOfNCondensed
from reflectory.contenders.looping import VARIANTS, Loop
from reflectory.contenders.once import Direct, Retrieve
from reflectory.contenders.protocol import Contender
from reflectory.contenders.refining import SelfRefine
from reflectory.contenders.sampling import BestOfN, SelfConsistency
from reflectory.errors import UserError

CONTENDERS: dict[str, Callable[[], Contender]] = {
    "direct": Direct,
    "retrieve": Retrieve,
    "best_of_n": BestOfN,
    "best_of_n_condensed": BestOfNCondensed,
    "best_of_n_apart": BestOfNApart,
    "self_consistency": SelfConsistency,
    "self_refine": SelfRefine,
    **{variant.name: partial(Loop, variant) for variant in VARIANTS},
}
"""What makes each contender."""


def contenders_named(names: Iterable[str], own: Sequence[Any] = ()) -> list[Contender]:
    """Return contenders by name, and those that a user wrote behind them.

    Args:
        names: Names of :data:`CONTENDERS`.
        own: Objects that meet :class:`~reflectory.contenders.protocol.Contender`.

    Raises:
        UserError: A name is unknown or used twice, or an object is no contender.
    """
    names = list(names)
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        raise UserError(
            f"unknown contender {', '.join(map(repr, unknown))}",
            hint=f"known contenders: {', '.join(CONTENDERS)}",
        )
    for item in own:
        if not isinstance(item, Contender) or isinstance(item, type):
            raise UserError(
                f"{item!r} is no contender",
                hint="pass an object with name, description and attempts(task)",
            )
    found = [*(CONTENDERS[name]() for name in names), *own]
    repeated = {c.name for c in found if sum(o.name == c.name for o in found) > 1}
    if repeated:
        raise UserError(
            f"two contenders are called {', '.join(sorted(repeated))}", hint="names must differ"
        )
    return found
