"""What the calls of a run took, as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table


def statistics_table(
    roles: Mapping[str, Mapping[str, float]],
    engines: Mapping[str, Mapping[str, float]] | None = None,
) -> Table:
    """Return tokens and rates per role, and below what local engines computed.

    Args:
        roles: Per role: ``calls``, ``prompt_tokens``, ``reused_tokens``,
            ``completion_tokens`` and ``seconds`` (added up over calls, which overlap).
        engines: Of the last session, by the parts that the engine plays:
            ``prefilled`` and ``decoded`` tokens and ``busy_seconds``.
    """
    table = Table(box=box.SIMPLE, title="tokens", title_justify="left")
    table.add_column("role")
    for name in ("calls", "read", "reused", "written", "seconds", "written/s"):
        table.add_column(name, justify="right")
    for role, sums in sorted(roles.items()):
        read = int(sums["prompt_tokens"] - sums["reused_tokens"])
        table.add_row(
            role,
            f"{int(sums['calls'])}",
            f"{read}",
            f"{int(sums['reused_tokens'])}",
            f"{int(sums['completion_tokens'])}",
            f"{sums['seconds']:.1f}",
            _rate(sums["completion_tokens"], sums["seconds"]),
        )
    for part, counts in sorted((engines or {}).items()):
        table.add_section()
        table.add_row(
            f"engine of {part}",
            "",
            f"{int(counts['prefilled'])}",
            "",
            f"{int(counts['decoded'])}",
            f"{counts['busy_seconds']:.1f}",
            _rate(counts["decoded"], counts["busy_seconds"]),
        )
    return table


def _rate(tokens: float, seconds: float) -> str:
    return f"{tokens / seconds:.1f}" if seconds > 0 else "-"
