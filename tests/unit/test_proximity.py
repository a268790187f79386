"""How near an answer stands to the question's words in the passages."""

import math
import os
import subprocess
import sys
from random import Random

import pytest
from apparatus import ANSWER, CONSTANT, PASSAGES, QUESTION, passage
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.graders.features import proximity, sentences_of, supported_share
from reflectory.types import Passage


def weight(sentences: int, holding: int) -> float:
    """Return what a word of the question weighs that so many of the sentences hold."""
    return math.log((sentences + 1.5) / (holding + 0.5))


def test_an_answer_is_near_when_its_sentence_holds_the_questions_words() -> None:
    one, none = weight(4, 1), weight(4, 0)
    everything = 3 * one + none  # built, apparatus and drug are said once, extracted never
    near = proximity(ANSWER, QUESTION, PASSAGES)
    assert near == pytest.approx(2 * one / everything)  # built and apparatus
    assert proximity("Howard Florey", QUESTION, PASSAGES) == 0.0
    assert proximity("1941", QUESTION, PASSAGES) == pytest.approx(one / everything)
    assert proximity("Norman Chain", QUESTION, PASSAGES) == pytest.approx(near / 2)
    # The title says what every sentence of its passage is about.
    said, unsaid = weight(4, 2), weight(4, 0)
    found = proximity("1941", "What happened in Oxford?", PASSAGES)
    assert found == pytest.approx(said / (said + unsaid))
    assert proximity(QUESTION, QUESTION, PASSAGES) == 0.0
    assert proximity(CONSTANT, QUESTION, PASSAGES) == 0.0
    assert proximity("Yes", QUESTION, PASSAGES) == 0.0
    assert proximity("", QUESTION, PASSAGES) == 0.0


def test_only_an_answers_own_words_have_to_be_near() -> None:
    near = proximity(ANSWER, QUESTION, PASSAGES)
    # What the question said already is no part of the answer, so it neither helps nor harms.
    assert proximity("Norman Heatley built the apparatus.", QUESTION, PASSAGES) == near
    assert proximity("Norman Heatley extracted the drug.", QUESTION, PASSAGES) == near
    assert proximity("Howard Florey built the apparatus.", QUESTION, PASSAGES) == 0.0
    # One of two that the question names has no other words, and is looked for as it is.
    asked = "Who built the apparatus, Norman Heatley or Howard Florey?"
    assert proximity(ANSWER, asked, PASSAGES) > proximity("Howard Florey", asked, PASSAGES) == 0.0


def test_a_word_that_many_sentences_hold_says_little() -> None:
    read = [passage("The ship left in May. The ship sank in June. The ship won in a gale.")]
    asked = "In which month did the ship win a gale?"
    june, nowhere = proximity("June", asked, read), proximity("July", asked, read)
    assert june > nowhere == 0.0
    near = proximity("won", asked, read)
    ship, gale, win = weight(3, 3), weight(3, 1), weight(3, 0)
    everything = ship + gale + win + weight(3, 0)  # and month
    assert june == pytest.approx(ship / everything)
    assert near == pytest.approx((ship + gale) / everything)
    assert near > 5 * june


DIRECTOR = passage("The town of Ulm saw the birth of Ada Frey.", "Ada Frey (director)")
FILM = passage("The Lamp is a film of 1931. Ada Frey made it about a lighthouse.", "The Lamp")
TWO_STEPS = "In which town was the director of the film about a lighthouse born?"


def test_the_words_of_a_sentence_that_names_the_title_count_too() -> None:
    """The answer stands in one passage, and what the question says of it in another."""
    # Asked for: town, director, film, about, lighthouse, born.
    alone = proximity("Ulm", TWO_STEPS, [DIRECTOR])
    assert alone == pytest.approx(weight(1, 1) / (weight(1, 1) + 5 * weight(1, 0)))  # town
    one, none = weight(3, 1), weight(3, 0)
    linked = proximity("Ulm", TWO_STEPS, [DIRECTOR, FILM])
    # Town, and "about a lighthouse", beside her name.
    assert linked == pytest.approx(3 * one / (4 * one + 2 * none))
    # Who is not named in the other passage has no part in what it says.
    town = pytest.approx(one / (4 * one + 2 * none))
    other = passage(DIRECTOR.text.replace("Frey", "Rau"), "Ada Rau")
    assert proximity("Ulm", TWO_STEPS, [other, FILM]) == town
    untitled = passage(DIRECTOR.text)
    assert proximity("Ulm", TWO_STEPS, [untitled, FILM]) == town
    # A link joins to the answer's sentence the one that names her, and not all of its passage.
    film = passage("Ada Frey made a film. It shows a lighthouse.", "The Lamp")
    found = proximity("Ulm", TWO_STEPS, [DIRECTOR, film])
    assert found == pytest.approx(2 * one / (3 * one + 3 * none))
    # Nor does a passage link to itself: its own sentences stay apart.
    both = passage(f"{DIRECTOR.text} Ada Frey made a film about a lighthouse.", "Ada Frey")
    one, none = weight(2, 1), weight(2, 0)
    assert proximity("Ulm", TWO_STEPS, [both]) == pytest.approx(one / (4 * one + 2 * none))
    # What is not said in any sentence is not near to anything, however well linked.
    assert proximity("Bonn", TWO_STEPS, [DIRECTOR, FILM]) == 0.0


