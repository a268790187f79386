"""A world of observatories for the trial of judges: who founded which, where and when."""

import asyncio
import hashlib
import random
from collections.abc import Callable

from reflectory.agents.graders import FunctionGrader, GradingTask
from reflectory.errors import OutputError
from reflectory.evaluation.held_out import HeldOutItem
from reflectory.evaluation.judge.cases import EMPTY_PHRASES
from reflectory.evaluation.judge.records import JudgeReport
from reflectory.evaluation.judge.trial import try_judge
from reflectory.evaluation.metrics import contains_answer
from reflectory.types import Passage


def _names(text: str) -> list[str]:
    return text.split()


FIRST = _names("Ada Boris Clara Dmitri Elena Farid Greta Hugo Irena Jonas Kira Lars")
LAST = _names("Adler Brandt Castillo Dunne Eriksen Fontaine Grigori Hollis Ivers Jansen")
CITIES = _names("Aarhus Bergen Cordoba Dresden Evora Freiburg Gdansk Haifa Izmir Jena Kazan Lyon")
PLACES = _names("Altair Betelga Canopy Deneba Electra Fornax Gemmara Hadara Izara Jabbar Kochab")


def world(questions: int = 24, seed: int = 0) -> list[HeldOutItem]:
    """Return questions of three kinds (who, when, where), each with two passages."""
    random_ = random.Random(seed)
    items = []
    for number in range(questions):
        name = f"{PLACES[number % len(PLACES)]} Observatory {number}"
        people = random_.sample(FIRST, 4)
        surnames = random_.sample(LAST, 4)
        founder, second, third, fourth = (f"{p} {s}" for p, s in zip(people, surnames, strict=True))
        city, other, last = random_.sample(CITIES, 3)
        year, later, latest = random_.sample(range(1820, 1990), 3)
        text = (
            f"The {name} was founded in {year} by the astronomer {founder} in the city of {city}. "
            f"{second} led it from {later} on and moved a telescope to {other}."
        )
        beside = (
            f"The comet was seen in {latest} by {third}. Its path was worked out by {fourth}, "
            f"who lived in {last} with 14 students."
        )
        asked, right = [
            (f"Who founded the {name}?", founder),
            (f"In which year was the {name} founded?", str(year)),
            (f"In which city does the {name} stand?", city),
        ][number % 3]
        items.append(
            HeldOutItem(
                id=f"q{number}",
                question=asked,
                references=(right,),
                context=(passage(f"{number}a", name, text), passage(f"{number}b", "Comet", beside)),
            )
        )
    return items


def passage(name: str, title: str, text: str) -> Passage:
    return Passage(id=f"{name}#0", document_id=name, title=title, text=text, start=0, end=len(text))


def oracle_of(items: list[HeldOutItem]) -> Callable[[GradingTask], float]:
    """Return a function that knows the references."""
    references = {item.question: item.references for item in items}

    def truth(task: GradingTask) -> float:
        if task.answer in EMPTY_PHRASES or task.answer == task.question:
            return 0.0
        return float(contains_answer(task.answer, references[task.question]))

    return truth


class NoisyOracle:
    """Knows the truth and adds normal noise, the same for the same task and seed.

    Scores lie around 0.3 and 0.7, so that noise is hardly ever cut at 0 or 1.
    """

    def __init__(self, items: list[HeldOutItem], noise: float, seed: int = 0) -> None:
        self._truth = oracle_of(items)
        self._noise = noise
        self._seed = seed

    @property
    def fingerprint(self) -> str:
        return f"noisy-oracle:{self._noise}"

    async def grade(self, task: GradingTask):
        return await FunctionGrader(self._score, name="noisy").grade(task)

    def _score(self, task: GradingTask) -> float:
        key = f"{self._seed}|{task.question}|{task.answer}".encode()
        draw = random.Random(hashlib.sha256(key).digest()).gauss(0.0, self._noise)
        return min(1.0, max(0.0, 0.3 + 0.4 * self._truth(task) + draw))


class Mumbling:
    """Judges by a function, and says something that nobody can read to a share of answers."""

    fingerprint = "mumbling"

    def __init__(self, function: Callable[[GradingTask], float], share: float) -> None:
        self._grader = FunctionGrader(function, name="mumbling")
        self._share = share

    async def grade(self, task: GradingTask):
        digest = hashlib.sha256(f"{task.question}|{task.answer}".encode()).digest()
        if digest[0] < 256 * self._share:
            raise OutputError("no score", raw="Purple, I should say.")
        return await self._grader.grade(task)


ITEMS = world()
ORACLE = oracle_of(ITEMS)


def trial(judge, items=ITEMS, **options) -> JudgeReport:
    grader = FunctionGrader(judge, name="judge") if callable(judge) else judge
    return asyncio.run(try_judge(grader, items, **options))
