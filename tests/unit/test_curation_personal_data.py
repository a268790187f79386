"""What is found as personal data, what is not, and that masking it ends."""

import time

import pytest
from curated import pair, refined, row
from hypothesis import given
from hypothesis import strategies as st

from reflectory.training.curation.personal_data import masked, personal_data_in


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to ada.lovelace+work@mail.example.org.", "email"),
        ("jürgen@straße.example wrote", "email"),
        ("call +49 30 901820-17", "phone"),
        ("call +1 (415) 555-0132 now", "phone"),
        ("call (212) 555-0187", "phone"),
        ("(+442071838750)", "phone"),
        ("pay to DE89 3704 0044 0532 0130 00", "iban"),
        ("GB82WEST12345698765432,", "iban"),
        ("NO9386011117947", "iban"),
        ("card 4111 1111 1111 1111", "card"),
        ("card 5500-0055-5555-5559.", "card"),
        ("378282246310005", "card"),
        ("from 203.0.113.77:80 it came", "ip"),
        ("2001:db8:85a3:8d3:1319:8a2e:370:7348", "ip"),
        ("at 2001:db8:85a3::8a2e:370:7334.", "ip"),
    ],
)
def test_personal_data_is_found_and_masked(text, kind):
    assert personal_data_in(text) == {kind: 1}
    hidden = masked(text)
    assert f"[{kind.upper()}]" in hidden
    assert not personal_data_in(hidden)
    assert masked(hidden) == hidden


@pytest.mark.parametrize(
    "text",
    [
        "The crater is 4,500,000,000 years old, give or take 1969-1972.",
        "ISBN 978-3-16-148410-0",
        "DE89 3704 0044 0532 0130 01",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "127.0.0.1 and 0.0.0.0 and 999.1.2.3 and 12:30:45",
        "std::vector<int>::iterator and a::b",
        "version 1.2.3 of @decorator, user@localhost",
        "+100 points, +3.5 %, 10.1000/182",
        "2024-05-17 12:00",
        "DOI 10.1007/s00454-021-00317-7",
        "[1] [2] [12]",
        "NGC 4486, 21 cm, 1420.405 MHz, 6.02214076e23",
    ],
)
def test_ordinary_numbers_are_left_alone(text):
    assert not personal_data_in(text)
    assert masked(text) == text


@pytest.mark.parametrize(
    "piece", ["a.", "a@", "1 ", "+1 ", "ab:", "1:2:", "DE89 ", "(212) ", "a@b.", "4-", "[", "1."]
)
def test_no_text_takes_more_than_linear_time(piece):
    start = time.thread_time()
    masked(piece * (400_000 // len(piece)))
    assert time.thread_time() - start < 10


@given(
    st.lists(
        st.sampled_from(
            [
                "ada@mail.example",
                "203.0.113.7",
                "+4930901820",
                "4111111111111111",
                "1",
                ".",
                " ",
                "+",
                "GB82WEST12345698765432",
                "::",
                "a",
                "@",
                "2001:db8:85a3::8a2e:370:7334",
                "(",
            ]
        )
    ).map("".join)
)
def test_masking_twice_is_masking_once(text):
    hidden = masked(text)
    assert masked(hidden) == hidden
    assert not personal_data_in(hidden)


def test_rows_are_refused_by_the_kind_that_occurs_most():
    rows = [row("It is old."), row("Ask ada@mail.example or 203.0.113.7 or 203.0.113.8.")]
    result = refined(rows, [pair(rejected="Ask ada@mail.example")], personal_data="refuse")
    assert result.rows == tuple(rows[:1])
    assert result.preferences == ()
    step = result.counts.steps[-1]
    assert (step.rows.refused, step.pairs.refused) == ({"ip": 1}, {"email": 1})


def test_prompts_are_looked_at_when_that_is_asked_for():
    asked = row("It is old.", "What would ada@mail.example say?")
    assert refined([asked], personal_data="refuse").rows == (asked,)
    assert not refined([asked], personal_data="refuse", personal_data_in_prompts=True).rows
    result = refined([asked], [pair()], personal_data="mask", personal_data_in_prompts=True)
    (made,) = result.rows
    assert made.prompt[0].content == "What would [EMAIL] say?"
    assert made.provenance.question == "What would [EMAIL] say?"
    assert result.preferences == (pair(),)
    assert (result.counts.steps[-1].changed, result.counts.steps[-1].rows.accepted) == (1, 1)


def test_a_masked_completion_gives_up_offsets_that_would_be_wrong():
    held = {"start": 0, "end": 9, "supported": True}
    (made,) = refined(
        [row("Ask ada@mail.example", statements=(held,), groundedness=1.0)], personal_data="mask"
    ).rows
    assert made.completion[0].content == "Ask [EMAIL]"
    assert (made.provenance.statements, made.provenance.groundedness) == ((), 1.0)
    (whole,) = refined([row("Ask.", statements=(held,))], personal_data="mask").rows
    assert len(whole.provenance.statements) == 1
