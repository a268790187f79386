"""Rows as curation makes them, for the tests of its steps."""

import asyncio

from reflectory.config import CurationConfig
from reflectory.training.counts import CurationCounts
from reflectory.training.curation import Curation, refine
from reflectory.training.rows import Message, PreferenceRow, Provenance, TrainingRow, assistant


def row(text="It is old.", question="How old is it?", *, score=0.8, documents="", **changes):
    prompt = f"{documents}\n\n{question}" if documents else question
    return TrainingRow(
        prompt=(Message(role="user", content=prompt),),
        completion=assistant(text),
        provenance=Provenance(
            **{"trajectory": "t", "question": question, "score": score, **changes}
        ),
    )


def pair(chosen="It is old.", rejected="No idea.", question="How old is it?", **changes):
    made = row(chosen, question, **changes)
    return PreferenceRow(
        prompt=made.prompt,
        chosen=made.completion,
        rejected=assistant(rejected),
        margin=0.4,
        provenance=made.provenance,
    )


OFF = {"duplicates": "off", "decontaminate": False}
"""Switches off what is on by default, so that a test sees the one step it is about."""


def refined(rows, pairs=(), tools=None, **settings):
    """Refine rows with the given settings; what is on by default is off unless named."""
    config = CurationConfig(**{**OFF, **settings})
    given = Curation(tuple(rows), tuple(pairs), CurationCounts(), config)
    return asyncio.run(refine(given, config, tools))


def apply(step, rows):
    """Apply one step by itself."""
    return asyncio.run(step.apply(tuple(rows)))


def texts(rows):
    return [r.completion[0].content for r in rows]
