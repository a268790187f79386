"""What models say: odd questions, grades and answers, through rules and through whole loops."""

import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from fuzzing.damage import TEXTS, damaged_text
from fuzzing.tally import Case, Unhandled
from reflectory import Document, Level, LoopConfig, ReflectiveLoop
from reflectory.agents.answer_types import AnswerType, expected_type, form_of, type_fit
from reflectory.agents.asked_class import asked_class
from reflectory.agents.citations import attribute, split_citations
from reflectory.agents.condensing import asks_shortly, short_forms
from reflectory.agents.graders.calibration import Calibration
from reflectory.agents.graders.features import (
    closest_sentence,
    echo_share,
    proximity,
    repeated_share,
    supported_share,
)
from reflectory.agents.graders.likelihood import SIGNALS, LikelihoodGrader
from reflectory.agents.graders.spoken import read_score
from reflectory.agents.prompts import PromptSet
from reflectory.agents.teacher import problem_with_question, read_question
from reflectory.agents.verification import LexicalVerifier, statements_in
from reflectory.background import BACKGROUND
from reflectory.models.protocol import Capability
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel
from reflectory.types import Passage

DOCUMENTS = [
    Document(
        id="ice",
        title="Ice",
        text="Ice is frozen water. It floats on water because it is lighter (0.917 g/cm3). "
        "Ada Frey of the Royal Institute measured it in May 1908.",
    ),
    Document(
        id="lava",
        title="Lava [2]",
        text="Lava is molten rock, and it does not float. Mount Etna (Sicily) erupted in 1669; "
        "the first award for its study was the Frey Prize.",
    ),
]
PASSAGES = [
    Passage(
        id=f"{d.id}#0",
        document_id=d.id,
        title=d.title,
        text=d.text,
        start=0,
        end=len(d.text),
        source="",
    )
    for d in DOCUMENTS
]
QUESTIONS = (
    "Who measured how light ice is, and when?",
    "Question 2: What award was named after Ada Frey?",
    "Which one is older, ice or lava?",
    "Is it true that ice floats on water?",
    "- How many grams has a cubic centimetre of ice?",
    "Here is a question at level basic: Why does ice float on water?",
    "In which year did Mount Etna erupt, according to the documents?",
    '"Where does lava flow?" asked nobody.',
)
ANSWERS = (
    "Ada Frey measured it in May 1908 [1].",
    "Yes, ice floats, because it is lighter than water. [1, 2]",
    "1669",
    "I do not know.",
    "The Frey Prize.\n\nIt was the first award for the study of Mount Etna [2][9].",
    "Assistant: **Ice** floats.",
)
VERDICTS = (
    "It is right and the documents say so.\nScore: 8/10",
    "Score: 70%",
    "3 out of 5",
    "7",
    '{"score": 7, "reason": "good"}',
    "Reason: it is short.\n**Score:** 6",
)
INSTRUCTIONS = ("Why does ice float?", "What was named after Ada Frey?", "Describe lava.")
CONFIGS = tuple(
    LoopConfig(
        max_iterations=iterations,
        levels=tuple(
            Level(name=f"level {j}", description="asks for a fact", rubric="It is right.")
            for j in range(levels)
        ),
        returns=returns,
        citations=citations,
        question_attempts=2,
        grade_attempts=2,
    )
    for iterations, levels, returns, citations in (
        (1, 1, "last", "find"),
        (1, 2, "best", "ask"),
        (2, 1, "best", "find"),
    )
)
VERIFIER = LexicalVerifier()
EVEN = (1.0,) * len(SIGNALS)
CALIBRATION = Calibration(SIGNALS, EVEN, EVEN, EVEN, bias=0.0, cases=1, auc=0.5, model="teacher")
LOGPROBS = (-0.5, -2.0, 0.0, -1e-300, -30.0, -9999.0, -1e300, -math.inf)
"""Log-likelihoods per token, also of what a model holds to be impossible."""


def said(dice: random.Random, usual: tuple[str, ...]) -> str:
    """Return what a model says: something usual, usual and damaged, or odd."""
    way = dice.random()
    if way < 0.35:
        return dice.choice(usual)
    if way < 0.7:
        return damaged_text(dice, dice.choice(usual), most=2)
    if way < 0.8:
        return dice.choice(TEXTS)
    if way < 0.9:
        return "".join(chr(_character(dice)) for _ in range(dice.randint(0, 60)))
    parts = [dice.choice((*usual, *TEXTS)) for _ in range(dice.randint(2, 4))]
    return dice.choice((" ", "\n", "", "? ", "\u2028")).join(parts)[:20_000]


def _character(dice: random.Random) -> int:
    return dice.choice((dice.randrange(128), dice.randrange(0x3000), dice.randrange(0x110000)))


def run_case(case: Case, folder: Path) -> None:
    """Put odd texts through the rules, or let odd models speak in a whole loop."""
    if case.dice.random() < 0.5:
        _rules(case)
    else:
        _loop(case, folder)


