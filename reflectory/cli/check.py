"""``reflectory check``: everything that can be wrong before a long run, all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from reflectory.cli import options
from reflectory.cli.common import FAILED, config_from, err, loop_from, out, print_json
from reflectory.errors import ReflectoryError

OK, WARNING, PROBLEM = "ok", "warning", "problem"


def check(
    config: options.ConfigFile = None,
    override: options.Overrides = None,
    grader: Annotated[
        bool, typer.Option(help="Measure the grader on cases with known answers.")
    ] = True,
    json: options.JsonResult = False,
) -> None:
    """Check configuration, documents, instructions, models and grader.

    The grader is measured on packaged cases with known answers; when it
    separates right from wrong no better than chance, that is a problem.

    Example: reflectory check -c run.yaml
    """
    from reflectory.background import BACKGROUND

    settings = config_from(config, {}, override)
    findings: list[dict[str, Any]] = [{"part": "configuration", "state": OK, "detail": "valid"}]

    def examine(part: str, look: Callable[[], tuple[str, str]]) -> None:
        try:
            state, detail = look()
        except ReflectoryError as error:
            state, detail = PROBLEM, str(error)
        findings.append({"part": part, "state": state, "detail": detail})

    examine("prompts", lambda: _prompts(settings))
    examine("instructions", lambda: _instructions(settings))
    examine("documents", lambda: _documents(settings))
    if settings.evaluation.sets:
        examine("evaluation", lambda: _evaluation(settings))
    loop = loop_from(settings)
    with loop, err.status("loading models"):
        parts: list[Any] = []

        def models() -> tuple[str, str]:
            parts.append(BACKGROUND.run(loop.aopen()))
            return _window(settings, parts[0])

        if settings.documents:
            examine("models", models)
        if parts and grader:
            examine("grader", lambda: _grader(parts[0]))
    worst = any(finding["state"] == PROBLEM for finding in findings)
    if json:
        print_json(findings)
    else:
        colour = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
        for finding in findings:
            state = finding["state"]
            out.print(f"[{colour[state]}]{state:8}[/] {finding['part']:14}", end="")
            out.print(finding["detail"], markup=False, highlight=False)
    if worst:
        raise typer.Exit(FAILED)


def _prompts(settings: Any) -> tuple[str, str]:
    from reflectory.agents.prompts import PromptSet

    PromptSet.for_loop(settings.loop)
    return OK, f"{len(settings.loop.prompts)} replaced"


def _instructions(settings: Any) -> tuple[str, str]:
    from reflectory.runs.instructions import read_instructions

    given = settings.instructions
    if not given:
        return WARNING, "none are named; give them to `reflectory run`"
    items = read_instructions(Path(given) if isinstance(given, str) else list(given))
    return OK, f"{sum(1 for _ in items)} instructions"


def _evaluation(settings: Any) -> tuple[str, str]:
    """Read the sets, and look up every name; nothing is loaded."""
    from reflectory.evaluation.comparison import FEW_ROWS
    from reflectory.evaluator import Evaluator
    from reflectory.evaluator.arena import documents_for

    evaluator = Evaluator(settings)
    questions = evaluator.read()
    evaluator.fitted(questions)
    documents_for(questions, settings.evaluation, list(settings.documents))
    count = len(questions.questions)
    said = f"{count} questions, {len(evaluator.contenders)} contenders"
    if count < FEW_ROWS:
        return WARNING, f"{said}; fewer than {FEW_ROWS} questions show too little to claim anything"
    return OK, said


def _documents(settings: Any) -> tuple[str, str]:
    from reflectory.retrieval import is_index, read_documents

    if not settings.documents:
        return WARNING, "none are named, so models and grader are not checked"
    if len(settings.documents) == 1 and is_index(settings.documents[0]):
        return OK, "a saved index"
    read = read_documents(settings.documents)
    detail = f"{len(read.documents)} readable"
    if not read.skipped:
        return OK, detail
    lines = "\n".join(f"  {s.path}: {s.reason}" for s in read.skipped)
    return WARNING, f"{detail}, {len(read.skipped)} skipped:\n{lines}"


def _window(settings: Any, parts: Any) -> tuple[str, str]:
    """Compare the longest prompt that the budgets allow with the context windows."""
    budget, sampling = settings.loop.retrieval, settings.loop.sampling
    notes = sampling.answer_tokens + sampling.question_tokens + 60
    need = (
        budget.context_tokens
        + sampling.response_tokens * 2
        + notes * len(settings.loop.levels)
        + 200
    )
    lines = [f"teacher {parts.teacher.fingerprint}", f"student {parts.student.fingerprint}"]
    for model in (parts.teacher, parts.student):
        if model.context_window is not None and need > model.context_window:
            return PROBLEM, (
                f"prompts may reach about {need} tokens, {model.fingerprint} reads "
                f"{model.context_window}\n  -> lower retrieval.context_tokens"
            )
    return OK, ", ".join(lines)


def _grader(parts: Any) -> tuple[str, str]:
    from reflectory.agents.graders.cases import CHANCE, measure_grader, measuring_cases
    from reflectory.background import BACKGROUND

    # One answer per kind and set is enough to tell a judge from a coin.
    chosen = {(case.group, case.kind): case for case in measuring_cases()}
    report = BACKGROUND.run(measure_grader(parts.grader(parts.teacher), tuple(chosen.values())))
    failed, total = len(report.failed), report.graded + len(report.failed)
    detail = (
        f"area under the ROC curve {report.auc:.2f} (0.5 is chance) "
        f"on {total} cases that it was not fitted on"
    )
    if failed:
        detail += f", {failed} could not be graded"
    if report.constant:
        return PROBLEM, f"{detail}; it gives every answer the same score"
    if not report.auc >= CHANCE:
        return PROBLEM, f"{detail}: no better than chance\n  -> use another grader or teacher"
    return (WARNING if failed > 0.2 * total else OK), detail
