"""All steps together: what holds whatever the rows are."""

import asyncio
import json
import random
from collections import Counter

import pytest
from curated import OFF, pair, refined, row, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.config import CurationConfig
from reflectory.models.protocol import Capability, content_hash
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.models import ScriptedModel
from reflectory.training import CurationCounts, CurationTools, read_dataset, refine, write_dataset
from reflectory.training.curation import Curation, Outcome, steps_for
from reflectory.training.curation.words import words_of
from reflectory.types import Document

EVALUATION = ("How old is the crater on the far side of the moon?", "Who found it?")


def chance(request, text):
    """Return a likelihood that depends on prompt and text, and on nothing else."""
    prompt = request.segments[0].text
    return -0.1 - 3.0 * int(content_hash(prompt, text)[:4], 16) / 0xFFFF


TOOLS = CurationTools(
    student=ScriptedModel({}, capabilities=frozenset({Capability.SCORE}), score=chance),
    embedder=HashingEmbedder(),
    evaluation_texts=EVALUATION,
    documents=[
        Document(id="free", text="x", metadata={"licence": "mit"}),
        Document(id="closed", text="x", metadata={"licence": "none of yours"}),
    ],
    count_tokens=lambda text: len(text.split()),
)

EVERYTHING = {
    "minimum_groundedness": 0.3,
    "minimum_agreement": 0.3,
    "duplicates": "minhash",
    "duplicate_overlap": 0.5,
    "duplicate_cosine": 0.9,
    "decontaminate": True,
    "difficulty": True,
    "level_balance": 1.0,
    "minimum_words": 1,
    "maximum_tokens": 30,
    "licences": ("mit",),
    "personal_data": "mask",
}

