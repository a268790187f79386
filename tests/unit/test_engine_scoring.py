"""Likelihoods that are asked for again are known, and those of others are not taken for them."""

import asyncio
from typing import Any

import pytest
import torch
from engines import MODEL, SYSTEM, TOKENIZER, load, request
from hypothesis import given
from hypothesis import strategies as st

from reflectory.models.engine.rendering import Renderer
from reflectory.models.engine.scoring import RememberedScores, logprobs_of
from reflectory.models.engine.work import Job, ScoreRow
from reflectory.models.local import LocalModel
from reflectory.models.protocol import ScoreRequest, Scores, Segment


def asked(*texts: str, document: str = "ab cd") -> ScoreRequest:
    segments = (SYSTEM, Segment(text=document, shared=True), Segment(text="Why?"))
    return ScoreRequest(segments=segments, continuations=texts, role="teacher.grade")


def scored(model: LocalModel, *calls: ScoreRequest, at_once: bool = True) -> list[Scores]:
    async def all_of_them() -> list[Scores]:
        if at_once:
            return list(await asyncio.gather(*map(model.score, calls)))
        return [await model.score(call) for call in calls]

    return asyncio.run(all_of_them())


def values(scores: Scores) -> list[tuple[float, ...]]:
    return [one.logprobs for one in scores.continuations]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_continuation_is_read_once(at_once: bool) -> None:
    model = LocalModel(MODEL, TOKENIZER, fingerprint="m")
    first, again, more = asked("the tide"), asked("the tide"), asked("a wall", "the tide")
    found = scored(model, first, again, more, at_once=at_once)
    assert values(found[0]) == values(found[1]) == values(found[2])[1:]
    assert values(found[2])[0] != values(found[0])[0]
    assert model.engine_stats()["remembered"] == 2
    read = model.engine_stats()["prefilled"]
    (known,) = scored(model, more)
    assert values(known) == values(found[2])
    assert model.engine_stats()["prefilled"] == read
    # What was not read for this call is all of its prompt.
    assert known.usage.reused_tokens == known.usage.prompt_tokens - sum(map(len, values(known)))
    asyncio.run(model.aclose())


def test_another_prompt_or_another_cut_is_another_question() -> None:
    model = LocalModel(MODEL, TOKENIZER, fingerprint="m")
    calls = (asked("the tide"), asked("the tide", document="ab ce"), asked("the tides"))
    found = scored(model, *calls, at_once=False)
    assert len({values(one)[0] for one in found}) == 3
    assert model.engine_stats()["remembered"] == 0
    asyncio.run(model.aclose())


def test_what_an_adapter_finds_likely_is_its_own(tiny_folders: Any) -> None:
    base = load(tiny_folders[0])
    one, other = base.with_adapter(tiny_folders[1]), base.with_adapter(tiny_folders[2])
    call = asked("the tide")
    found = [values(scored(model, call)[0]) for model in (base, one, other)]
    assert len({str(value) for value in found}) == 3
    assert [values(scored(model, call)[0]) for model in (base, one, other)] == found
    for model in (one, other, base):
        asyncio.run(model.aclose())


def row(tokens: tuple[int, ...], targets: int, adapter: str = "") -> ScoreRow:
    return ScoreRow(
        job=Job(request("x")),
        tokens=tokens[:-1],
        prefix_length=1,
        adapter=adapter,
        targets=tokens[len(tokens) - targets :],
        logprobs=tuple(float(-token) for token in tokens[len(tokens) - targets :]),
    )


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 2), min_size=3, max_size=4).map(tuple),
            st.integers(1, 2),
            st.sampled_from(["", "a"]),
        )
    ),
    st.integers(1, 8),
)
def test_the_latest_are_known_and_no_others(
    added: list[tuple[tuple[int, ...], int, str]], most: int
) -> None:
    memory, latest = RememberedScores(most), {}
    for one in added:
        memory.add(row(*one))
        latest.pop(one, None)
        latest[one] = row(*one).logprobs
    kept = dict([*latest.items()][-most:])
    for one in {*added, ((0, 1, 2), 1, "b")}:
        assert memory.get(row(*one)) == kept.get(one)
    memory.forget("a")
    for one in added:
        known = kept.get(one) if one[2] == "" else None
        assert memory.get(row(*one)) == known


def test_number_formats_give_the_same_likelihoods() -> None:
    logits = torch.randn(3, 700, generator=torch.Generator().manual_seed(0)).bfloat16()
    wanted = torch.log_softmax(logits.double(), dim=-1)[range(3), [5, 0, 699]]
    for given_ in (logits, logits.float()):
        assert torch.allclose(torch.tensor(logprobs_of(given_, [5, 0, 699])).double(), wanted)


def test_a_prompt_is_rendered_anew_when_the_template_changes() -> None:
    class Tokenizer:
        """Counts what it is asked, and says by which template."""

        chat_template = "one"
        is_fast = False
        asked = 0

        def apply_chat_template(self, messages: Any, **_: Any) -> str:
            return f"{self.chat_template}:{messages[0]['content']}"

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            self.asked += 1
            return {"input_ids": [ord(c) for c in text]}

    tokenizer = Tokenizer()
    renderer = Renderer(tokenizer)
    segments = [Segment(text="Why?")]
    first = renderer(segments)
    assert renderer([Segment(text="Why?")]) is first and tokenizer.asked == 1
    assert renderer(segments, "So").token_ids != first.token_ids
    tokenizer.chat_template = "two"
    changed = renderer(segments)
    assert "".join(map(chr, changed.token_ids)) == "two:Why?"
