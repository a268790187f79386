"""What the calls of a run took, as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table

Sums = Mapping[str, float]

_COLUMNS = ("calls", "read", "reused", "written", "seconds", "written/s")
_LESS = ("reused", "seconds", "written/s", "read")
"""What is left out where there is no room, the first one first."""


def statistics_table(
    roles: Mapping[str, Sums], engines: Mapping[str, Sums] | None = None
) -> RenderableType:
    """Return tokens and rates per role, and below what local engines computed.

    Columns that do not fit into the console are left out as a whole, the times first.

    Args:
        roles: Per role: ``calls``, ``prompt_tokens``, ``reused_tokens``,
            ``completion_tokens`` and ``seconds`` (added up over calls, which overlap).
        engines: Of the last session, by the parts that the engine plays:
            ``prefilled`` and ``decoded`` tokens and ``busy_seconds``.
    """
    return _Statistics(roles, engines or {})


@dataclass(frozen=True)
class _Statistics:
    """The table, as wide as the console allows."""

    roles: Mapping[str, Sums]
    engines: Mapping[str, Sums]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        boundless = options.update_width(1000)  # a measure is never wider than the console
        for left_out in range(len(_LESS) + 1):
            names = [name for name in _COLUMNS if name not in _LESS[:left_out]]
            table = self._table(names)
            if Measurement.get(console, boundless, table).minimum <= options.max_width:
                break
        yield table

    def _table(self, names: list[str]) -> Table:
        table = Table(box=box.SIMPLE, title="tokens", title_justify="left", pad_edge=False)
        # As wide as the longest role, where there is room; "engine of ..." may be folded.
        longest = max((len(role) for role in self.roles), default=8)
        table.add_column("role", overflow="fold", min_width=longest)
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        for role, sums in sorted(self.roles.items()):
            cells = _of_role(sums)
            table.add_row(role, *(cells[name] for name in names))
        for part, counts in sorted(self.engines.items()):
            table.add_section()
            cells = _of_engine(counts)
            table.add_row(f"engine of {part}", *(cells[name] for name in names))
        return table


def _of_role(sums: Sums) -> dict[str, str]:
    return {
        "calls": f"{int(sums['calls']):,}",
        "read": f"{int(sums['prompt_tokens'] - sums['reused_tokens']):,}",
        "reused": f"{int(sums['reused_tokens']):,}",
        "written": f"{int(sums['completion_tokens']):,}",
        "seconds": f"{sums['seconds']:,.1f}",
        "written/s": _rate(sums["completion_tokens"], sums["seconds"]),
    }


def _of_engine(counts: Sums) -> dict[str, str]:
    return {
        "calls": "",
        "read": f"{int(counts['prefilled']):,}",
        "reused": "",
        "written": f"{int(counts['decoded']):,}",
        "seconds": f"{counts['busy_seconds']:,.1f}",
        "written/s": _rate(counts["decoded"], counts["busy_seconds"]),
    }


def _rate(tokens: float, seconds: float) -> str:
    return f"{tokens / seconds:.1f}" if seconds > 0 else "-"
