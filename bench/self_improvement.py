"""Does a student get better by its own rounds? Against cutting, prompting and plain SFT.

    python bench/self_improvement.py DATA --work FOLDER --seeds 0 1 2 --json out.json

Trained on the documents of SciQ's rows 1 to 60 and HotpotQA's rows 1 to 25, without their
questions and answers; tested on SciQ's rows 61 to 100 and HotpotQA's rows 26 to 50, whose
documents are not among them. Everything that is finished stays in ``--work``, so the same
command goes on where it stopped; ``--seeds 0 --only`` makes one seed, for another process.
``--student`` and ``--teacher`` take other models (``local:PATH``), ``--device cuda`` a GPU.
"""

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
from provenance import provenance

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
from reflectory.evaluation.comparison import compare
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
from reflectory.training.rows import (
    Message,
    PreferenceRow,
    Provenance,
    TrainingRow,
    assistant,
)
from reflectory.types import CandidateSet

PRACTICE = PracticeConfig(questions=60, attempts=0)
CANDIDATES = CandidateConfig(samples=4)
CURATION = CurationConfig()
TRAINING = TrainingConfig(
    batch_size=3, epochs=2, learning_rate=3e-4, max_length=900, preference_epochs=1
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
METRICS = ("f1", "exact_match", "contains", "groundedness", "words")
ARMS = (
    "base",
    "base, cut",
    "base, two examples",
    "SFT, unfiltered samples",
    "SFT, agreeing samples",
    "rows of this project, SFT",
    "rows of this project, SFT then DPO",
    "two rounds",
)


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
        self.contexts = await self.corpus.contexts()
        await self.answer("base", None)
        await self.answer("base, two examples", None, prompts={"student.answer": EXAMPLES})
        first = await self.practise("1", None, self.seed, [])
        arms = {
            "SFT, unfiltered samples": (_samples(first["sets"], agreeing=False), []),
            "SFT, agreeing samples": (_samples(first["sets"], agreeing=True), []),
            "rows of this project, SFT": (first["rows"], []),
            "rows of this project, SFT then DPO": (first["rows"], first["pairs"]),
        }
        for name, (rows, pairs) in arms.items():
            await self.answer(name, self.train(name, rows, pairs))
        await self.cut(first["rows"])
        parent = self.folder / _slug("rows of this project, SFT")
        asked = [s.question for s in first["sets"]]
        second = await self.practise("2", parent, self.seed + 1000, asked)
        rows = [*first["rows"], *second["rows"]]  # Equation 4
        await self.answer("two rounds", self.train("two rounds", rows, [], parent))
        await self.pool.aclose()

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
        output = self.folder / _slug(name)
        record = self.folder / f"{_slug(name)}.training.json"
        if not record.exists():
            named = self.args.student.removeprefix("local").removeprefix(":")
            began = time.perf_counter()
            report = train_adapter(
                rows,
                named or ensure_language_model().path,
                output,
                TRAINING.model_copy(
                    update={"seed": self.seed, "objective": "sft+dpo" if pairs else "sft"}
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
                "words": float(np.mean([len(r.completion[0].content.split()) for r in rows])),
            }
            record.write_text(json.dumps(facts), encoding="utf-8")
            print(f"seed {self.seed}, {name}: {facts['tokens']} tokens", flush=True)
        return output

    async def answer(
        self, name: str, adapter: Path | None, prompts: dict[str, str] | None = None
    ) -> None:
        """Let a student answer the test and the general instructions."""
        file = self.folder / f"{_slug(name)}.answers.json"
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
        file = self.folder / f"{_slug('base, cut')}.answers.json"
        length = max(1, round(np.mean([len(r.completion[0].content.split()) for r in rows])))
        data = json.loads((self.folder / f"{_slug('base')}.answers.json").read_text())
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


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").casefold()


def report(args: argparse.Namespace) -> dict[str, Any]:
    """Return the tables over all seeds that are finished."""

    def read(seed: int, name: str, kind: str) -> Any:
        file = args.work / f"{args.part}-{seed}" / f"{_slug(name)}.{kind}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    found: dict[str, Any] = {"arms": {}, "comparisons": [], "rounds": {}, "answers": {}}
    values: dict[tuple[str, str, str], np.ndarray[Any, Any]] = {}
    for name in ARMS:
        runs = [read(seed, name, "answers") for seed in args.seeds]
        if any(run is None for run in runs):
            continue
        table: dict[str, Any] = {}
        for part in ("sciq", "hotpotqa"):
            for metric in METRICS:
                rows = [[a[metric] for a in r["answers"] if a["set"] == part] for r in runs]
                values[name, part, metric] = np.array(rows, dtype=float)
                table[f"{part} {metric}"] = float(np.mean(rows))
        values[name, "general", "followed"] = np.array([r["general"] for r in runs])
        table["general followed"] = float(np.mean(values[name, "general", "followed"]))
        trained = [read(seed, name, "training") for seed in args.seeds]
        if all(trained):
            for fact in ("rows", "pairs", "tokens", "seconds", "words"):
                table[f"training {fact}"] = [t[fact] for t in trained]
        found["arms"][name] = table
        found["answers"][name] = [[a["text"] for a in r["answers"]] for r in runs]
    for name in found["arms"]:
        for other in ("base", "base, cut", "base, two examples", "SFT, unfiltered samples"):
            if name == other or other not in found["arms"]:
                continue
            for part, metric in (
                ("sciq", "f1"),
                ("hotpotqa", "f1"),
                ("sciq", "contains"),
                ("hotpotqa", "contains"),
                ("general", "followed"),
            ):
                before, after = values[other, part, metric], values[name, part, metric]
                compared = compare(before, after, name=f"{part} {metric}", confidence=0.95)
                found["comparisons"].append(
                    {"arm": name, "against": other, **compared.model_dump(mode="json")}
                )
    for seed in args.seeds:
        for number in ("1", "2"):
            file = args.work / f"{args.part}-{seed}" / f"round-{number}.json"
            if file.exists():
                data = json.loads(file.read_text(encoding="utf-8"))
                data = {k: data[k] for k in ("counts", "practice", "seconds", "questions")}
                found["rounds"][f"seed {seed}, round {number}"] = data
    return found


def show(tables: dict[str, Any]) -> None:
    """Print the table and what was asked."""
    print(f"{'':36} {'SciQ F1':>8} {'EM':>6} {'has':>6} {'words':>6}", end="")
    print(f" {'Hotpot':>8} {'EM':>6} {'has':>6} {'words':>6} {'general':>8}")
    for name, table in tables["arms"].items():
        cells = [
            table[f"{part} {metric}"]
            for part in ("sciq", "hotpotqa")
            for metric in ("f1", "exact_match", "contains", "words")
        ]
        print(f"{name:36}", *(f"{c:7.3f}" for c in cells), f"{table['general followed']:8.3f}")
    for item in tables["comparisons"]:
        print(
            f"{item['arm']} against {item['against']}: {item['name']} {item['before']:.3f} -> "
            f"{item['after']:.3f}, {item['difference']:+.3f} [{item['low']:+.3f}, "
            f"{item['high']:+.3f}]"
        )


def main() -> None:
    """Run what is missing, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", choices=("development", "reported"), default="reported")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", action="store_true", help="make the seeds, no tables")
    parser.add_argument("--tables", action="store_true", help="only tables of what is there")
    parser.add_argument("--student", default="local")
    parser.add_argument("--teacher", default="local")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not args.tables:
        for seed in args.seeds:
            asyncio.run(Bench(args, seed).run())
    if args.only:
        return
    tables = report(args)
    show(tables)
    if args.json:
        facts = provenance("torch", "transformers", "peft", "trl", "langgraph", device="cpu")
        settings = {
            "practice": PRACTICE,
            "candidates": CANDIDATES,
            "curation": CURATION,
            "training": TRAINING,
            "loop": LOOP,
        }
        dumped = {name: value.model_dump(mode="json") for name, value in settings.items()}
        options = {"part": args.part, "seeds": args.seeds}
        options |= {"student": args.student, "teacher": args.teacher}
        text = json.dumps(facts | options | {"settings": dumped} | tables, indent=1)
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
