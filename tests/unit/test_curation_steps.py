"""The steps after the selection, one by one."""

import asyncio
import math

import pytest
from curated import apply, pair, refined, row, texts

from reflectory.config import CurationConfig
from reflectory.errors import BackendError, ConfigError, UserError
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Capability
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel
from reflectory.testing.tiny import tiny_model
from reflectory.training.curation.balance import LevelBalance
from reflectory.training.curation.contamination import Decontamination, EvaluationIndex
from reflectory.training.curation.difficulty import Difficulty, difficulty_of
from reflectory.training.curation.duplicates import (
    EmbeddingDuplicates,
    MinHashDuplicates,
    bands_for,
    overlap,
    shingles_of,
)
from reflectory.training.curation.reading import question_of
from reflectory.training.curation.steps import CurationTools
from reflectory.types import Document

LONG = (
    "The probe reached the outer planet after nine years and sent back pictures of its rings, "
    "its moons and the storm that has been raging in its southern half for a century"
)


def test_without_switches_only_the_well_formed_rows_are_asked_for():
    result = refined([row()], [pair()])
    assert [step.name for step in result.counts.steps] == ["well-formed"]
    assert (result.rows, result.preferences) == ((row(),), (pair(),))


def test_rows_that_no_file_can_hold_are_refused():
    whole = row()
    broken = [
        whole.model_copy(update={"completion": ()}),
        whole.model_copy(update={"prompt": None}),
        whole.model_copy(update={"provenance": None}),
        type(whole).model_construct(kind="sft"),
        row("Half a pair \ud800 of surrogates."),
        whole.model_copy(
            update={"provenance": whole.provenance.model_copy(update={"score": math.nan})}
        ),
        whole.model_copy(
            update={"provenance": whole.provenance.model_copy(update={"iteration": -1})}
        ),
    ]
    result = refined([*broken, whole], [pair().model_copy(update={"margin": math.nan}), pair()])
    assert (result.rows, result.preferences) == ((whole,), (pair(),))
    (step,) = result.counts.steps
    assert step.rows.refused == {"broken": len(broken)}
    assert step.pairs.refused == {"broken": 1}


def test_thresholds_refuse_what_is_low_and_what_was_not_measured():
    rows = [
        row("a", groundedness=0.5, agreement=1.0),
        row("b", groundedness=0.4, agreement=1.0),
        row("c", agreement=1.0),
        row("d", groundedness=1.0, agreement=0.1),
        row("e", source="manual", score=None),
    ]
    result = refined(rows, minimum_groundedness=0.5, minimum_agreement=0.5)
    assert texts(result.rows) == ["a", "e"]
    grounded, agreed = result.counts.steps[1:]
    assert grounded.rows.refused == {"low_groundedness": 1, "not_measured": 1}
    assert agreed.rows.refused == {"low_agreement": 1}
    assert "0.5" in grounded.explanation


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"minimum_words": 4}, "short_completion"),
        ({"maximum_words": 2}, "long_completion"),
        ({"maximum_prompt_words": 3}, "long_prompt"),
        ({"maximum_tokens": 6}, "many_tokens"),
    ],
)
def test_length(settings, reason):
    tools = CurationTools(count_tokens=lambda text: len(text.split()))
    counts = refined([row("It is old.", "How old is it?")], tools=tools, **settings).counts
    assert counts.steps[-1].rows.refused == {reason: 1}
    name, limit = next(iter(settings.items()))
    further = {name: limit - 1 if name == "minimum_words" else limit + 1}
    assert refined([row("It is old.", "How old is it?")], tools=tools, **further).rows


def test_scripts_without_spaces_are_measured_in_characters():
    result = refined([row("這個隕石坑有三百萬年的歷史")], maximum_words=12)
    assert result.counts.steps[-1].rows.refused == {"long_completion": 1}
    assert refined([row("這個隕石坑有三百萬年的歷史")], maximum_words=13).rows


