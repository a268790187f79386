"""``reflectory trace``: the prompts, answers, passages, grades and models behind a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reflectory.cli import options
from reflectory.cli.common import out, print_json
from reflectory.errors import UserError

if TYPE_CHECKING:
    from reflectory.observability.trace import Trace, TracedCall


def trace(
    run: options.RunFolder,
    trajectory: Annotated[
        str, typer.Argument(help="Id of a trajectory, or its beginning.", show_default=False)
    ] = "",
    role: Annotated[
        str | None, typer.Option(help="Only calls of this role (student.answer, teacher.).")
    ] = None,
    prompts: Annotated[bool, typer.Option(help="Show prompts in full.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the trace as JSON.")] = False,
) -> None:
    """Show every call that made a trajectory, in order.

    Example: reflectory trace runs/first 000000 --role student. --prompts
    """
    from reflectory.observability.trace import trace_of

    if not trajectory:
        raise UserError(
            f"no trajectory of {run} was named",
            hint=f"`reflectory show {run}` lists their ids; the beginning of one is enough",
        )
    found = trace_of(run, trajectory)
    if role is not None:
        found = found.only(role)
    if json:
        print_json(found.to_dict())
        return
    show(found, prompts=prompts)


def show(found: Trace, *, prompts: bool = False) -> None:
    """Print a trace for people.

    Args:
        found: The trace.
        prompts: Whether to print what the models read.
    """
    known = found.trajectory
    out.print(f"[bold]{known.id}[/] ", end="")
    out.print(known.instruction, markup=False, highlight=False, soft_wrap=True)
    for number, call in enumerate(found.calls, start=1):
        out.print(_heading(number, call), highlight=False, soft_wrap=True)
        if prompts:
            for speaker, text in call.prompt:
                out.print(f"    {speaker}:", style="dim")
                _block(text)
        out.print("    said:", style="dim")
        _block(call.output)
    if found.lost:
        out.print(f"{len(found.lost)} more calls were pruned from the call cache")
    out.print(f"Response, from R_{known.chosen}:")
    _block(known.response)


def _heading(number: int, call: TracedCall) -> str:
    where = "" if call.iteration is None else f" t={call.iteration}"
    level = "" if call.level is None else f" {call.level}"
    grade = "" if call.grade is None else f", graded {call.grade:.2f}"
    seed = "" if call.seed is None else f", seed {call.seed}"
    read = f", {len(call.passages)} passages" if call.passages else ""
    return (
        f"[bold]{number}. {call.role}[/] in {call.step}{where}{level}: {call.model}{seed}, "
        f"{call.usage.get('prompt_tokens', 0)} + {call.usage.get('completion_tokens', 0)} tokens, "
        f"{call.seconds:.2f} s{read}{grade} [dim]{call.key[:12]}[/]"
    )


def _block(text: str) -> None:
    for line in text.splitlines() or [""]:
        out.print(f"      {line}", markup=False, highlight=False, soft_wrap=True)
