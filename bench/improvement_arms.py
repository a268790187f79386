"""One seed of all contenders of the bench of self-improvement."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from improvement_data import BUDGET, Corpus, Question

from reflectory import LoopConfig, ReflectiveLoop
from reflectory.agents import PromptSet, Student, answer_segments
from reflectory.agents.practice import write_practice
from reflectory.agents.verification import LexicalVerifier, groundedness
from reflectory.config import (
    DEFAULT_LEVELS,
    CandidateConfig,
    CurationConfig,
    PracticeConfig,
    TrainingConfig,
)
from reflectory.errors import OutputError
from reflectory.evaluation.general import follow
from reflectory.evaluation.metrics import score_answer
from reflectory.models.defaults import ensure_language_model
from reflectory.models.engine.rendering import messages_of
from reflectory.models.resolve import ModelPool
from reflectory.runner import Runner
from reflectory.runs.instructions import Instruction
from reflectory.training import curate, refine, train_adapter
from reflectory.training.candidates import gather_candidates
from reflectory.training.curation import CurationTools
from reflectory.training.rehearsal import rehearsal_rows
from reflectory.training.rows import (
    Message,
    PreferenceRow,
    Provenance,
    TrainingRow,
    assistant,
)
from reflectory.types import CandidateSet, Passage

PRACTICE = PracticeConfig(questions=60, attempts=0)
CANDIDATES = CandidateConfig(samples=4)
CURATION = CurationConfig(questions=False)
REHEARSED = 40
PAIRS = 24
TRAINING = TrainingConfig(
    batch_size=4, epochs=2, learning_rate=3e-4, max_length=900, preference_epochs=1
)
LOOP = LoopConfig(
    max_iterations=1,
    levels=DEFAULT_LEVELS[:2],
    question_attempts=2,
    retrieval=BUDGET,
    sampling={"question_tokens": 32, "answer_tokens": 32, "response_tokens": 32},
)
VERIFIER = LexicalVerifier()
PROMPTS = PromptSet.for_loop(LOOP)
EXAMPLES = """Using only the documents above, answer in as few words as possible.
Question: Which gas do plants take in?
Answer: carbon dioxide
Question: Who painted the ceiling of the chapel?
Answer: Michelangelo
Question: {question}
Answer:"""


class Bench:
    """One seed of all contenders; every step is a file in its folder."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self.args, self.seed = args, seed
        self.folder = args.work / f"{args.part}-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pool = ModelPool(device=args.device, dtype=args.dtype)
        self.base = self.pool.get(args.student)
        self.teacher = self.pool.get(args.teacher)
        self.corpus = Corpus(args.data, args.part, self.base.count_tokens)
        self.contexts: list[Any] = []

    async def run(self) -> None:
        """Make what is missing."""
        self.contexts = await self.read_contexts()
        await self.answer("base", None)
        await self.answer("base, two examples", None, prompts={"student.answer": EXAMPLES})
        first = await self.practise("1", None, self.seed, [])
        kept = list(await rehearsal_rows(self.base, REHEARSED, seed=self.seed))
        arms = {
            "rows of this project, SFT": ([*first["rows"], *kept], []),
            "SFT, unfiltered samples": (_samples(first["sets"], agreeing=False), []),
        }
        for name, (rows, pairs) in arms.items():
            await self.answer(name, self.train(name, rows, pairs))
        await self.cut(first["rows"])
        parent = self.folder / slug("rows of this project, SFT")
        asked = [s.question for s in first["sets"]]
        second = await self.practise("2", parent, self.seed + 1000, asked)
        rows = [*first["rows"], *second["rows"], *kept]  # Equation 4
        await self.answer("two rounds", self.train("two rounds", rows, [], parent))
        name = "rows of this project, SFT then DPO"
        pairs = first["pairs"][:PAIRS]
        await self.answer(name, self.train(name, [], pairs, parent))
        name = "SFT, agreeing samples"
        rows = _samples(first["sets"], agreeing=True)
        await self.answer(name, self.train(name, rows, []))
        await self.pool.aclose()

    async def read_contexts(self) -> list[Any]:
        """Return what is read for the test; it is found once for all seeds."""
        file = self.args.work / f"{self.args.part}-contexts.json"
        if not file.exists():
            found = [[p.model_dump() for p in c] for c in await self.corpus.contexts()]
            file.write_text(json.dumps(found), encoding="utf-8")
        contexts = json.loads(file.read_text(encoding="utf-8"))
        return [[Passage.model_validate(p) for p in context] for context in contexts]

    async def practise(
        self, name: str, adapter: Path | None, seed: int, asked: list[str]
    ) -> dict[str, Any]:
        """Write questions, run loops, gather candidates, curate: the rows of a round."""
        file = self.folder / f"round-{name}.json"
        if not file.exists():
            began = time.perf_counter()
            student = self.pool.get(self.args.student, adapter=adapter)
            practice = await write_practice(
                await self.corpus.passages(),
                self.teacher,
                PRACTICE.model_copy(update={"seed": seed}),
                PROMPTS,
                avoid=asked,
                retrieve=self.corpus.read_for_training,
            )
            written = time.perf_counter()
            config = LOOP.model_copy(update={"seed": seed})
            loop = ReflectiveLoop(
                self.corpus.training, teacher=self.teacher, student=student, config=config
            )
            items = {q.id: q for q in practice.questions}
            runs = self.folder / f"loops-{name}"
            stream = Runner(loop).stream(
                [Instruction(q.id, q.instruction) for q in practice.questions],
                concurrency=32,
                output=runs,
            )
            trajectories = sorted([t async for t in stream], key=lambda t: list(items).index(t.id))
            looped = time.perf_counter()
            live = await loop.acontext()
            sets = await gather_candidates(
                trajectories,
                CANDIDATES.model_copy(update={"seed": seed}),
                student=Student(student, PROMPTS, LOOP.sampling, seed=seed),
                grader=live.teacher.grader,
                practice=items,
            )
            curation = curate(
                trajectories, CURATION, partial(answer_segments, PROMPTS), candidates=sets
            )
            questions = [q.text for q in self.corpus.questions]
            curation = await refine(curation, CURATION, CurationTools(evaluation_texts=questions))
            done = time.perf_counter()
            data = {
                "sets": [s.model_dump(mode="json") for s in sets],
                "rows": [r.model_dump(mode="json") for r in curation.rows],
                "pairs": [r.model_dump(mode="json") for r in curation.preferences],
                "counts": curation.counts.model_dump(mode="json"),
                "practice": practice.counts,
                "questions": [
                    q.model_dump(mode="json", include={"instruction", "answer", "kind", "lead"})
                    for q in practice.questions
                ],
                "seconds": {
                    "questions": written - began,
                    "loops": looped - written,
                    "candidates": done - looped,
                },
            }
            file.write_text(json.dumps(data), encoding="utf-8")
        data = json.loads(file.read_text(encoding="utf-8"))
        return {
            "sets": [CandidateSet.model_validate(s) for s in data["sets"]],
            "rows": [TrainingRow.model_validate(r) for r in data["rows"]],
            "pairs": [PreferenceRow.model_validate(r) for r in data["pairs"]],
        }

    def train(
        self, name: str, rows: list[Any], pairs: list[Any], parent: Path | None = None
    ) -> Path:
        """Train one adapter."""
        output = self.folder / slug(name)
        record = self.folder / f"{slug(name)}.training.json"
        if not record.exists():
            named = self.args.student.removeprefix("local").removeprefix(":")
            began = time.perf_counter()
            report = train_adapter(
                rows,
                named or ensure_language_model().path,
                output,
                TRAINING.model_copy(
                    update={
                        "seed": self.seed,
                        "objective": "dpo" if pairs else "sft",
                        "reference": "start",
                        "epochs": 1.0 if parent else TRAINING.epochs,
                    }
                ),
                preferences=pairs,
                parent=parent,
                device=self.args.device,
                dtype=self.args.dtype,
            )
            facts = {
                "rows": len(rows),
                "pairs": len(pairs),
                "tokens": round(report.tokens_per_second * report.seconds),
                "seconds": time.perf_counter() - began,
                "losses": report.losses,
                "words": float(
                    np.mean([len(r.completion[0].content.split()) for r in rows] or [0.0])
                ),
            }
            record.write_text(json.dumps(facts), encoding="utf-8")
            print(f"seed {self.seed}, {name}: {facts['tokens']} tokens", flush=True)
        return output

    async def answer(
        self, name: str, adapter: Path | None, prompts: dict[str, str] | None = None
    ) -> None:
        """Let a student answer the test and the general instructions."""
        file = self.folder / f"{slug(name)}.answers.json"
        if file.exists():
            return
        texts = PromptSet.with_replacements(prompts)
        model = self.pool.get(self.args.student, adapter=adapter)
        student = Student(model, texts, LOOP.sampling, seed=0)

        async def one(question: Question, context: Any) -> dict[str, Any]:
            try:
                text = (await student.respond(question.text, context)).text
            except OutputError:
                text = ""
            return await scored(question, text, context)

        pairs = zip(self.corpus.questions, self.contexts, strict=True)
        answers = await asyncio.gather(*(one(q, c) for q, c in pairs))
        general = await follow(model)
        followed = [float(a.followed) for a in general]
        file.write_text(json.dumps({"answers": answers, "general": followed}), encoding="utf-8")
        means = {
            s: float(np.mean([a["f1"] for a in answers if a["set"] == s]))
            for s in ("sciq", "hotpotqa")
        }
        print(f"seed {self.seed}, {name}: F1 {means}", flush=True)

    async def cut(self, rows: list[TrainingRow]) -> None:
        """Cut the base student's answers to the mean length of what was trained on."""
        file = self.folder / f"{slug('base, cut')}.answers.json"
        length = max(1, round(np.mean([len(r.completion[0].content.split()) for r in rows])))
        data = json.loads((self.folder / f"{slug('base')}.answers.json").read_text())
        answers = []
        for question, context, given in zip(
            self.corpus.questions, self.contexts, data["answers"], strict=True
        ):
            text = " ".join(given["text"].split()[:length])
            answers.append(await scored(question, text, context))
        file.write_text(json.dumps({"answers": answers, "general": data["general"]}))


