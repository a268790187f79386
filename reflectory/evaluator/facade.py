"""The door to evaluations: a configuration and questions in, a report out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reflectory.assembly import Parts, Sources, assemble
from reflectory.background import BACKGROUND
from reflectory.config import EvaluationConfig, RunConfig
from reflectory.contenders.protocol import Contender
from reflectory.contenders.registry import contenders_named
from reflectory.errors import UserError
from reflectory.evaluation.answer_store import AnswerStore
from reflectory.evaluation.metrics.registry import check_names
from reflectory.evaluation.records import EvaluationReport
from reflectory.evaluation.sets import EvaluationSet, read_sets
from reflectory.evaluation.weights import weights_of
from reflectory.evaluator.answering import Answering, OnProgress
from reflectory.evaluator.arena import Arena, documents_for, ids_without_documents
from reflectory.evaluator.reporting import report_of
from reflectory.models.device import describe_device
from reflectory.runner import model_records
from reflectory.runs.directory import RunDirectory
from reflectory.runs.files import write_atomic
from reflectory.runs.spending import open_ledger, spent_in

ANSWERS, REPORT, ITEMS = "answers.jsonl", "evaluation.json", "items.jsonl"


class Evaluator:
    """Lets contenders answer questions with the same budget, and compares their answers.

    What is known of the answers is references, constraints that rules verify, or both.

    Args:
        config: What is evaluated: ``evaluation`` says on which questions and against whom,
            ``loop`` and the models are those of the loop.
        questions: The questions, where the configuration names none: rows as dictionaries,
            a ``datasets.Dataset``, paths, or an
            :class:`~reflectory.evaluation.sets.EvaluationSet`.
        contenders: Objects that meet :class:`~reflectory.contenders.protocol.Contender`, beside
            those that the configuration names.
        documents: What questions without documents of their own are answered from, where
            it is no path.
        teacher: A model that was made in Python, instead of the name in the configuration.
        student: The same.
        embedder: The same.
        grader: A grader or a function of a task.
        verifier: Finds the evidence for what is said.

    Example:
        >>> config = RunConfig(documents=["notes/"], evaluation={"sets": ["questions.jsonl"]})
        >>> report = Evaluator(config).run("runs/evaluation")
        >>> report.tables["calls"][0].means["f1"]
    """

    def __init__(
        self,
        config: RunConfig | None = None,
        *,
        questions: Any = None,
        contenders: Sequence[Contender] = (),
        documents: Any = None,
        teacher: Any = None,
        student: Any = None,
        embedder: Any = None,
        grader: Any = None,
        verifier: Any = None,
    ) -> None:
        self.config = config or RunConfig()
        if not isinstance(self.config, RunConfig):
            raise UserError(
                f"config must be a RunConfig, got {type(config).__name__}",
                hint="from reflectory import RunConfig",
            )
        settings = self.config.evaluation
        self.contenders = contenders_named(settings.contenders, contenders)
        names = [contender.name for contender in self.contenders]
        if settings.reference not in names:
            raise UserError(
                f"the reference contender {settings.reference!r} is not among the contenders",
                hint=f"set evaluation.reference to one of: {', '.join(names)}",
            )
        check_names(settings.measured)
        self._questions = questions
        self._documents = documents
        self._given = {"teacher": teacher, "student": student, "embedder": embedder}
        self._grader = grader
        self._verifier = verifier

    @property
    def settings(self) -> EvaluationConfig:
        """The evaluation's part of the configuration."""
        return self.config.evaluation

    def run(
        self,
        output: str | Path,
        *,
        on_progress: OnProgress | None = None,
        retry_failed: bool = False,
    ) -> EvaluationReport:
        """Evaluate, and keep every answer and number in a run directory.

        The same call again goes on where it stopped: what is answered is read and not
        asked again. Rows and contenders may be added.

        Args:
            output: Run directory.
            on_progress: Told of every answer.
            retry_failed: Ask again where an earlier session recorded a failure.

        Raises:
            UserError: Something that was named does not exist or does not fit, or the
                run directory belongs to another configuration.
            BackendError: A model or download failed.
            StorageError: The disk is full; what is finished is kept.
        """
        return BACKGROUND.run(self.arun(output, on_progress=on_progress, retry_failed=retry_failed))

    async def arun(
        self,
        output: str | Path,
        *,
        on_progress: OnProgress | None = None,
        retry_failed: bool = False,
    ) -> EvaluationReport:
        """Evaluate; see :meth:`run`.

        Args:
            output: The run directory; one that is there is gone on with.
            on_progress: Is told of every answer.
            retry_failed: Answer again what failed before.
        """
        questions = await asyncio.to_thread(self.read)
        settings = self.fitted(questions)
        sources = self._sources(questions)
        alone = ids_without_documents(questions, settings, self._named_documents)
        parts = await assemble(sources, self.config.loop)
        try:
            with self._directory(Path(output), settings, sources, parts) as directory:
                named = ((parts.teacher, sources.teacher), (parts.student, sources.student))
                ledger = open_ledger(self.config.budget, named, directory)
                arena = Arena(parts, directory.calls, settings, ledger, alone=alone)
                items = await arena.items(questions.questions)
                lines = "".join(item.model_dump_json() + "\n" for item in items)
                await asyncio.to_thread(write_atomic, directory.path / ITEMS, lines)
                answering = Answering(
                    arena,
                    directory,
                    AnswerStore(directory.path / ANSWERS),
                    self.contenders,
                    concurrency=self.config.concurrency,
                    retry_failed=retry_failed,
                    on_progress=on_progress,
                )
                try:
                    answers, budgets = await answering.answers(items)
                    answering.tell("figures and judge")
                    report = await report_of(
                        arena,
                        directory,
                        self.contenders,
                        questions,
                        items,
                        answers,
                        budgets,
                        own_grader=self._grader is not None,
                    )
                finally:
                    spent = spent_in(directory, ledger.prices).figures
                    directory.update_manifest(hits=arena.hits, spent=spent)
                directory.update_manifest(hits=arena.hits, spent=spent, finished=True)
                text = report.model_dump_json(indent=1) + "\n"
                await asyncio.to_thread(write_atomic, directory.path / REPORT, text)
                return report
        finally:
            await parts.aclose()

    def read(self) -> EvaluationSet:
        """Return the questions; their references are looked at when all answers are there.

        Raises:
            UserError: No set is named, or one cannot be read.
        """
        given = self._questions
        if isinstance(given, EvaluationSet):
            return given
        if given is None:
            if not self.settings.sets:
                raise UserError(
                    "no set of questions was named", hint="give --set FILE, or evaluation.sets"
                )
            given = list(self.settings.sets)
        return read_sets(given, rows=self.settings.rows, shape=self.settings.shape)

    def fitted(self, questions: EvaluationSet) -> EvaluationConfig:
        """Return the settings with metrics that suit a set, where the default ones stand.

        Args:
            questions: What :meth:`read` returned.

        Raises:
            UserError: A metric says nothing of any question.
        """
        rows = questions.questions
        alone = ids_without_documents(questions, self.settings, self._named_documents)
        settings = self.settings.fitted(
            references=any(q.references for q in rows),
            constraints=any(q.constraints for q in rows),
            documents=len(alone) < len(rows),
        )
        weights_of(rows, settings.measured, alone=alone)
        return settings

    @property
    def _named_documents(self) -> Any:
        return list(self.config.documents) if self._documents is None else self._documents

    def _sources(self, questions: EvaluationSet) -> Sources:
        config = self.config
        named = {name: getattr(config, name) for name in self._given}
        models = {name: value or named[name] for name, value in self._given.items()}
        return Sources(
            documents=documents_for(questions, self.settings, self._named_documents),
            grader=self._grader,
            verifier=self._verifier,
            teacher_adapter=config.teacher_adapter,
            student_adapter=config.student_adapter,
            device=config.device,
            dtype=config.dtype,
            remote=config.remote,
            **models,
        )

    def _directory(
        self, path: Path, settings: EvaluationConfig, sources: Sources, parts: Parts
    ) -> RunDirectory:
        """Open the run directory; each answer says itself which documents it rests on."""
        identity = parts.fingerprints()
        del identity["retriever"]
        return RunDirectory.open(
            path,
            self.config.model_copy(update={"evaluation": settings}),
            identity=identity,
            models=model_records(sources, identity),
            device=str(describe_device()),
        )
