"""General instructions: rules that tell an answer that follows from one that does not."""

import asyncio

import pytest

from reflectory.evaluation.general import (
    Check,
    follow,
    general_instructions,
    plain_sentences,
    sentence_likelihoods,
)
from reflectory.models.protocol import Capability
from reflectory.testing.models import ScriptedModel

# One answer that follows and one that does not, for every packaged instruction.
ANSWERS = {
    "general-01": ("apple apple apple", "apple apple"),
    "general-02": ("river river", "The words are river and river."),
    "general-03": ("The cat sleeps on the mat.", "The cat sleeps."),
    "general-04": ("4 9 2 7", "4 2 9 7"),
    "general-05": ("Maria and Peter", "Maria"),
    "general-06": ("Red, green and blue", "Red"),
    "general-07": ("cat\ndog\ncow\nhen", "cat, dog, cow, hen"),
    "general-08": ("Saturday and Sunday", "Monday and Sunday"),
    "general-09": ("Mars and Venus.", "Mars and the Moon."),
    "general-10": ("apples, pears, plums, figs and dates", "apples, pears"),
    "general-11": ("2 + 3 = 5", "6"),
    "general-12": ("It is six.", "4"),
    "general-13": ("6 times 7 is 42.", "The answer is 13."),
    "general-14": ("Eight legs.", "4"),
    "general-15": ("20", "21"),
    "general-16": ("The capital of France is Paris.", "Lyon"),
    "general-17": ("Rome", "Milan"),
    "general-18": ("We live on Earth.", "Mars"),
    "general-19": ("The sky is blue.", "Green"),
    "general-20": ("Ice.", "Steam; not nice."),
    "general-21": ("There are seven days.", "Five"),
    "general-22": ("A dog barks.", "A cat."),
    "general-23": ("Bees make honey.", "Milk"),
    "general-24": ("Yes, it is.", "No."),
    "general-25": ("No", "Yes, no doubt."),
    "general-26": ("Yes", "I know it."),
    "general-27": ("No, it is an animal.", "A whale is not."),
    "general-28": ("Cold", "Warm"),
    "general-29": ("Small.", "Huge"),
    "general-30": ("The plural is mice.", "Mouses"),
    "general-31": ("went", "goed"),
    "general-32": ("The sun rises in the east.", "west"),
    "general-33": ("It means cat.", "dog"),
    "general-34": ("The sea is wide and blue.", "The sea is wide."),
    "general-35": ("Dogs like to run.", "Dogs " + "run " * 12),
    "general-36": ("HELLO", "Hello"),
    "general-37": ("Will it rain today?", "It will rain today."),
    "general-38": (
        "People sleep so that the body can rest. Without sleep they cannot think well.",
        "People sleep because they are tired and want to rest for some hours.",
    ),
    "general-39": ("A boy had a boat. " + "He rowed far out and came home again. " * 5, "A boat."),
    "general-40": (
        "Dear Sir, thank you very much for your kind letter of last week. Yours, Ann",
        "Hello, thank you very much for your kind letter of last week. Yours, Ann",
    ),
}


def test_there_are_forty_with_ids_of_their_own_and_sentences():
    found = general_instructions()
    assert len(found) == 40 == len({item.id for item in found})
    assert len({item.instruction for item in found}) == 40
    assert set(ANSWERS) == {item.id for item in found}
    assert len(plain_sentences()) >= 20 and all(s.endswith(".") for s in plain_sentences())


@pytest.mark.parametrize("item", general_instructions(), ids=lambda item: item.id)
def test_the_rule_tells_right_from_wrong(item):
    right, wrong = ANSWERS[item.id]
    assert item.check.holds(right), right
    assert not item.check.holds(wrong), wrong
    assert not item.check.holds("") and not item.check.holds("  \n")


def test_every_kind_of_condition_is_used():
    used = {name for item in general_instructions() for name in item.check.model_fields_set}
    assert used == set(Check.model_fields)


def test_following_is_scored_in_order_and_asked_without_documents():
    model = ScriptedModel(lambda request: ANSWERS["general-16"][0])
    found = asyncio.run(follow(model))
    assert [a.id for a in found] == [i.id for i in general_instructions()]
    assert [a.id for a in found if a.followed] == ["general-16"]
    assert all(len(r.segments) == 1 and r.sampling.temperature == 0 for r in model.requests)


def test_sentences_are_scored_where_the_model_can():
    assert asyncio.run(sentence_likelihoods(ScriptedModel({}))) is None
    model = ScriptedModel(
        {},
        capabilities=frozenset({Capability.SCORE}),
        score=lambda request, text: -float(len(text)),
    )
    found = asyncio.run(sentence_likelihoods(model))
    assert found == [-float(len(s)) for s in plain_sentences()]