@pytest.mark.parametrize(
    "method", [MinHashDuplicates(0.8), EmbeddingDuplicates(HashingEmbedder(), 0.95)]
)
def test_of_near_duplicates_the_better_graded_stays(method):
    worse = row(LONG + ".", score=0.6, trajectory="a")
    better = row(LONG.upper(), score=0.9, trajectory="b")
    other = row("It is older than the hills.", "How old is it?", score=0.5)
    for given in ([worse, better, other], [other, better, worse]):
        outcome = apply(method, given)
        assert outcome.kept == tuple(r for r in given if r is not worse)
        assert outcome.refused == {"near_duplicate": 1}
    assert apply(method, []).kept == ()


def test_a_persons_row_stays_before_a_better_graded_one():
    manual = row(LONG, source="manual", score=None)
    assert apply(MinHashDuplicates(0.8), [row(LONG, score=1.0), manual]).kept == (manual,)


def test_short_answers_to_different_questions_are_no_duplicates():
    asked = [row("Paris.", f"What is the capital of {name}?") for name in ("France", "Spain")]
    assert len(apply(MinHashDuplicates(0.8), asked).kept) == 2


def test_rows_with_the_same_documents_are_compared_by_what_was_asked():
    documents = "[1] " + LONG
    rows = [
        row("Nine.", "How many years did it fly?", documents=documents, passages=("d#0",)),
        row("Its rings.", "Of what did it send pictures?", documents=documents, passages=("d#0",)),
    ]
    bare = [r.model_copy(update={"provenance": _without_question(r)}) for r in rows]
    assert [question_of(r) for r in bare] == [question_of(r) for r in rows]
    for given in (rows, bare):
        assert len(apply(MinHashDuplicates(0.5), given).kept) == 2


def _without_question(made):
    return made.provenance.model_copy(update={"question": ""})


def test_pairs_are_duplicates_with_both_sides_alike():
    pairs = [
        pair(LONG, "No idea."),
        pair(LONG + "!", "No idea!"),
        pair(LONG, "Because the moons pull at it, as they do with everything that comes near."),
    ]
    assert len(apply(MinHashDuplicates(0.8), pairs).kept) == 2


def test_the_runs_decide_what_is_near_and_not_the_signature():
    words = LONG.split()
    texts_ = [" ".join([*words[:n], "changed", *words[n + 1 :]]) for n in range(len(words))]
    threshold = 0.85
    rows = [row(text, "Q?", score=1 - n / 100) for n, text in enumerate([LONG, *texts_])]
    kept = apply(MinHashDuplicates(threshold), rows).kept
    sets = [shingles_of(f"Q?\n{text}") for text in texts(kept)]
    pairs = [(a, b) for i, a in enumerate(sets) for b in sets[i + 1 :]]
    assert kept[0] is rows[0]
    assert 1 < len(kept) < len(rows)
    assert all(overlap(a, b) < threshold for a, b in pairs)


def test_a_duplicate_is_found_among_hundreds_that_are_not_near_enough():
    start = " ".join(LONG.split()[:18])
    many = [row(f"{start} {n} {n + 1} {n + 2}", "Q?", score=0.9) for n in range(0, 900, 3)]
    late = row(f"{start} 600 601 602!", "Q?", score=0.1)
    outcome = apply(MinHashDuplicates(0.75), [*many, late])
    assert outcome.kept == tuple(many)
    alike = overlap(*(shingles_of(f"Q?\n{text}") for text in texts(many[:2])))
    assert 0.6 < alike < 0.75
    nearly = row(f"{start} 600 601 changed", "Q?", score=0.1)
    assert apply(MinHashDuplicates(0.75), [*many, nearly]).kept == tuple(many)


def test_a_pair_at_the_threshold_is_proposed_with_the_promised_probability():
    for threshold in (0.1, 0.5, 0.8, 0.95, 1.0):
        bands, size = bands_for(threshold)
        assert bands * size <= 128 and bands >= 2
        assert 1 - (1 - threshold**size) ** bands >= 0.95


