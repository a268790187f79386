"""Sentences with a gap: what is asked, what is left alone, and what holds for any text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.practice import gaps_in
from reflectory.agents.practice.gaps import class_of
from reflectory.agents.practice.verb_forms import auxiliary_of, is_bare, with_s


def asked(text, subject=""):
    """Return pairs of question and answer."""
    return [(q, gap.answer) for gap in gaps_in(text, subject) for q in gap.questions]


@pytest.mark.parametrize(
    ("text", "subject", "question", "answer"),
    [
        ("Anna Berg wrote the novel in 1931.", "", "Who wrote the novel in 1931?", "Anna Berg"),
        ("Anna Berg wrote the novel in 1931.", "", "What did Anna Berg write in 1931?", "novel"),
        ("Anna Berg wrote the novel in 1931.", "", "When did Anna Berg write the novel?", "1931"),
        ("Jaws was directed by Ben Ash.", "", "Who was Jaws directed by?", "Ben Ash"),
        ("She lived in Lund.", "Anna Berg", "Where did Anna Berg live?", "Lund"),
        ("It has a large tower.", "Ely", "What does Ely have?", "large tower"),
        (
            "Its bottom has a thick crust.",
            "Lake Roe",
            "What does Lake Roe's bottom have?",
            "thick crust",
        ),
        ("Glaciers contain the water.", "", "What do glaciers contain?", "water"),
        ("Glaciers contain the water.", "", "What contains the water?", "Glaciers"),
        ("Many rivers do not reach the sea.", "", "What does not reach the sea?", "rivers"),
        ("A glacier has carved the valley.", "", "What has a glacier carved?", "valley"),
        ("Anna Berg had a dog.", "", "What did Anna Berg have?", "dog"),
        ("In nature, a bee carries the pollen.", "", "What carries the pollen?", "bee"),
        ("The bee therefore carries the pollen.", "", "What carries the pollen?", "bee"),
        ("The bee (a small insect) carries the pollen.", "", "What carries the pollen?", "bee"),
        ("Anna Berg found a coin.", "", "Who found a coin?", "Anna Berg"),  # and not "founds"
        ("Anna Berg read the book in 1950.", "", "Who read the book in 1950?", "Anna Berg"),
        (
            "The painter Carl Holm left Rome in 1931.",
            "",
            "Who left Rome in 1931?",
            "painter Carl Holm",
        ),
    ],
)
def test_a_sentence_becomes_a_question(text, subject, question, answer):
    found = dict(asked(text, subject))
    assert question in found, found
    assert found[question] == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        ".",
        "word",
        "?",
        "((((",
        "# A heading about rivers",
        "RIVERS CARRY THE WATER TO THE SEA.",
        "Which animal wrote the novel?",
        "Suppose the rock falls into a lake.",  # a command
        "3.4 Rivers carry water.",  # a number of a heading
        "This carries the pollen.",  # points to another sentence
        "These insects carry the pollen.",
        "They carry the pollen.",  # nobody says who
        "It carries the pollen.",  # there is no title
        "No crater was found in May.",  # what was found is no crater
        "Few people died in May.",
        "Nobody found the crater in May.",
        "Der Hund läuft über die Straße.",
        "河流把水带到大海。",
        "Реки несут воду в море.",
        "Being carried the water.",
    ],
)
def test_what_is_no_plain_sentence_is_left_alone(text):
    assert asked(text) == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The moon has no water.", "water"),
        ("The guides did not want the job.", "want"),  # a verb that the rules take for a noun
        ("Asteroid Day is held every year on 30 June.", "year"),
        ("The trees grew unusually fast.", "fast"),
        ("The line is not sharp.", "sharp"),
        ("Growth takes place in the cells of the leaf.", "place"),
        ("Cells called neurons carry electrical signals.", "Cells"),
        ("The river killed very few people.", "people"),
        ("The energy needed to melt ice is large.", "ice"),  # a reduced relative
        ("Anna Berg took the train in May and went home.", "train"),
        ("The river flows through its valley.", "valley"),
    ],
)
def test_what_would_be_a_wrong_answer_is_not_asked_for(text, answer):
    assert answer not in [found for _, found in asked(text)]


def test_a_pronoun_that_points_out_of_the_question_is_not_asked_with():
    assert asked("The River Kimchu flows through it.") == []
    assert asked("The tree has lost its leaves.")  # "its" is the tree's


@pytest.mark.parametrize(
    ("title", "named"),
    [
        ("Lake Cheko", True),
        ("The Lord of the Rings", True),
        ("Jaws", True),
        ("How Lakes Form", False),
        ("What the lake teaches us", False),
        ("The case for a comet", False),
        ("Anna Berg and the missing lake", False),
        ("", False),
        ("x" * 500, False),
    ],
)
def test_it_is_read_as_a_title_only_where_the_title_is_a_name(title, named):
    assert bool(asked("It has a large tower.", title)) is named


def test_a_title_in_small_letters_is_a_name_where_the_text_calls_it_so():
    text = "A beer stein is a mug. It holds cold beer."
    assert ("What does Beer stein hold?", "cold beer") in asked(text, "Beer stein")


def test_the_noun_that_the_first_sentence_gives_the_subject_is_read_as_the_subject():
    text = "Jaws is a thriller film. The film won three awards in 1976."
    assert ("When did Jaws win three awards?", "1976") in asked(text, "Jaws")


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("Anna Berg (born 3 May 1902) was a writer.", "When was Anna Berg born?", "3 May 1902"),
        ("Anna Berg (born May 3, 1902) was a writer.", "When was Anna Berg born?", "May 3, 1902"),
        ("Anna Berg (Danish: x; born 1902 in Lund) sang.", "When was Anna Berg born?", "1902"),
    ],
)
def test_an_article_that_begins_with_a_birth_tells_its_date(text, question, answer):
    assert (question, answer) in asked(text)


@pytest.mark.parametrize("text", ["1902 (born 1902) x", "A? (born 3 May 1902)", "Anna (born May)"])
def test_a_birth_that_gives_itself_away_is_not_asked_for(text):
    assert not any(q.endswith("born?") for q, _ in asked(text))


def test_an_answer_goes_round_no_bracket():
    text = "Anna (the elder) Berg wrote the novel."
    assert "Anna Berg" not in [answer for _, answer in asked(text)]


def test_a_sentence_that_runs_over_lines_is_asked_as_one_line():
    found = asked("Anna Berg wrote the\nlong novel in   1931.")
    assert ("What did Anna Berg write in 1931?", "long novel") in found


def holds_for(text, subject=""):
    """Check what every gap has, whatever the text."""
    said = " ".join(text.split())
    for gap in gaps_in(text, subject):
        assert gap.questions
        assert gap.answer in said
        assert gap.answer == gap.answer.strip()
        assert gap.kind in {"date", "number", "name", "phrase"}
        for question in gap.questions:
            assert gap.answer.casefold() not in question.casefold()
            assert question.endswith("?")
            assert question.count("?") == 1
            assert "\n" not in question
            assert len(question.split()) >= 4


@given(st.text(max_size=300), st.text(max_size=30))
def test_any_text_is_read(text, subject):
    holds_for(text, subject)
    class_of(text)


_WORDS = (
    "Anna Berg Lund Paris 1931 the a no its it She This river novel film was is had have do not "
    "wrote found read carry in of by and or who that very closer May ( ) [ ] , ; . ? ! \" ' \n # "
    "born about also therefore water 3 three U.S. Anna's (born 1902 every"
)


@given(
    st.lists(st.sampled_from(_WORDS.split(" ")), max_size=30),
    st.lists(st.sampled_from(_WORDS.split(" ")), max_size=3),
)
def test_any_order_of_words_is_read(words, subject):
    holds_for(" ".join(words), " ".join(subject))


@pytest.mark.parametrize(
    "unit",
    [
        "Anna Berg wrote the novel in 1931. ",
        "the river and ",
        "carries water ",
        "Anna Berg of ",
        " ",
        "(",
        "(born ",
        "[a ",
        "wrote the river of ",
        "a",
        "It is. ",
    ],
)
def test_time_grows_with_the_text_and_not_with_its_square(unit):
    """Eight times the text may take sixteen times as long; squared it would be sixty-four."""

    def seconds(times):
        text = "Anna " + unit * times
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            gaps_in(text, "Anna Berg")
            best = min(best, time.process_time() - start)
        return best

    assert seconds(4000) < 16 * seconds(500) + 0.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna Berg was a Danish film director.", "Danish film director"),
        ("Anna Berg (born 1902) is an engineer.", "engineer"),
        ("The river carries water. It is a stream.", ""),
        ("Rivers are wide.", ""),
        ("Anna is the very best old Danish film director of all.", ""),
        ("", ""),
        ("is", ""),
    ],
)
def test_a_class_is_what_the_first_sentence_says_that_something_is(text, expected):
    assert class_of(text) == expected


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("wrote", ("did", "write")),
        ("carried", ("did", "carry")),
        ("stopped", ("did", "stop")),
        ("loved", ("did", "love")),
        ("carries", ("does", "carry")),
        ("has", ("does", "have")),
        ("goes", ("does", "go")),
        ("reaches", ("does", "reach")),
        ("contain", ("do", "contain")),
        ("found", ("did", "find")),
        ("read", None),  # present or past: nobody knows
        ("blorped", None),
        ("", None),
    ],
)
def test_the_auxiliary_of_a_verb(verb, expected):
    assert auxiliary_of(verb) == expected


def test_the_third_person():
    bases = ["carry", "play", "reach", "pass", "go", "do", "have", "be", "eat"]
    found = " ".join(map(with_s, bases))
    assert found == "carries plays reaches passes goes does has is eats"
    assert is_bare("carry")
    assert not any(map(is_bare, ("found", "read", "carries", "blorp")))
