"""``reflectory report``: a run as one HTML file, to be read without a network."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reflectory.cli.common import out, print_json, progress_bar
from reflectory.cli.evaluate import ANSWERS, ITEMS, read_report, write_report_page
from reflectory.cli.evaluate import REPORT as EVALUATION

if TYPE_CHECKING:
    from reflectory.report.run import WrittenReport


def report(
    run: Annotated[Path, typer.Argument(help="Folder of run, improve, demo or evaluate.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File; report.html in RUN without it.")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print its figures as JSON.")] = False,
) -> None:
    """Write what came of a run as one HTML file: figures, matrices, rounds, every trajectory.

    The file needs no network and no server. A run that is at work can be looked at, too.

    Example: reflectory report runs/first --open
    """
    if _is_evaluation(run):
        page = write_report_page(run, read_report(run), output)
        if json:
            print_json({"path": str(page), "bytes": page.stat().st_size})
        else:
            out.print(f"The page is {page}.", markup=False, highlight=False, soft_wrap=True)
    else:
        from reflectory.report.run import write_report

        with progress_bar(quiet=json) as bar:
            task = bar.add_task("reading trajectories", total=None)

            def read(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            written = write_report(run, output, progress=read)
        page = written.path
        if json:
            print_json(written.summary())
        else:
            _say(written)
    if open_it:
        webbrowser.open(page.absolute().as_uri())


def _is_evaluation(run: Path) -> bool:
    return all((run / name).is_file() for name in (EVALUATION, ANSWERS, ITEMS))


def _say(written: WrittenReport) -> None:
    from reflectory.report.evaluation_words import counted
    from reflectory.report.run import words

    for line in (*words.headline(written.facts), *words.warnings_of(written.facts)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    out.print(
        f"The page is {written.path}: {words.size(written.size)}, "
        f"{counted(written.facts.loops, 'trajectory', 'trajectories')}, "
        f"made in {written.seconds:.1f} s.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
