"""What the contenders of ``bench/orchestration.py`` share: a model, passages, a grader, agents."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Sequence

from reflectory import ReflectiveLoop
from reflectory.agents.graders import GradingTask
from reflectory.agents.student import Student
from reflectory.agents.teacher import Teacher
from reflectory.alignment import alignment_score, cosine_similarity
from reflectory.assembly import Parts
from reflectory.config import LoopConfig
from reflectory.config.revision import RevisionConfig
from reflectory.graphs.growth import Branch, grow
from reflectory.models.protocol import Capability, Completion, Request, ScoreRequest, Scores, Usage
from reflectory.retrieval.context import aggregate, extend
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Examination, Passage, ScoredPassage

ITERATIONS = 2
_FACTS = (
    "The moon pulls the water of the sea, and the water rises twice a day in the outer harbour.",
    "When the gate of the basin closes at high tide, the water inside stands two metres higher.",
    "Three wheels turn while the basin empties, and each of them grinds forty sacks in a night.",
    "Salt eats the iron of the wheels, so the millers changed to oak from the eastern forest.",
    "A keeper wrote the height of every tide into a book, which the town still has in its hall.",
)


class Double:
    """A model that answers at once, or after a sleep, and says the same to the same prompt.

    Args:
        delay_s: How long every call takes.
        places: Most calls at the same time, as a server has; the others wait.

    Attributes:
        calls: How many there were.
        began: When the first one came, by the clock and in processor seconds.
        asked: Their segments and seeds, when somebody wants them.
    """

    fingerprint = "double"
    capabilities: frozenset[Capability] = frozenset()
    context_window: int | None = None

    def __init__(self, delay_s: float = 0.0, places: int = 100) -> None:
        self.calls = 0
        self.began = (0.0, 0.0)
        self.asked: list[tuple[str, ...]] | None = None
        self._delay_s = delay_s
        self._places = asyncio.Semaphore(places)

    async def complete(self, request: Request) -> Completion:
        """Say something that fits the role and differs from prompt to prompt."""
        if not self.calls:
            self.began = time.perf_counter(), time.process_time()
        self.calls += 1
        texts = tuple(segment.text for segment in request.segments)
        if self.asked is not None:
            self.asked.append((request.role, str(request.seed), *texts))
        if self._delay_s:
            async with self._places:
                await asyncio.sleep(self._delay_s)
        mark = zlib.crc32(f"{request.seed} {texts[-1]}".encode())
        if request.role == "teacher.ask":
            text = f"What happens to the water of basin {mark} when the gate closes?"
        else:
            text = f"The water stands two metres higher. Keeper {mark} wrote it into a book."
        return Completion(text=text, usage=Usage(prompt_tokens=500, completion_tokens=12))

    async def score(self, request: ScoreRequest) -> Scores:
        """Never asked: the grader is a function."""
        raise NotImplementedError

    def count_tokens(self, text: str) -> int:
        """Return an estimate of the tokens."""
        return len(text) // 4

    async def aclose(self) -> None:
        """Nothing is held."""


class FewPassages:
    """Finds the same few passages at once; retrieval has a bench of its own."""

    fingerprint = "few passages"

    def __init__(self) -> None:
        texts = [" ".join(_FACTS[(i + j) % 5] for j in range(4)) for i in range(5)]
        self._found = [
            ScoredPassage(
                passage=Passage(
                    id=f"tide-{i}",
                    document_id=f"tide-{i}",
                    title=f"Tide mill {i}",
                    text=text + f" This is page {i}.",
                    start=0,
                    end=len(text),
                ),
                score=1.0 - i / 10,
            )
            for i, text in enumerate(texts)
        ]

    async def prepare(self) -> int:
        """Return the number of documents."""
        return len(self._found)

    async def retrieve(self, query: str, *, per_document: int, limit: int) -> list[ScoredPassage]:
        """Return the first four to an instruction, the last one to a question."""
        return self._found[4:] if "basin" in query else self._found[:4]


def grade(task: GradingTask) -> tuple[float, str]:
    """Return a grade that looks arbitrary and depends on the answer alone."""
    return zlib.crc32(task.answer.encode()) / 2**32, "It says where the water stands."


def make_loop(model: Double) -> ReflectiveLoop:
    """Return the loop that is measured: four levels, two iterations."""
    return ReflectiveLoop(
        FewPassages(),
        teacher=model,
        student=model,
        grader=grade,
        embedder=HashingEmbedder(),
        config=LoopConfig(
            max_iterations=ITERATIONS,
            epsilon=1e-9,
            # The survey's: one reflection, which is taken as it is.
            revision=RevisionConfig(accept="always"),
        ),
    )


class Agents:
    """Teacher and student on the bare model, and what a loop by hand needs besides."""

    def __init__(self, parts: Parts) -> None:
        self.config = parts.config
        self.retriever, self.embedder = parts.retriever, parts.embedder
        self.count_tokens = parts.student.count_tokens
        make_grader = parts.grader(parts.teacher)
        self.teacher = Teacher(parts.teacher, make_grader, parts.prompts, parts.config)
        self.student = Student(
            parts.student,
            parts.prompts,
            parts.config.sampling,
            seed=parts.config.seed,
            verifier=parts.verifier,
        )

    async def first(self, instruction: str) -> list[Passage]:
        """Return C_0."""
        budget = self.config.retrieval
        found = await self.retriever.retrieve(
            instruction, per_document=budget.per_document, limit=2 * budget.passages
        )
        return aggregate(
            found,
            limit=budget.passages,
            token_budget=budget.context_tokens,
            count_tokens=self.count_tokens,
        )

    async def more(self, question: str, context: Sequence[Passage]) -> list[ScoredPassage]:
        """Return what a question finds that the context does not hold."""
        budget = self.config.retrieval
        found = await self.retriever.retrieve(
            question, per_document=budget.per_document, limit=budget.passages
        )
        known = {passage.id for passage in context}
        new = {s.passage.id: s for s in found if s.passage.id not in known}
        grown = extend(
            context,
            [s.passage for s in new.values()][: budget.per_question],
            token_budget=budget.context_tokens,
            count_tokens=self.count_tokens,
        )
        return [new[passage.id] for passage in grown[len(context) :]]

    def grown(self, context: Sequence[Passage], branches: Sequence[Branch]) -> list[Passage]:
        """Return C_{t+1}."""
        budget = self.config.retrieval
        return grow(
            context,
            branches,
            useful_score=budget.useful_score,
            token_budget=budget.context_tokens,
            count_tokens=self.count_tokens,
        )[0]

    async def aligned(self, cell: Examination, instruction: str) -> Examination:
        """Return a cell with its entry of the matrix."""
        assert cell.answer is not None and cell.feedback is not None
        vectors = await self.embedder.embed([cell.answer.text, instruction])
        similarity = cosine_similarity(vectors[0], vectors[1])
        score = alignment_score(similarity, cell.feedback.score)
        return cell.model_copy(update={"similarity": similarity, "alignment": score})
