"""An evaluation in a world of scripts, for tests: python contending.py RUN LOG runs one slowly."""

import re
import sys
from pathlib import Path

from holding import wait_while_held

from reflectory.config import LoopConfig, RunConfig
from reflectory.evaluator import Evaluator
from reflectory.models.protocol import content_hash
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel

PLACES = ("Rome", "Oslo", "Lima", "Cairo", "Quito", "Delhi")
SECRET = "Xanadu"
"""A reference that stands in no document: whoever says it has seen a reference."""
_NUMBER = re.compile(r"number (\d+)")


def rows(count=3):
    """Return questions of which each has two documents of its own."""
    return [
        {
            "id": f"q{n}",
            "question": f"Where is the bell number {n}?",
            "answer": PLACES[n],
            "aliases": [f"{SECRET} {n}"],
            "domain": "even" if n % 2 == 0 else "odd",
            "documents": [
                {"title": f"Bell {n}", "text": f"The bell number {n} hangs in {PLACES[n]}."},
                {"title": "Bells", "text": "Bells are cast from bronze. They ring."},
            ],
        }
        for n in range(count)
    ]


def speak(request):
    """Answer wrongly at first, rightly after a reflection, and at random when drawn."""
    task = request.segments[-1].text
    number = int(_NUMBER.findall(task)[-1]) if _NUMBER.findall(task) else 0
    if request.role == "teacher.ask":
        return f"What is known of the bell number {number} by draw {request.seed}?"
    if request.role == "contender.criticise":
        return f"The bell number {number} is elsewhere."
    if request.role in ("student.reflect", "contender.rewrite"):
        return PLACES[number]
    if request.sampling.temperature > 0:
        draw = int(content_hash(request.seed, task)[:8], 16)
        return PLACES[draw % len(PLACES)]
    if request.role == "student.answer":
        return f"The bell number {number} hangs in {PLACES[number]}"
    return "Paris"


def judge(task):
    """Grade by the documents, as a judge that sees no reference can."""
    read = " ".join(passage.text for passage in task.passages)
    return 0.9 if task.answer.split()[-1].strip(".") in read else 0.1


def model(name="scripted", **options):
    return ScriptedModel(speak, name=name, **options)


def config(**evaluation):
    settings = {"judge": False, "resamples": 200, "samples": 40, **evaluation}
    loop = LoopConfig(max_iterations=2, epsilon=1e-9)
    return RunConfig(loop=loop, evaluation=settings, concurrency=2)


def evaluator(student=None, teacher=None, *, count=3, questions=None, settings=None, **options):
    """Return an evaluator over bells; teacher and student are the same unless both are given."""
    student = student or model()
    return Evaluator(
        settings or config(),
        questions=rows(count) if questions is None else questions,
        teacher=teacher or student,
        student=student,
        embedder=HashingEmbedder(),
        grader=judge,
        **options,
    )


def main(run: Path, log: Path) -> None:
    async def logged(request):
        with log.open("a", encoding="utf-8") as file:
            file.write(content_hash("scripted", "complete", request.content()) + "\n")
        await wait_while_held(log)
        return speak(request)

    slow = ScriptedModel(logged, name="scripted", delay_s=0.01)
    evaluator(slow).run(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
