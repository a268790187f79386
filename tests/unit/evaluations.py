"""Makes evaluation reports out of nothing but a seed: what the table and the page are tested on."""

import random
from collections.abc import Sequence

from reflectory.evaluation.comparison import compare
from reflectory.evaluation.held_out import HeldOutQuestion
from reflectory.evaluation.judge.records import CalibrationBin, Correlation, JudgeReport, Separation
from reflectory.evaluation.matrices import LevelTrend, MatrixReport
from reflectory.evaluation.multiple import compare_contenders
from reflectory.evaluation.records import (
    Attempt,
    BudgetKind,
    ContenderAnswer,
    ContenderComparison,
    ContenderRow,
    EvaluationReport,
    ScoredAnswer,
)
from reflectory.evaluation.turning import TurningPoint

# What each contender is worth: chance of a right answer, calls, tokens.
CONTENDERS = {
    "direct": (0.12, 1, 60),
    "retrieve": (0.25, 1, 700),
    "best_of_n": (0.34, 21, 9_800),
    "self_consistency": (0.36, 22, 9_900),
    "self_refine": (0.27, 21, 12_100),
    "loop": (0.52, 23, 11_400),
    "loop_one_level": (0.44, 11, 5_200),
    "loop_no_retrieval": (0.40, 21, 9_100),
}
FEW = ("direct", "loop", "retrieve")
METRICS = ("f1", "exact_match", "contains", "groundedness")
LEVELS = ("basic", "intermediate", "advanced", "expert")
WORDS = [
    "crater",
    "ice",
    "orbit",
    "lava",
    "comet",
    "dust",
    "ridge",
    "glass",
    "mission",
    "radar",
    "basalt",
    "plume",
]


def questions_of(count: int) -> list[HeldOutQuestion]:
    return [
        HeldOutQuestion(
            id=f"q{n:03d}",
            question=f"Which {WORDS[n % 12]} was named in report {n} of the {WORDS[n * 5 % 12]}?",
            references=(f"the {WORDS[n * 7 % 12]} {n}",),
        )
        for n in range(count)
    ]


def scored(question: HeldOutQuestion, name: str, chance: float, dice: random.Random, **cost: int):
    right = dice.random() < chance
    wrong = f"a {dice.choice(WORDS)} that nobody named, says {name}"
    return ScoredAnswer(
        id=question.id,
        text=question.references[0] if right else wrong,
        note="sample 1" if "best" in name else "R_2",
        values={
            "f1": 1.0 if right else round(0.4 * dice.random(), 3),
            "exact_match": float(right),
            "contains": float(right),
            "groundedness": round(dice.random(), 3),
        },
        **cost,
    )


def row_of(name: str, answers: Sequence[ScoredAnswer], description: str = "") -> ContenderRow:
    count = len(answers)
    return ContenderRow(
        contender=name,
        description=description or f"What {name} does.",
        answers=tuple(answers),
        means={m: sum(a.values.get(m, 0.0) for a in answers) / count for m in METRICS},
        calls=sum(a.calls for a in answers) / count,
        tokens=sum(a.tokens for a in answers) / count,
        missing=sum(a.text is None for a in answers),
    )


def comparisons_of(
    tables: dict[BudgetKind, tuple[ContenderRow, ...]], reference: str
) -> tuple[ContenderComparison, ...]:
    found = []
    for budget, rows in tables.items():
        loop = next(row for row in rows if row.contender == reference)
        others = [row for row in rows if row.contender != reference]
        found += compare_contenders(loop, others, METRICS, budget, resamples=400)
    return tuple(found)


def separation(kind: str, area: float, half: float, wrong: int) -> Separation:
    steps = [n / 20 for n in range(21)]
    return Separation(
        kind=kind,
        area=area,
        low=area - half,
        high=min(1.0, area + half),
        right=40,
        wrong=wrong,
        curve=tuple((x, x ** ((1 - area) / area)) for x in steps),
    )


def judge_report() -> JudgeReport:
    return JudgeReport(
        grader="likelihood:0123abcd",
        questions=40,
        separations=(
            separation("other rows", 0.93, 0.05, 120),
            separation("same documents", 0.71, 0.08, 160),
            separation("echo", 0.55, 0.11, 40),
        ),
        headline="same documents",
        bins=tuple(
            CalibrationBin(
                low=n / 10,
                high=(n + 1) / 10,
                count=10 + n,
                mean_score=n / 10 + 0.05,
                share_right=n / 12,
            )
            for n in range(2, 10)
        ),
        calibration_error=0.11,
        noise=0.02,
        distinct=83,
        most_common=0.06,
        length=Correlation(of="score and length", rho=0.31, p_value=0.004, count=120),
        padding=0.04,
        position=0.12,
        agreement=(
            Correlation(of="G and F1", rho=0.42, p_value=0.001, count=120),
            Correlation(of="A and F1", rho=None, p_value=None, count=3),
        ),
        matrix_noise=0.035,
        epsilon=0.07,
        epsilon_from="asking again",
        notes=("40 questions: areas are known to about 0.1",),
        verdicts=("prefers longer answers (rank correlation 0.31)",),
    )