phrases = st.lists(
    st.sampled_from(
        [
            "the crater",
            "is old",
            "rock fell",
            "on the far side of the moon",
            "ada@mail.example",
            "How old is",
            "隕石坑",
            "wind",
            "rain",
            "Who found it?",
            "blew for many years",
        ]
    ),
    min_size=1,
    max_size=5,
).map(" ".join)
unit = st.one_of(st.none(), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
provenances = st.fixed_dictionaries(
    {
        "score": unit,
        "groundedness": unit,
        "agreement": unit,
        "level": st.sampled_from([None, "basic", "advanced", "expert"]),
        "trajectory": st.sampled_from(["a", "b"]),
        "passages": st.sampled_from([(), ("free#0",), ("closed#1",)]),
        "source": st.sampled_from(["self", "self", "manual"]),
    }
)
# Few different ones, so that near-duplicates with other grades are frequent.
asked_ = st.sampled_from(["What is old?", "Who found it?", "How old is the crater over there?"])
said_ = st.one_of(
    phrases, st.sampled_from(["the crater is old", "the crater is very old", "the old crater"])
)
rows_ = st.lists(
    st.builds(lambda text, asked, made: row(text, asked, **made), said_, asked_, provenances),
    max_size=12,
)
pairs_ = st.lists(
    st.builds(
        lambda chosen, rejected, asked, made: pair(chosen, rejected, asked, **made),
        said_,
        phrases,
        asked_,
        provenances,
    ),
    max_size=6,
)
switches = st.sets(st.sampled_from(sorted(EVERYTHING))).map(
    lambda names: {name: EVERYTHING[name] for name in names}
)


def content(rows):
    """Return rows in an order of their own, to compare them as a collection."""
    return sorted(r.model_dump_json() for r in rows)


@settings(deadline=None, max_examples=100)
@given(rows_, pairs_, switches, st.sampled_from(["minhash", "embeddings", "off"]), st.randoms())
def test_refining_loses_nothing_uncounted_and_depends_on_no_order(
    rows, pairs, switched, method, shuffle
):
    switched = {**switched, "duplicates": method}
    result = refined(rows, pairs, TOOLS, **switched)
    for kind, given_, left in (
        ("rows", rows, result.rows),
        ("pairs", pairs, result.preferences),
    ):
        seen = len(given_)
        for step in result.counts.steps:
            tally = getattr(step, kind)
            assert tally.seen == seen == tally.accepted + sum(tally.refused.values())
            seen = tally.accepted
        assert seen == len(left)
        if "personal_data" not in switched:
            assert not Counter(content(left)) - Counter(content(given_))
            places = [given_.index(r) for r in left]
            assert places == sorted(places)

    again = refined(result.rows, result.preferences, TOOLS, **switched)
    assert (again.rows, again.preferences) == (result.rows, result.preferences)

    mixed_rows, mixed_pairs = shuffle.sample(rows, len(rows)), shuffle.sample(pairs, len(pairs))
    mixed = refined(mixed_rows, mixed_pairs, TOOLS, **switched)
    assert content(mixed.rows) == content(result.rows)
    assert content(mixed.preferences) == content(result.preferences)
    assert mixed.counts == result.counts


variants = st.tuples(
    st.sampled_from(["the crater is old", "the crater is very old", "the old crater", "wind"]),
    st.sampled_from(["basic", "advanced", "expert"]),
)


@settings(deadline=None)
@given(
    st.lists(variants, min_size=2, max_size=8),
    st.sampled_from(
        [{"duplicates": "minhash"}, {"duplicates": "embeddings"}, {"level_balance": 1}]
    ),
    st.data(),
)
def test_which_of_several_rows_stays_depends_on_their_grades_alone(drawn, switched, data):
    rows = [
        row(text, "How old?", level=level, score=(n + 1) / 10)
        for n, (text, level) in enumerate(drawn)
    ]
    names = {"duplicate_overlap": 0.5, "duplicate_cosine": 0.8, **switched}
    result = refined(rows, tools=TOOLS, **names)
    mixed = refined(data.draw(st.permutations(rows)), tools=TOOLS, **names)
    assert content(mixed.rows) == content(result.rows)
    assert rows[-1] in result.rows  # the best of all


def test_every_switch_adds_its_step():
    names = [step.name for step in steps_for(CurationConfig(**EVERYTHING), TOOLS)]
    assert names == [
        "well-formed",
        "licences",
        "personal data",
        "groundedness",
        "agreement",
        "length",
        "decontamination",
        "near-duplicates",
        "difficulty",
        "levels",
    ]
    assert [s.name for s in steps_for(CurationConfig(**OFF), CurationTools())] == ["well-formed"]


def test_counts_of_several_refinements_stand_one_behind_the_other():
    first = refined([row(), row("Two words.")], minimum_words=3)
    config = CurationConfig(**OFF, maximum_words=2)
    second = asyncio.run(refine(first, config))
    assert [s.name for s in second.counts.steps] == ["well-formed", "length"] * 2
    assert second.rows == ()
    assert second.config == config


class Shouting:
    """A step of somebody else."""

    name = "shouting"
    explanation = "Rows that shout are refused."

    async def apply(self, rows):
        kept = tuple(r for r in rows if "!" not in r.model_dump_json())
        return Outcome(kept, {"shouts": len(rows) - len(kept)} if len(rows) > len(kept) else {})


def test_steps_can_be_ones_own():
    config = CurationConfig(**OFF)
    given_ = Curation((row(), row("Old!")), (), CurationCounts(), config)
    steps = [*steps_for(config, CurationTools()), Shouting()]
    result = asyncio.run(refine(given_, config, steps=steps))
    assert texts(result.rows) == ["It is old."]
    assert result.counts.steps[-1].rows.refused == {"shouts": 1}


def test_the_card_has_a_section_for_every_step(tmp_path):
    result = refined(
        [row(), row("Ask ada@mail.example", "Whom?"), row("It is OLD", score=0.5)],
        [pair()],
        TOOLS,
        duplicates="minhash",
        decontaminate=True,
        personal_data="mask",
    )
    manifest = write_dataset(
        tmp_path / "set", result.rows, rule=result.config, counts=result.counts
    )
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    for number, step in enumerate(result.counts.steps, start=1):
        assert f"### {number}. {step.name}\n\n{step.explanation}\n" in card
    assert "| rows | 3 | 2 | near_duplicate 1 |" in card
    assert "| preference pairs | 1 | 1 | - |" in card
    assert "Changed: 1." in card
    assert read_dataset(tmp_path / "set").manifest == manifest
    assert manifest.counts == result.counts


def test_enormous_texts_are_no_trouble():
    random.seed(0)
    words = [f"w{random.randrange(5000)}" for _ in range(200_000)]
    enormous = row(" ".join(words), "Tell it all.", score=0.9)
    nearly = row(" ".join([*words[:1000], "changed", *words[1001:]]), "Tell it all.", score=0.8)
    unbroken = row("x" * 1_000_000, "And that?")
    result = refined(
        [nearly, enormous, unbroken],
        tools=CurationTools(evaluation_texts=[" ".join(words[-9:]), *EVALUATION]),
        duplicates="minhash",
        decontaminate=True,
        personal_data="refuse",
    )
    assert result.counts.steps[-2].rows.refused == {"completion_in_evaluation": 2}
    tools = CurationTools(evaluation_texts=EVALUATION)
    kept = refined(
        [nearly, enormous, unbroken], tools=tools, duplicates="minhash", decontaminate=True
    ).rows
    assert [r.provenance.question for r in kept] == ["Tell it all.", "And that?"]
    assert kept[0] is enormous or kept[0] == enormous


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The well-known crater's age.", ["wellknown", "craters", "age"]),
        ("月の隕石坑", ["月", "の", "隕", "石", "坑"]),
        ("عمر الفوهة؟", ["عمر", "الفوهة"]),
        ("हिन्दी में।", ["हिन्दी", "में"]),
        ("“Quoted” — and … dashed", ["quoted", "and", "dashed"]),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", ["full", "width"]),  # noqa: RUF001
        ("달의 나이", ["달의", "나이"]),
        ("🚀 ☄", ["🚀", "☄"]),
        ("。、 — ?", []),
    ],
)
def test_words_of_all_scripts(text, words):
    assert words_of(text) == words


def test_counts_of_older_data_sets_can_be_read():
    old = {"trajectories": {"seen": 1, "accepted": 1, "refused": {}}}
    counts = CurationCounts.model_validate_json(json.dumps(old))
    assert counts.steps == () and counts.trajectories.accepted == 1
    assert list(counts.kinds) == ["trajectories", "responses", "answers", "pairs"]