async def scored(question: Question, text: str, context: Any) -> dict[str, Any]:
    """Return an answer with all its metrics."""
    scores = score_answer(text, question.reference)
    statements = await VERIFIER.verify(question.text, text, context)
    return {
        "set": question.set,
        "text": text,
        "f1": scores.f1,
        "exact_match": float(scores.exact_match),
        "contains": float(scores.contains),
        "groundedness": groundedness(statements) or 0.0,
        "words": scores.words,
    }


def _samples(sets: list[CandidateSet], *, agreeing: bool) -> list[TrainingRow]:
    """Return what the student drew, as rows: the first draw, or the one that most others say.

    The second is STaR's filter without the reference that it needs: what at least half of
    the draws say passes for right.
    """
    rows = []
    for item in sets:
        drawn = [c for c in item.candidates if c.origin == "sample"]
        if item.what != "response" or not drawn:
            continue
        chosen = max(drawn, key=lambda c: c.agreement or 0.0) if agreeing else drawn[0]
        if agreeing and (chosen.agreement or 0.0) < 0.5:
            continue
        messages = messages_of(answer_segments(PROMPTS, item.question, item.context))
        rows.append(
            TrainingRow(
                prompt=tuple(Message.model_validate(m) for m in messages),
                completion=assistant(chosen.text),
                provenance=Provenance(trajectory=item.trajectory, score=chosen.score),
            )
        )
    return rows


def slug(name: str) -> str:
    """Return the name of a contender as the beginning of file names."""
    return name.replace(", ", "-").replace(" ", "-").casefold()