def test_what_stands_in_brackets_behind_a_title_is_no_part_of_the_name() -> None:
    plain = passage(DIRECTOR.text, "Ada Frey")
    asked = "In which town was the maker of the film about a lighthouse born?"
    for link in (plain, DIRECTOR, passage(DIRECTOR.text, "Ada Frey (1901) (director)")):
        assert proximity("Ulm", asked, [link, FILM]) == proximity("Ulm", asked, [plain, FILM])
    # A title of brackets alone names nobody, so it links nothing.
    nameless, untitled = passage(DIRECTOR.text, "(director)"), passage(DIRECTOR.text)
    found = proximity("Ulm", asked, [nameless, FILM])
    assert found == proximity("Ulm", asked, [untitled, FILM])
    assert found < proximity("Ulm", asked, [plain, FILM])


WORDS = st.sampled_from(["ash", "birch", "cedar", "elm", "fir", "gorse"])


@given(WORDS, st.lists(WORDS, min_size=1), st.lists(WORDS))
def test_proximity_rises_with_the_words_that_the_sentence_shares(
    answer: str, question: list[str], sentence: list[str]
) -> None:
    asked = " ".join(question)
    without = proximity(answer, asked, [passage(" ".join(sentence))])
    for word in [answer, *question]:
        with_word = proximity(answer, asked, [passage(" ".join([*sentence, word]))])
        assert with_word >= without


NAMES = st.lists(WORDS, min_size=1, max_size=2).map(" ".join)
SENTENCES = st.lists(
    st.lists(WORDS, min_size=1, max_size=4).map(lambda words: " ".join(words).capitalize() + "."),
    min_size=1,
    max_size=3,
)


LINKED = st.lists(
    st.builds(lambda text, title: passage(" ".join(text), title), SENTENCES, NAMES),
    min_size=1,
    max_size=4,
)


@given(WORDS, NAMES, LINKED)
def test_a_link_never_takes_away(answer: str, question: str, passages: list[Passage]) -> None:
    """Unlinked, with the titles' words in every sentence, each word weighs the same."""
    titled = [p for p in passages if answer not in p.title]
    flat = [
        passage(" ".join(f"{s.rstrip('.')} {p.title}." for s in sentences_of(p.text)))
        for p in titled
    ]
    unlinked = proximity(answer, question, flat)
    assert proximity(answer, question, titled) >= unlinked - 1e-12


@given(WORDS, NAMES, LINKED)
def test_without_titles_it_does_not_matter_which_passage_a_sentence_is_of(
    answer: str, question: str, passages: list[Passage]
) -> None:
    untitled = [passage(p.text) for p in passages]
    one = [passage(" ".join(p.text for p in passages))]
    each = [passage(s) for p in passages for s in sentences_of(p.text)]
    found = proximity(answer, question, untitled)
    assert proximity(answer, question, one) == proximity(answer, question, each) == found


@given(WORDS, NAMES, LINKED, st.randoms(use_true_random=False))
def test_the_order_of_the_passages_does_not_matter(
    answer: str, question: str, passages: list[Passage], random: Random
) -> None:
    shuffled = list(passages)
    random.shuffle(shuffled)
    assert proximity(answer, question, shuffled) == proximity(answer, question, passages)
    assert supported_share(answer, shuffled) == supported_share(answer, passages)


IN_A_PROCESS = """
from reflectory.agents.graders.cases import packaged_cases
from reflectory.agents.graders.features import proximity
cases = [c for c in packaged_cases()[::40]]
print([proximity(c.task.answer, c.task.question, c.task.passages) for c in cases])
"""


def test_every_process_finds_the_same_to_the_last_bit() -> None:
    """Sets of words have another order in each, and a run that goes on must repeat its grades."""
    found = {
        subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1 and "0." in found.pop()


@given(WORDS, NAMES, LINKED)
def test_a_link_adds_no_place_to_an_answer(
    answer: str, question: str, passages: list[Passage]
) -> None:
    """However the passages name each other, the answer has to stand in one of them."""
    said = any(answer in sentence.lower() for p in passages for sentence in sentences_of(p.text))
    assert said or proximity(answer, question, passages) == 0.0
