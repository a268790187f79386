"""IFEval's 25 kinds: what follows, what does not, and what a loose look forgives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.evaluation.metrics.instructions import (
    CHECKS,
    Instruction,
    follow,
    following_accuracy,
    follows,
    read_verifiable_prompts,
)
from reflectory.evaluation.metrics.instructions.text import (
    capital_words,
    count_sentences,
    count_words,
    detect_language,
)

ENGLISH = "the old lighthouse keeper walks along the shore every morning and counts the boats"
GERMAN = "Der alte Leuchtturmwärter geht jeden Morgen am Ufer entlang und zählt die Boote."
FIRST_WORD = {"num_paragraphs": 3, "nth_paragraph": 2, "first_word": "Boats"}

# kind, parameters, what follows, what does not
CASES = [
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["BIG red BOATS", "I saw NASA", "WELL-KNOWN things, I say"],
        ["BIG red boats", "Big Red Boats"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        ["BIG red boats", "none"],
        ["BIG red BOATS"],
    ),
    (
        "change_case:english_capital",
        {},
        [ENGLISH.upper() + " 12."],
        [ENGLISH, ENGLISH.upper() + " x", GERMAN.upper()],
    ),
    (
        "change_case:english_lowercase",
        {},
        [ENGLISH, ENGLISH + " 12!"],
        [ENGLISH.capitalize(), GERMAN.lower()],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Name a boat. "},
        ["Name a boat. The Bounty.", "  NAME A BOAT.\n\nThe Bounty."],
        ["Sure! Name a boat. The Bounty.", "Name a ship."],
    ),
    (
        "combination:two_responses",
        {},
        ["one\n******\ntwo", "******one******two******"],
        ["one", "one******one", "one******two******three", "one************two", "a***b"],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        ["[name] lives in [town]", "[][] "],
        ["[name] lives here", "[name\n] and [town"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["Bye.\nP.S. call me", "bye p. s. x"],
        ["Bye. PS call me", "Bye"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        ["P.P.S one more", "p. p. s"],
        ["P.S. one more"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "NB:"},
        ["nb: one more"],
        ["P.S. one more"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["My answer is maybe.", "Well. My answer is no. Sorry."],
        ["My answer is perhaps.", "my answer is no."],
    ),
    (
        "detectable_format:json_format",
        {},
        ['{"a": [1, 2]}', '```json\n{"a": 1}\n```', "```\n[1]\n```", "3"],
        ["{'a': 1}", 'Here it is: {"a": 1}', "[" * 100_000],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Day", "num_sections": 2},
        ["Day 1\nsail\nDay 2\nrest", "Day1 Day2 Day 3"],
        ["Day 1 only", "Day one, Day two", "DAY 1 DAY 2"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["* a\n* b", "Boats:\n - a\n  * b"],
        ["* a", "* a\n* b\n- c", "**a**\n**b**", "1. a\n2. b"],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        ["*a* and *b*", "**a** then *b*", "**a** **b**"],
        ["*a*", "** ** **", "*a\nb* *c*"],
    ),
    (
        "detectable_format:title",
        {},
        ["<<Boats>>\ntext", "text <<< Boats >>>"],
        ["<Boats>", "<< >>", "<<\nBoats>>"],
    ),
    (
        "keywords:existence",
        {"keywords": ["boat", "c++"]},
        ["Boats in C++"],
        ["boats in C", "only c++"],
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["boat", "sea"]},
        ["boats and seals"],
        ["a BOAT!", "the sea."],
    ),
    (
        "keywords:frequency",
        {"keyword": "boat", "frequency": 2, "relation": "at least"},
        ["Boat, boats", "boatboat boat"],
        ["boat"],
    ),
    (
        "keywords:frequency",
        {"keyword": "boat", "frequency": 2, "relation": "less than"},
        ["boat", "none"],
        ["boat boat"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "q", "let_frequency": 2, "let_relation": "at least"},
        ["Quick queue", "QQ"],
        ["quick"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "!", "let_frequency": 1, "let_relation": "less than"},
        ["quiet"],
        ["loud!"],
    ),
    ("language:response_language", {"language": "de"}, [GERMAN, "123!"], [ENGLISH]),
    ("language:response_language", {"language": "en"}, [ENGLISH], [GERMAN]),
    (
        "length_constraints:nth_paragraph_first_word",
        FIRST_WORD,
        ["One.\n\nboats, many.\n\nThree.", 'One.\n\n\'"Boats" here.\n\nThree.'],
        [
            "One.\n\nMany boats.\n\nThree.",
            "One.\n\nboats.",
            "One.\n\nboats.\n\nThree.\n\nFour.",
            "Boats.\n\nTwo.\n\nThree.",
            "One.\n\n\n\nboats.\n\nThree.",
            "One.\nboats.\nThree.",
        ],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["one\n***\ntwo", "***\none\n\n***\n\ntwo\n***", "one***two"],
        ["one", "one\n\ntwo", "one\n***\ntwo\n***\nthree", "one\n***\n***\ntwo"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "at least"},
        ["Dr. Ray left. He ran.", "Why? Because!"],
        ["Dr. Ray left", "One, e.g. this one."],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        ["Dr. Ray left."],
        ["Ray left. He ran."],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ["one two three", "well-known boats"],
        ["one two", "one, - two"],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "less than"},
        ["one two"],
        ["one two three"],
    ),
    ("punctuation:no_comma", {}, ["a; b"], ["a, b"]),
    (
        "startend:end_checker",
        {"end_phrase": "Any more boats?"},
        ["Yes. ANY more boats?", '"Yes. Any more boats?" '],
        ["Any more boats? No.", "Any more boats"],
    ),
    ("startend:quotation", {}, ['"all of it"', ' "x" ', '""'], ['"', 'not "all"', "'single'"]),
]


def test_every_published_kind_is_tried():
    assert len(CHECKS) == 25
    assert set(CHECKS) == {kind for kind, *_ in CASES}


@pytest.mark.parametrize(("kind", "parameters", "good", "bad"), CASES)
def test_checks_tell_following_from_not_following(kind, parameters, good, bad):
    instruction = Instruction(id=kind, parameters=parameters)
    assert [text for text in good if not follows(text, instruction)] == []
    assert [text for text in bad if follows(text, instruction)] == []


@pytest.mark.parametrize(("kind", "parameters", "good", "bad"), CASES)
def test_no_response_and_a_blank_one_follow_nothing(kind, parameters, good, bad):
    instruction = Instruction(id=kind, parameters=parameters)
    for response in (None, "", " \n "):
        found = follow(response, [instruction])
        assert (found.strict, found.loose) == ((False,), (False,))


@given(st.text(), st.sampled_from(CASES))
def test_any_response_is_judged_and_strict_implies_loose(response, case):
    kind, parameters, _, _ = case
    found = follow(response, [Instruction(id=kind, parameters=parameters)])
    assert not found.strict[0] or found.loose[0]


@pytest.mark.parametrize(
    ("response", "kind", "parameters"),
    [
        ("Sure, here you are:\none two", "punctuation:no_comma", {}),
        ("one two\nYours, Ray", "punctuation:no_comma", {}),
        ("Sure, yes:\none two\nYours, Ray", "punctuation:no_comma", {}),
        ('Here:\n"one two"', "startend:quotation", {}),
        ("**The end**", "startend:end_checker", {"end_phrase": "the end"}),
        ('*Here:*\n*"one two"*\nBye', "startend:quotation", {}),
    ],
)
def test_a_loose_look_forgives_first_line_last_line_and_stars(response, kind, parameters):
    found = follow(response, [Instruction(id=kind, parameters=parameters)])
    assert (found.strict, found.loose) == ((False,), (True,))


def test_a_loose_look_does_not_forgive_what_is_in_the_middle():
    response = "one\ntwo, three\nfour\nfive"
    assert not follow(response, [Instruction(id="punctuation:no_comma")]).loose[0]


def test_the_four_figures_are_counted_by_hand():
    comma = Instruction(id="punctuation:no_comma")
    quoted = Instruction(id="startend:quotation")
    title = Instruction(id="detectable_format:title")
    results = [
        follow('"fine"', [comma, quoted]),  # both
        follow("fine", [comma, quoted]),  # one of two
        follow("Well, so:\nfine", [comma]),  # loosely only
        follow(None, [title]),  # none
    ]
    found = following_accuracy(results)
    assert (found.prompts, found.instructions) == (4, 6)
    assert (found.strict_prompt, found.strict_instruction) == (1 / 4, 3 / 6)
    assert (found.loose_prompt, found.loose_instruction) == (2 / 4, 4 / 6)
    assert found.by_kind == {
        "detectable_format:title": 0.0,
        "punctuation:no_comma": 2 / 3,
        "startend:quotation": 1 / 2,
    }
    with pytest.raises(UserError, match="nothing to average"):
        following_accuracy([])


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("keywords:rhyme", {}, "unknown kind"),
        ("punctuation:no_comma", {"n": 1}, "takes none"),
        ("keywords:frequency", {"keyword": "a", "frequency": 1}, "relation"),
        (
            "keywords:frequency",
            {"keyword": "a", "frequency": 1, "relation": "exactly"},
            "'exactly'",
        ),
        ("keywords:existence", {"keywords": "boat"}, "'boat'"),
        ("keywords:existence", {"keywords": []}, r"\[\]"),
        ("detectable_content:number_placeholders", {"num_placeholders": "2"}, "'2'"),
        ("detectable_content:number_placeholders", {"num_placeholders": 1.5}, "1.5"),
        ("detectable_content:number_placeholders", {"num_placeholders": True}, "True"),
        ("detectable_content:number_placeholders", {"num_placeholders": float("nan")}, "nan"),
        ("detectable_content:number_placeholders", {"num_placeholders": float("inf")}, "inf"),
        ("length_constraints:nth_paragraph_first_word", FIRST_WORD | {"nth_paragraph": 0}, "is 0"),
        ("startend:end_checker", {"end_phrase": ""}, "end_phrase"),
    ],
)
def test_an_instruction_that_cannot_be_checked_is_an_error(kind, parameters, message):
    with pytest.raises(UserError, match=message):
        Instruction(id=kind, parameters=parameters)


def test_parameters_that_are_none_are_left_out():
    given = {"num_words": 5.0, "relation": "at least", "letter": None}
    instruction = Instruction(id="length_constraints:number_words", parameters=given)
    assert instruction.parameters == {"num_words": 5, "relation": "at least"}
    assert isinstance(instruction.parameters["num_words"], int)
    assert Instruction.model_validate_json(instruction.model_dump_json()) == instruction


def test_prompts_are_read_in_the_published_shape(tmp_path):
    file = tmp_path / "prompts.jsonl"
    rows = [
        {
            "key": 7,
            "prompt": "Name boats without commas, in 3 words or more.",
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
            "kwargs": [{"num_words": None}, {"num_words": 3, "relation": "at least"}],
        },
        {"prompt": "A title.", "instruction_id_list": ["detectable_format:title"], "kwargs": [{}]},
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    first, second = read_verifiable_prompts(file)
    assert (first.id, second.id) == ("7", "2")
    assert follow("Bounty Victory Argo", first.instructions).strict == (True, True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not a prompt"),
        ("[]", "not a prompt"),
        ('{"prompt": "x", "instruction_id_list": [], "kwargs": []}', "not a prompt"),
        (
            '{"prompt": "x", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []}',
            "not a prompt",
        ),
        (
            '{"prompt": "x", "instruction_id_list": ["keywords:rhyme"], "kwargs": [{}]}',
            "line 1: unknown kind",
        ),
        ("", "no prompts"),
    ],
)
def test_a_line_that_is_no_prompt_is_an_error_with_its_place(tmp_path, line, message):
    file = tmp_path / "prompts.jsonl"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_verifiable_prompts(file)
    with pytest.raises(UserError, match="cannot read"):
        read_verifiable_prompts(tmp_path / "none.jsonl")


def test_words_sentences_and_capitals_are_counted():
    assert count_words("It's 3.5 well-known snake_case") == 7
    text = "Dr. Ray met Mrs. Lee at 5 p.m. on Monday. They talked, e.g. about boats! Why?\nWell."
    assert count_sentences(text) == 4
    assert count_sentences("Boats:\n- one\n- two") == 1
    assert capital_words("NASA and the U.S. DON'T know. I do. A B.") == [
        *("NASA", "U.S.", "DO", "N'T", "I", "A"),
        "B",
    ]


def test_the_language_is_the_same_every_time():
    # Short and mixed texts are where langdetect draws at random.
    texts = ["boat", "ok no", "Boot Boat bateau", GERMAN, ENGLISH]
    first = [detect_language(text) for text in texts]
    assert all([detect_language(text) for text in texts] == first for _ in range(5))
    assert first[3:] == ["de", "en"]
    assert detect_language("12 !!") is None