def test_decontamination_finds_runs_of_words_and_whole_short_questions():
    evaluation = [LONG, "How old is the crater?", "Who?", "In 1969", ""]
    step = Decontamination(EvaluationIndex.of(evaluation, 8), len(evaluation))
    contaminated = {
        "question_in_evaluation": [
            row("x", "Please say: how old is the crater"),
            row("x", "Who"),
            row("x", "It is said that " + LONG.upper()),
        ],
        "completion_in_evaluation": [row("We know, " + " ".join(LONG.split()[5:14]))],
    }
    clean = [
        row("In 1969.", "When was it?"),
        row("x", "Who came first?"),
        row("How old is the crater?", "Which question would you ask?"),
        row(" ".join(LONG.split()[5:12]), "What did it do?"),
        row("x", "y", documents=LONG),
    ]
    for reason, rows in contaminated.items():
        outcome = apply(step, rows)
        assert (outcome.kept, outcome.refused) == ((), {reason: len(rows)})
    assert apply(step, clean).kept == tuple(clean)
    wider = Decontamination(step.index, 3, prompts=True)
    assert apply(wider, clean[-1:]).refused == {"prompt_in_evaluation": 1}


@pytest.mark.parametrize(
    ("evaluation", "question"),
    [
        ("这个陨石坑是由什么东西撞击形成的", "请回答:这个陨石坑是由什么东西撞击形成的?"),
        (
            "كم عمر الفوهة التي وجدها العلماء على سطح القمر؟",
            "كم عمر الفوهة التي وجدها العلماء على سطح القمر",
        ),
        ("จรวดลำนี้ไปถึงดวงจันทร์เมื่อไร", "บอกฉันว่าจรวดลำนี้ไปถึงดวงจันทร์เมื่อไร"),
        ("Ｗｈａｔ　ｍａｄｅ　ｔｈｅ　ｃｒａｔｅｒ？", "what made the “crater”"),  # noqa: RUF001
        ("It’s the crater’s age, is it not", "Its the craters age is it not?"),  # noqa: RUF001
    ],
)
def test_decontamination_reads_other_scripts(evaluation, question):
    step = Decontamination(EvaluationIndex.of([evaluation], 8), 1)
    assert apply(step, [row("x", question)]).refused == {"question_in_evaluation": 1}
    assert apply(step, [row("x", "Something else altogether?")]).kept


def test_an_empty_evaluation_set_refuses_nothing_but_has_to_be_named():
    tools = CurationTools(evaluation_texts=())
    result = refined([row()], tools=tools, decontaminate=True)
    assert result.rows == (row(),)
    assert "Compared with 0 questions and answers" in result.counts.steps[-1].explanation


@pytest.mark.parametrize(
    ("settings", "tool", "step"),
    [
        ({"decontaminate": True}, "evaluation_texts", "decontaminate"),
        ({"duplicates": "embeddings"}, "embedder", "duplicates: embeddings"),
        ({"difficulty": True}, "student", "difficulty"),
        ({"maximum_tokens": 9}, "count_tokens", "maximum_tokens"),
        ({"licences": ("mit",)}, "documents", "licences"),
    ],
)
def test_a_step_without_its_tool_names_both(settings, tool, step):
    with pytest.raises(UserError) as caught:
        refined([row()], **settings)
    assert f"`{step}` needs `{tool}`" in str(caught.value)


def scoring(after, alone):
    """Return a student that finds completions this likely after a prompt, and without one."""

    def score(request, text):
        return after(text) if request.segments[0].text else alone(text)

    return ScriptedModel({}, capabilities=frozenset({Capability.SCORE}), score=score)


def test_difficulty_is_the_ratio_of_the_students_perplexities():
    student = scoring(lambda text: -1.0, lambda text: -1.5)
    value = asyncio.run(difficulty_of(row("It is old."), student))
    assert value == pytest.approx(math.exp(1.0) / math.exp(1.5))
    prompted, alone = student.score_requests
    assert prompted.continuations == alone.continuations == ("It is old.",)
    assert [s.text for s in prompted.segments] == ["How old is it?"]
    assert [s.text for s in alone.segments] == [""]


def test_difficulty_keeps_its_range():
    likely = {"easy": -0.1, "fair": -1.0, "hard": -3.0, "harder": -math.inf, "odd": math.nan}
    rows = [row(text) for text in likely]
    tools = CurationTools(student=scoring(likely.get, lambda text: -2.0))
    result = refined(rows, tools=tools, difficulty=True, minimum_difficulty=0.2)
    assert texts(result.rows) == ["fair"]
    assert result.counts.steps[-1].rows.refused == {
        "not_measurable": 1,
        "too_easy": 1,
        "too_hard": 2,
    }
    same = CurationTools(student=scoring(lambda text: -2.0, lambda text: -2.0))
    assert refined(rows[:1], tools=same, difficulty=True).rows == ()