def _rules(case: Case) -> None:
    """Every function that reads a text without a model: no number leaves its range."""
    question, answer = said(case.dice, QUESTIONS), said(case.dice, ANSWERS)
    passages = case.dice.choice((PASSAGES, PASSAGES[:1], []))
    if case.dice.random() < 0.3:
        text = said(case.dice, ANSWERS)
        odd = {"title": said(case.dice, INSTRUCTIONS), "text": text, "end": len(text)}
        passages = [*passages, PASSAGES[0].model_copy(update={**odd, "id": "odd#0"})]
    case.past = bool(question.strip() and answer.strip())
    case.outcome = f"asks for {expected_type(question).value}"
    form_of(answer)
    shares = {
        "type_fit": type_fit(question, answer),
        "supported_share": supported_share(answer, passages),
        "echo_share": echo_share(answer, question),
        "repeated_share": repeated_share(answer, question, passages),
        "proximity": proximity(answer, question, passages),
        "read_score": read_score(said(case.dice, VERDICTS)) or 0.0,
    }
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise Unhandled(f"{name} is {share}")
    if asked_class(question) and expected_type(question) is AnswerType.EXPLANATION:
        raise Unhandled("an explanation is of no class")
    if asks_shortly(question) is (expected_type(question) is AnswerType.EXPLANATION):
        raise Unhandled("an explanation is not short")
    if len(short_forms(question, [answer], passages, most=3)) > 3:
        raise Unhandled("more short forms than were asked for")
    text, cited = split_citations(answer, passages)
    known = {passage.id for passage in passages}
    if not known.issuperset(cited) or not known.issuperset(attribute(text, passages)):
        raise Unhandled("a citation of no passage")
    closest_sentence(answer, passages)
    problem_with_question(read_question(question), INSTRUCTIONS[0], [question])
    for start, end in statements_in(answer):
        if not 0 <= start < end <= len(answer):
            raise Unhandled("a statement outside of its text")
    for statement in BACKGROUND.run(VERIFIER.verify(question, answer, passages)):
        for evidence in statement.evidence:
            held = next(p.text for p in passages if p.id == evidence.passage)
            if not 0 <= evidence.start < evidence.end <= len(held):
                raise Unhandled("evidence outside of its passage")


def _speaker(case: Case) -> Callable[..., str]:
    """Return what a model says to a request; its dice are the case's, so order does not matter."""
    # At most some roles are odd: where all are, hardly a loop gets beyond its first step.
    odd = case.dice.sample(
        ("ask", "grade", "respond", "answer", "reflect"), case.dice.randint(1, 3)
    )
    spoilt = case.dice.random()

    def speak(request) -> str:
        dice = random.Random(f"{case.name}:{request.role}:{request.seed}")
        kind = request.role.rpartition(".")[2]
        usual = {"ask": QUESTIONS, "grade": VERDICTS}.get(kind, ANSWERS)
        if kind in odd and dice.random() < spoilt:
            return said(dice, usual)
        return dice.choice(usual)

    return speak


def _scoring(case: Case, speak: Callable[..., str]) -> ScriptedModel:
    """Return a teacher that shows likelihoods, some of them at the ends of what there is."""
    some = case.dice.sample(LOGPROBS, case.dice.randint(1, 4))

    def score(request, text: str) -> float:
        return random.Random(f"{case.name}:{text}").choice(some)

    return ScriptedModel(
        speak, name="teacher", capabilities=frozenset({Capability.SCORE}), score=score
    )


def _loop(case: Case, folder: Path) -> None:
    """Let a whole loop run; what cannot be read is a failure of a cell or of this loop."""
    speak = _speaker(case)
    output = folder / "run" if case.dice.random() < 0.25 else None
    teacher, grader = ScriptedModel(speak, name="teacher"), None
    if case.dice.random() < 0.3:
        teacher = _scoring(case, speak)
        grader = LikelihoodGrader(teacher, PromptSet.with_replacements(), CALIBRATION)
    loop = ReflectiveLoop(
        DOCUMENTS,
        teacher=teacher,
        grader=grader,
        student=ScriptedModel(speak, name="student"),
        embedder=HashingEmbedder(32),
        config=case.dice.choice(CONFIGS),
    )
    instruction = case.dice.choice(INSTRUCTIONS)
    if output is not None:
        shutil.rmtree(output, ignore_errors=True)
    found = BACKGROUND.run(_first(loop, instruction, output))
    line = found.to_json()
    if type(found).from_json(line.encode()) != found:
        raise Unhandled("a trajectory is read as another one than was written")
    case.past = found.status == "done"
    case.outcome = f"loop {found.status}"
    if found.error is not None and not found.error.message:
        raise Unhandled("a loop that failed without saying why")
    for grade in found.grades:
        if grade is not None and not 0.0 <= grade <= 1.0:
            raise Unhandled(f"a grade of {grade}")
    values = found.alignment.values
    if any(not (math.isnan(v) or 0.0 <= v <= 1.0 + 1e-6) for v in values.ravel()):
        raise Unhandled(f"alignment outside of its range: {values}")


async def _first(loop: ReflectiveLoop, instruction: str, output: Path | None):
    found = [t async for t in loop.amap([instruction], output=output, concurrency=1)]
    return found[0]
