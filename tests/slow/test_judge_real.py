"""The default grader with the default model on trial, on the packaged questions."""

import asyncio

import pytest

from reflectory.assembly import Sources, assemble
from reflectory.config import LoopConfig
from reflectory.demo.story import data_folder
from reflectory.evaluation.held_out import find_contexts, read_held_out
from reflectory.evaluation.judge import cases as kinds
from reflectory.evaluation.judge.trial import try_judge
from reflectory.evaluation.metrics.pair_judges import LikelihoodPairJudge

pytestmark = pytest.mark.slow

QUESTIONS = 10


def test_the_default_grader_on_the_packaged_questions():
    async def tried():
        config = LoopConfig()
        parts = await assemble(Sources(documents=data_folder() / "documents"), config)
        try:
            await parts.retriever.prepare()
            questions = read_held_out(data_folder() / "held_out.jsonl")[:QUESTIONS]
            items = await find_contexts(
                questions, parts.retriever, config.retrieval, parts.student.count_tokens
            )
            return await try_judge(
                parts.grader(parts.teacher),
                items,
                wrong_per_kind=2,
                pairwise=LikelihoodPairJudge(parts.teacher, parts.prompts),
                verifier=parts.verifier,
            )
        finally:
            await parts.aclose()

    report = asyncio.run(tried())
    assert report.grader.startswith("likelihood:")
    assert report.questions == QUESTIONS and report.unreadable == 0
    # It draws nothing; what is left is rounding, which another batch does otherwise.
    assert report.noise == report.repeat_noise < 0.02
    assert not report.collapsed
    found = {s.kind: s for s in report.separations}
    # Measured: 1.00, 1.00 and 0.97. Ten questions leave room for the last one.
    assert found[kinds.OTHER_ROWS].area > 0.9
    assert found[kinds.ECHO].area > 0.9
    assert found[kinds.SAME_DOCUMENTS].area > 0.75
    assert 0.0 < report.matrix_noise <= report.epsilon < 1.0
    assert 0.0 <= report.position <= 1.0