def test_difficulty_of_impossible_texts_is_no_overflow():
    student = scoring(lambda text: -2000.0, lambda text: -1.0)
    assert asyncio.run(difficulty_of(row(), student)) == math.inf


def test_a_student_that_cannot_score_is_named():
    with pytest.raises(UserError, match="scripted"):
        Difficulty(ScriptedModel({}))


def test_a_failing_student_is_no_verdict_on_a_row():
    def fail(request, text):
        raise BackendError("the server is gone")

    student = ScriptedModel({}, capabilities=frozenset({Capability.SCORE}), score=fail)
    with pytest.raises(BackendError):
        apply(Difficulty(student), [row()])


def test_difficulty_on_a_transformer():
    model, tokenizer = tiny_model(0)
    student = LocalModel(model, tokenizer, fingerprint="tiny")

    async def both():
        try:
            values = [await difficulty_of(r, student) for r in rows]
            return values, await Difficulty(student, 0.0, 100.0).apply(rows)
        finally:
            await student.aclose()

    rows = [row(), row("A falling rock.")]
    values, outcome = asyncio.run(both())
    assert all(0 < value < 100 for value in values)
    assert outcome.kept == tuple(rows)


def test_rows_that_are_too_long_for_the_student_are_refused_and_not_an_error():
    model, tokenizer = tiny_model(0)
    student = LocalModel(model, tokenizer, fingerprint="tiny")
    step = Difficulty(student, 0.0, 100.0)
    assert apply(step, [row("word " * 20_000)]).refused == {"not_measurable": 1}


def test_levels_are_balanced_by_the_one_in_the_middle():
    rows = [
        row(f"{level} {n}", level=level, what="answer", score=n / 10)
        for level, count in (("basic", 9), ("advanced", 3), ("expert", 1))
        for n in range(count)
    ]
    rows.append(row("the instruction"))
    outcome = apply(LevelBalance(1.5), rows)
    assert [t for t in texts(outcome.kept) if t.startswith("basic")] == [
        "basic 5",
        "basic 6",
        "basic 7",
        "basic 8",
    ]
    assert outcome.refused == {"crowded_level": 5}
    assert texts(outcome.kept)[-5:] == [
        *(f"advanced {n}" for n in range(3)),
        "expert 0",
        "the instruction",
    ]
    assert apply(LevelBalance(1.5), outcome.kept).kept == outcome.kept


def test_of_two_levels_the_smaller_is_the_one_in_the_middle():
    rows = [row(f"{n}", level="basic" if n else "expert", what="answer") for n in range(5)]
    assert apply(LevelBalance(2.0), rows).refused == {"crowded_level": 2}


@pytest.mark.parametrize(
    ("passages", "reason"),
    [
        (("free#0", "free#12"), ""),
        ((), ""),
        (("closed#1", "free#0"), "licence_not_allowed"),
        (("silent#0",), "licence_unknown"),
        (("lost#0",), "licence_unknown"),
        (("both#0",), "licence_not_allowed"),
        (("free",), ""),
        (("odd#name#3",), ""),
    ],
)
def test_licences_of_the_documents_decide(passages, reason):
    stated = {
        "free": "CC BY-SA 4.0",
        "closed": "All rights reserved",
        "silent": "",
        "both": "cc-by-sa-4.0, proprietary",
        "odd#name": "mit",
    }
    documents = [
        Document(id=name, text="x", metadata={"licence": licence} if licence else {})
        for name, licence in stated.items()
    ]
    tools = CurationTools(documents=documents)
    result = refined([row(passages=passages)], tools=tools, licences=("cc-by-sa-4.0", "MIT"))
    assert result.counts.steps[-1].rows.refused == ({reason: 1} if reason else {})
    allowed = refined([row(passages=("silent#0",))], tools=tools, licences=("mit", "unknown"))
    assert allowed.rows


def test_settings_that_contradict_one_another_are_refused():
    with pytest.raises(ConfigError, match="minimum_difficulty"):
        CurationConfig(minimum_difficulty=1.0)
    with pytest.raises(ConfigError, match="minimum_words"):
        CurationConfig(minimum_words=9, maximum_words=8)