def matrix_report() -> MatrixReport:
    def level(name: str, place: int) -> LevelTrend:
        means = tuple(round(0.62 - 0.09 * place + 0.04 * t, 3) for t in range(4))
        first = [0.5 - 0.05 * place + 0.002 * n for n in range(30)]
        last = [v + 0.06 + 0.01 * (n % 5) for n, v in enumerate(first)]
        return LevelTrend(
            level=name,
            means=(*means, None),
            spreads=(0.12, 0.13, 0.11, 0.14, None),
            counts=(40, 38, 22, 9, 0),
            slope=0.04,
            rise=compare(first, last, name="A", resamples=400),
            settled=1.1 + 0.4 * place,
        )

    return MatrixReport(
        loops=40,
        levels=tuple(level(name, place) for place, name in enumerate(LEVELS)),
        order=0.31,
        order_p=0.012,
        stops={"convergence": {1: 4, 2: 18, 3: 6}, "max_iterations": {4: 12}},
        flags={"constant_judge": 2},
        failed_cells=3,
        cells=436,
    )


def turning_points(count: int) -> tuple[TurningPoint, ...]:
    shares = (0.30, 0.40, 0.45, 0.44)
    return tuple(
        TurningPoint(
            iteration=t,
            reached=count - 3 * t if count > 12 else count,
            turned_right=(0, 6, 4, 1)[t],
            turned_wrong=(0, 2, 2, 2)[t],
            means={"f1": share + 0.05, "exact_match": share},
            chosen={"f1": share + 0.06, "exact_match": share + 0.01},
        )
        for t, share in enumerate(shares)
    )


def make_report(
    count: int = 40,
    *,
    contenders: Sequence[str] = tuple(CONTENDERS),
    budgets: Sequence[BudgetKind] = ("calls", "tokens"),
    seed: int = 5,
    missing: float = 0.03,
    full: bool = True,
    **changes: object,
) -> EvaluationReport:
    """Return a report over ``count`` questions, the same for the same seed."""
    questions = questions_of(count)
    tables: dict[BudgetKind, tuple[ContenderRow, ...]] = {}
    for budget in budgets:
        rows = []
        for name in contenders:
            chance, calls, tokens = CONTENDERS.get(name, (0.3, 10, 5_000))
            # The same dice for both budgets: most answers fit into either.
            dice = random.Random(f"{seed} {name}")
            answers = []
            for question in questions:
                answer = scored(question, name, chance, dice, calls=calls, tokens=tokens)
                lost, dear = dice.random() < missing, dice.random() < 0.05
                if lost or (dear and budget == "tokens"):
                    nothing = dict.fromkeys(METRICS, 0.0)
                    answer = ScoredAnswer(id=question.id, text=None, values=nothing)
                answers.append(answer)
            rows.append(row_of(name, answers))
        tables[budget] = tuple(rows)
    fields: dict[str, object] = {
        "name": "craters",
        "rows": count,
        "set_hash": f"{count:064x}",
        "reference": "loop",
        "primary": "f1",
        "tables": tables,
        "comparisons": comparisons_of(tables, str(changes.get("reference", "loop"))),
        "seconds": 1_504.2,
    }
    if full:
        fields |= {
            "turning": turning_points(count),
            "judge": judge_report(),
            "matrices": matrix_report(),
            "domains": {"geology": 0.51, "flight": 0.38},
            "generalisation": 0.44,
            "config": {
                "loop": {"max_iterations": 4, "epsilon": 0.05, "levels": list(LEVELS)},
                "evaluation": {"primary": "f1", "seed": 0},
                "teacher": "local",
            },
            "environment": {"python": "3.11.2", "torch": "2.13.0", "student": "sha256:ab12"},
        }
    return EvaluationReport.model_validate(fields | changes)


def attempts_of(report: EvaluationReport) -> list[ContenderAnswer]:
    """Return attempts that end in the answers of the report's first table."""
    found = []
    for row in next(iter(report.tables.values())):
        for answer in row.answers:
            steps = 3 if row.contender == report.reference else 1
            attempts = tuple(
                Attempt(
                    text=answer.text if t == steps - 1 else f"a draft {t} of {answer.id}",
                    calls=max(1, answer.calls * (t + 1) // steps),
                    tokens=max(1, answer.tokens * (t + 1) // steps),
                    note=f"R_{t}",
                    grade=0.2 + 0.3 * t,
                )
                for t in range(steps if answer.text is not None else 0)
            )
            found.append(
                ContenderAnswer(
                    contender=row.contender,
                    id=answer.id,
                    attempts=attempts,
                    failure="" if attempts else "the model said nothing",
                    seconds=1.5,
                )
            )
    return found


def with_text(report: EvaluationReport, text: str) -> EvaluationReport:
    """Return the report with one text as every answer, name, note and setting of users."""
    data = report.model_dump()
    for rows in data["tables"].values():
        for row in rows:
            row["description"] = text
            for answer in row["answers"]:
                answer.update(text=text, note=text)
    data |= {"name": text, "config": {text: text}, "environment": {text: [text]}}
    data |= {"warnings": (text,), "domains": {text: 0.5}}
    data["judge"] |= {"grader": text, "verdicts": (text,), "notes": (text,)}
    data["matrices"]["levels"][0]["level"] = text
    data["matrices"]["stops"] = {text: {1: 3}}
    return EvaluationReport.model_validate(data)
