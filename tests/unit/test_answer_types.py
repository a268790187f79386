"""What kind of answer a question asks for, what kind an answer is, and how the two fit."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.agents.answer_types import (
    AnswerForm,
    AnswerType,
    expected_type,
    form_of,
    type_fit,
)

DATE, NUMBER, PERSON, PLACE, THING, CHOICE, YES_NO, EXPLANATION = AnswerType

QUESTIONS = [
    # Dates
    ("When did the mill burn down?", DATE),
    ("In which year was the bridge opened?", DATE),
    ("What year did the director leave the studio?", DATE),
    ("On what date was the treaty signed?", DATE),
    ("In what century did the painter live?", DATE),
    ("What is the date of the eclipse?", DATE),
    ("What time does the ferry leave?", DATE),
    ("The harbour was deepened when?", DATE),
    ("When's the fair?", DATE),
    ("Name the year in which the dam broke.", DATE),
    ("Do you know when the library was founded?", DATE),
    ("When did Ada, who built the clock, die?", DATE),
    # Numbers
    ("How many islands belong to the parish?", NUMBER),
    ("how much does the bell weigh", NUMBER),
    ("How old was she when the war began?", NUMBER),
    ("In how many countries is the orchid found?", NUMBER),
    ("What is the population of the valley?", NUMBER),
    ("What was the average annual temperature in the cave?", NUMBER),
    ("What's the melting point of gallium?", NUMBER),
    ("At what age did the poet marry?", NUMBER),
    ("What is the area of the lake?", NUMBER),
    ("The tunnel is how long?", NUMBER),
    ("When the strike ended, how many miners went back?", NUMBER),
    ("Of the sailors who went north, how many came home?", NUMBER),
    # Persons
    ("Who drew the first map of the coast?", PERSON),
    ("Whose portrait hangs in the hall?", PERSON),
    ("By whom was the organ built?", PERSON),
    ("The organ was built by who?", PERSON),
    ("Which Norwegian explorer reached the pole first?", PERSON),
    ("What is the name of the actor who plays the miller?", PERSON),
    ("Which of the composers was deaf?", PERSON),
    ("When the old king died, who ruled the island?", PERSON),
    ("In the film, who plays the ferryman?", PERSON),
    ("Can you tell me who designed the tower?", PERSON),
    ("What woman led the march?", PERSON),
    ('"Who carved the door?"', PERSON),
    # Places
    ("Where was the meteorite found?", PLACE),
    ("In which city does the river meet the sea?", PLACE),
    ("Which countries share the desert?", PLACE),
    ("What is the capital of the province?", PLACE),
    ("The man who wrote the hymn was born in what town?", PLACE),
    ("Which city did the king leave in haste?", PLACE),
    ("The meteorite was found where?", PLACE),
    ("From where does the wind blow in winter?", PLACE),
    ("In 1911, where was the congress held?", PLACE),
    # Other names and phrases
    ("What do bees make from nectar?", THING),
    ("Which band recorded the song?", THING),
    ("What film did the director make after the war?", THING),
    ("In which novel does the lawyer drown?", THING),
    ("What did the president sign on the last day?", THING),
    ("What was the king known for?", THING),
    ("Which of the king's horses won?", THING),
    ("What tells you how much rain has fallen?", THING),
    ("In 1990, when she was twenty, what did she study?", THING),
    ("What number one single came before it?", THING),
    ("A barometer measures what?", THING),
    ("Which city-state paid no tribute?", THING),
    ("?", THING),
    # Of two that may be named or described, the name is asked for.
    ("Which is older, the abbey or the castle?", THING),
    ("Who was born first, the author of the hymn or its translator?", PERSON),
    ("Which city is larger, Bergen or the birthplace of the poet?", PLACE),
    # One of two that a closed question names
    ("Is Etna or Hekla the higher one?", CHOICE),
    ("Was the ship built in 1870 or 1880?", CHOICE),
    ("Are the Alps or the Andes longer?", CHOICE),
    ("Did the fire start before or after midnight?", CHOICE),
    ("At the end, did the poet or the painter win?", CHOICE),
    ("So, is a spider an insect or an arachnid?", CHOICE),
    # Yes or no
    ("Is basalt a volcanic rock?", YES_NO),
    ("Did both sisters study medicine?", YES_NO),
    ("Isn't the whale a mammal?", YES_NO),
    ("Won\u2019t the ice melt?", YES_NO),
    ("Is the berry safe to eat or not?", YES_NO),
    ("In winter, does the lake freeze?", YES_NO),
    ("Can a fern grow without soil?", YES_NO),
    # Explanations
    ("Why is the sea salty?", EXPLANATION),
    ("How does a sluice work?", EXPLANATION),
    ("How well is the manuscript preserved?", EXPLANATION),
    ("Explain the tides.", EXPLANATION),
    # A second question that few words cannot answer.
    ("How many boats sank in the storm, and why do the sources disagree?", EXPLANATION),
    ("When was the mill built and how did it burn down?", EXPLANATION),
    ("Who drew the map? Explain how it was found.", EXPLANATION),
    ("Is the harbour deep, and why?", EXPLANATION),
    ("How many arches and piers has the bridge?", NUMBER),
    ("Which town did he leave and when did he return?", DATE),
    ("Please describe the moulting of a crab.", EXPLANATION),
    ("Could you explain why glass is brittle?", EXPLANATION),
    ("Compare the two treaties.", EXPLANATION),
    ("Tell me how paper is made.", EXPLANATION),
    ("In what way do the two dialects differ?", EXPLANATION),
    ("Although it is cold, why does nothing freeze?", EXPLANATION),
    ("The tides follow the moon.", EXPLANATION),
    ("", EXPLANATION),
    (" \n", EXPLANATION),
    # The rules are English; other languages are taken for neither yes or no nor a date.
    ("Wer hat die Orgel gebaut?", THING),
    ("Was ist die Hauptstadt der Provinz?", THING),
    ("\u00bfQui\u00e9n construy\u00f3 el \u00f3rgano?", THING),
    ("\u8c01\u53d1\u73b0\u4e86\u9752\u9709\u7d20\uff1f", THING),
]


def test_the_table_is_long_and_holds_every_type() -> None:
    found = Counter(wanted for _, wanted in QUESTIONS)
    assert len(QUESTIONS) >= 60
    assert set(found) == set(AnswerType)
    assert min(found.values()) >= 6
    assert len({question for question, _ in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize(("question", "wanted"), QUESTIONS)
def test_what_a_question_asks_for(question: str, wanted: AnswerType) -> None:
    assert expected_type(question) is wanted


@pytest.mark.parametrize(("question", "wanted"), QUESTIONS)
def test_space_and_capitals_do_not_change_what_is_asked(question: str, wanted: AnswerType) -> None:
    assert expected_type(question.upper()) is wanted
    assert expected_type(f"\n {question.replace(' ', '  ')}  ") is wanted


ANSWERS = [
    ("1928", AnswerForm.DATE),
    ("in 1928.", AnswerForm.DATE),
    ("the 1920s", AnswerForm.DATE),
    ("on the 5th of May 1928", AnswerForm.DATE),
    ("March 3, 1866", AnswerForm.DATE),
    ("May", AnswerForm.DATE),
    ("the nineteenth century", AnswerForm.DATE),
    ("18th century", AnswerForm.DATE),
    ("476 AD", AnswerForm.DATE),
    ("1914\u20131918", AnswerForm.DATE),
    ("Monday", AnswerForm.DATE),
    ("6 p.m.", AnswerForm.DATE),
    ("1,250", AnswerForm.NUMBER),
    ("$1500", AnswerForm.NUMBER),
    ("1500 people", AnswerForm.NUMBER),
    ("about 300", AnswerForm.NUMBER),
    ("more than 5 million", AnswerForm.NUMBER),
    ("29.8 \u00b0C", AnswerForm.NUMBER),
    ("20 Celsius", AnswerForm.NUMBER),
    ("64 MB", AnswerForm.NUMBER),
    ("12%", AnswerForm.NUMBER),
    ("\u221240", AnswerForm.NUMBER),
    ("seven", AnswerForm.NUMBER),
    ("Twenty-five", AnswerForm.NUMBER),
    ("a dozen eggs", AnswerForm.NUMBER),
    ("1 250 000 people", AnswerForm.NUMBER),
    ("12 - 14 km", AnswerForm.NUMBER),
    ("3:2", AnswerForm.NUMBER),
    ("Norman Heatley", AnswerForm.NAME),
    ('"Norman Heatley"', AnswerForm.NAME),
    ("Theresa May", AnswerForm.NAME),
    ("April Jones", AnswerForm.NAME),
    ("Vincent van Gogh", AnswerForm.NAME),
    ("Li Po", AnswerForm.NAME),
    ("the United Kingdom", AnswerForm.NAME),
    ("12 Angry Men", AnswerForm.NAME),
    ("2001: A Space Odyssey", AnswerForm.NAME),
    ("Seven Samurai", AnswerForm.NAME),
    ("No Country for Old Men", AnswerForm.NAME),
    ("salt water", AnswerForm.PHRASE),
    ("an old paper on mould", AnswerForm.PHRASE),
    ("a March wind", AnswerForm.PHRASE),
    ("", AnswerForm.PHRASE),
    ("yes", AnswerForm.YES_NO),
    ("No.", AnswerForm.YES_NO),
    ("Yes, both were sisters.", AnswerForm.YES_NO),
    ("no it does not", AnswerForm.YES_NO),
]


@pytest.mark.parametrize(("answer", "form"), ANSWERS)
def test_what_an_answer_looks_like(answer: str, form: AnswerForm) -> None:
    assert form_of(answer) is form
    assert form_of(f" {answer}\n") is form


WHEN, HOW_MANY = "When did the mill burn down?", "How many islands are there?"
WHO, WHERE = "Who built the organ?", "Where was the organ built?"
WHAT, WHETHER = "What do bees make?", "Is basalt a rock?"
EITHER, WHY = "Is the abbey or the castle older?", "Why is the sea salty?"


@pytest.mark.parametrize(
    ("question", "answer", "fit"),
    [
        (WHEN, "1928", 1.0),
        (WHEN, "476", 0.5),
        (WHEN, "Norman Heatley", 0.0),
        (WHEN, "It burnt down in 1928.", 0.5),
        (WHEN, "It burnt down in spring.", 0.5),
        (WHEN, "It may be unknown.", 0.0),
        (HOW_MANY, "seven", 1.0),
        (HOW_MANY, "1928", 0.5),
        (HOW_MANY, "There are seven of them.", 0.5),
        (HOW_MANY, "12 Channel Islands", 0.5),
        (HOW_MANY, "the Channel Islands", 0.0),
        (HOW_MANY, "No one knows.", 0.0),
        (WHO, "Norman Heatley", 1.0),
        (WHO, "It was built by Norman Heatley.", 1.0),
        (WHO, "The organ pipes were cast by Heatley.", 0.5),
        (WHO, "an engineer", 0.0),
        (WHO, "1928", 0.0),
        (WHO, "Yes", 0.0),
        (WHERE, "Oxford", 1.0),
        (WHERE, "a shed", 0.3),
        (WHERE, "The builders lived and worked in Oxford.", 0.5),
        (WHERE, "1928", 0.0),
        (WHAT, "honey", 1.0),
        (WHAT, "Honey", 1.0),
        (WHAT, "1928", 0.0),
        (WHAT, "no", 0.0),
        (WHETHER, "Yes", 1.0),
        (WHETHER, "No, it is not.", 1.0),
        (WHETHER, "a volcanic rock", 0.0),
        (WHETHER, "Etna", 0.0),
        (EITHER, "the castle", 1.0),
        (EITHER, "The castle is older.", 1.0),
        (EITHER, "The castle was begun earlier.", 0.5),
        (EITHER, "the chapel", 0.0),
        (EITHER, "yes", 0.0),
        ("Was it built in 1870 or 1880?", "1880", 1.0),
        (WHY, "Rivers carry salt into it.", 1.0),
        (WHY, "salt", 0.5),
        (WHAT, "I do not know.", 0.0),
        (WHY, "Sorry, I don't know that at all.", 0.0),
        (WHETHER, "We cannot say.", 0.0),
        (WHAT, "I Know Where I'm Going", 1.0),
    ],
)
def test_how_well_an_answer_fits(question: str, answer: str, fit: float) -> None:
    assert type_fit(question, answer) == fit


QUESTION = st.sampled_from([question for question, _ in QUESTIONS]) | st.text(max_size=80)
ANSWER = st.sampled_from([answer for answer, _ in ANSWERS]) | st.text(max_size=80)


@given(QUESTION, ANSWER)
def test_fit_is_in_the_unit_interval_for_any_text(question: str, answer: str) -> None:
    assert expected_type(question) in AnswerType
    assert form_of(answer) in AnswerForm
    assert 0.0 <= type_fit(question, answer) <= 1.0
    assert type_fit(question, f" {answer} ") == type_fit(question, answer)


CLOSED = [question for question, wanted in QUESTIONS if wanted is YES_NO]


@given(st.sampled_from(CLOSED), ANSWER)
def test_a_closed_question_takes_yes_and_no_and_no_other_short_answer(
    question: str, answer: str
) -> None:
    assert type_fit(question, "Yes") == type_fit(question, "no.") == 1.0
    if form_of(answer) is not AnswerForm.YES_NO and len(answer.split()) <= 8:
        assert type_fit(question, answer) == 0.0


@given(QUESTION, st.lists(st.sampled_from(["ash", "Elm", "1928", "seven"]), min_size=9))
def test_a_long_answer_is_not_judged_by_its_form(question: str, words: list[str]) -> None:
    wanted = expected_type(question)
    assert type_fit(question, " ".join(words)) == (1.0 if wanted is EXPLANATION else 0.5)


@given(QUESTION)
def test_no_answer_fits_nothing(question: str) -> None:
    assert type_fit(question, "") == type_fit(question, " \n") == 0.0


@pytest.mark.parametrize("answer", ["1" * 20_000 + " !", "1 " * 10_000 + "!", "in 5, " * 5_000])
def test_endless_answers_take_no_endless_time(answer: str) -> None:
    """A model that repeats itself must not hold up a loop; the worst took seconds once."""
    begin = time.thread_time()
    form_of(answer)
    type_fit(answer, answer)
    assert time.thread_time() - begin < 2.0
