"""Trajectories to be read, for the tests of page, terminal and command."""

from reflectory.types import (
    Answer,
    ContextAddition,
    Draft,
    Evidence,
    Examination,
    Failure,
    Feedback,
    Flag,
    Passage,
    PathStep,
    Question,
    Response,
    Statement,
    StopReason,
    Trajectory,
)

DAM = "The dam broke in 1911. Nobody had measured the water. It was built of earth."
RAIN = "Rain fell for nine days. The engineer wrote three letters."


def statement(text: str, said: str, *evidence: tuple[str, str, str]) -> Statement:
    """Return the statement ``said`` of a text, with the words that support it by passage."""
    start = text.index(said)
    found = tuple(
        Evidence(passage=p, start=t.index(w), end=t.index(w) + len(w), score=0.9)
        for p, t, w in evidence
    )
    return Statement(start=start, end=start + len(said), supported=bool(found), evidence=found)


def grade(score: float, reason: str = "It is so.", **more: object) -> Feedback:
    return Feedback(score=score, reason=reason, grader="test-grader", **more)


def whole_trajectory(**changes: object) -> Trajectory:
    """Return a trajectory of two iterations and two levels, with one of everything in it."""
    first = "The dam broke in 1911. It was tall."
    second = "The dam broke in 1911 after nine days of rain."
    broke = statement(first, "The dam broke in 1911.", ("d#0", DAM, "The dam broke in 1911."))
    nine = statement(second, second, ("r#0", RAIN, "Rain fell for nine days."))
    asked = "How long did it rain?"
    fields: dict[str, object] = {
        "id": "000000-abc",
        "instruction": "Why did the dam break?",
        "levels": ("basic", "expert"),
        "passages": {
            "d#0": Passage(
                id="d#0", document_id="d", title="The dam", text=DAM, start=0, end=len(DAM), page=7
            ),
            "r#0": Passage(
                id="r#0", document_id="r", title="The rain", text=RAIN, start=0, end=len(RAIN)
            ),
        },
        "responses": (
            Response(
                iteration=0,
                answer=Answer(
                    text=first,
                    context=("d#0",),
                    cited=("d#0",),
                    statements=(broke, statement(first, "It was tall.")),
                ),
                grade=grade(0.41, "Only in part."),
            ),
            Response(
                iteration=1,
                answer=Answer(text=second, context=("d#0", "r#0"), statements=(nine,)),
                grade=grade(0.82, signals={"support": 0.75, "own": 2.5}),
                drafts=(
                    Draft(text=second, origin="reflection", score=0.82),
                    Draft(text=first, origin="kept", score=0.43),
                    Draft(
                        text="1911", origin="condensed", score=0.12, agreement=0.25, channel=2.25
                    ),
                ),
            ),
            Response(
                iteration=2,
                answer=Answer(text=second, context=("d#0", "r#0"), statements=(nine,)),
                grade=grade(0.82),
                drafts=(
                    Draft(text=second, origin="kept", score=0.82),
                    Draft(text="It rained.", origin="reflection", score=0.33),
                ),
            ),
        ),
        "examinations": (
            Examination(
                level="basic",
                iteration=0,
                status="done",
                question=Question(text=asked, attempts=2),
                answer=Answer(
                    text="Nine days.",
                    context=("d#0", "r#0"),
                    cited=("r#0",),
                    thinking="Let me count.",
                    statements=(
                        statement("Nine days.", "Nine days.", ("r#0", RAIN, "for nine days")),
                    ),
                ),
                feedback=grade(0.9, 'Look at [2]: "Rain fell"', raw="Score: 9/10"),
                similarity=0.5,
                alignment=0.45,
            ),
            Examination(
                level="expert",
                iteration=0,
                status="failed",
                failure=Failure(
                    step="ask", kind="OutputError", message="no question", raw="Well, well."
                ),
            ),
            Examination(
                level="basic",
                iteration=1,
                status="done",
                question=Question(text="Who wrote letters?", edited=True),
                answer=Answer(text="", context=("d#0", "r#0")),
                feedback=grade(0.0, edited=True),
                similarity=0.1,
                alignment=0.0,
            ),
            Examination(
                level="expert",
                iteration=1,
                status="done",
                question=Question(text="What was not measured?"),
                answer=Answer(text="The water.", context=("d#0", "r#0")),
                feedback=grade(1.0),
                similarity=0.75,
                alignment=0.75,
            ),
        ),
        "additions": (
            ContextAddition(
                iteration=1,
                passage="r#0",
                level="basic",
                question=asked,
                reason="useful",
                score=1.5,
                path=(
                    PathStep(kind="question", name="question"),
                    PathStep(kind="entity", name="1911", by="mention", detail="in 1911"),
                    PathStep(kind="passage", name="r#0", by="dense"),
                ),
            ),
        ),
        "stop": StopReason(rule="epsilon", converged=True, iterations=2, detail="change 0.01"),
        "chosen": 2,
        "epsilon": 0.05,
        "models": {"teacher": "scripted:t", "student": "scripted:s"},
        "seed": 11,
        "flags": (Flag.CONSTANT_JUDGE,),
        "metadata": {"topic": "dams"},
    }
    return Trajectory(**(fields | changes))


def everywhere(text: str) -> Trajectory:
    """Return a trajectory with one text in every place where somebody's text may stand."""
    data = whole_trajectory().model_dump()
    names = {"basic": text, "expert": f"{text}2", "d#0": f"{text}3", "r#0": f"{text}4"}
    keep = {"origin", "status", "flags", "step", "schema_version"}

    def replaced(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {
                names.get(k, text if key in ("signals", "models", "metadata") else k): replaced(
                    v, k
                )
                for k, v in value.items()
            }
        if isinstance(value, list | tuple):
            return tuple(replaced(v, key) for v in value)
        if (
            isinstance(value, str)
            and key not in keep
            and not (key == "reason" and value == "useful")
        ):
            return names.get(value, text)
        return value

    return Trajectory.model_validate(replaced(data))
