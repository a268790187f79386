"""The calls that the engine's bench makes: generated documents, tasks, and their tree."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from reflectory.models.engine.rendering import render
from reflectory.models.protocol import (
    Request,
    SamplingParameters,
    Segment,
)

NEW_TOKENS = 48
DOCUMENT_TOKENS = 600
NEVER_WRITTEN = "<empty_output>"
"""A token that SmolLM2 knows from its first training only."""
WORDS = {
    "who": ("harbour master", "surveyor", "chief engineer", "council", "botanist", "archivist"),
    "did": ("measured", "rebuilt", "described", "abandoned", "inspected", "sold", "mapped"),
    "how": ("northern", "old", "flooded", "narrow", "unfinished", "wooden", "forgotten"),
    "what": ("lighthouse", "canal", "bridge", "quarry", "mill", "reservoir", "railway", "dyke"),
    "where": ("Varnholm", "Estry", "Calder Bay", "Ostrava Hill", "Minsea", "Port Lorne"),
    "why": ("a storm", "a long drought", "lack of money", "a new law", "a landslide", "a fire"),
}
SENTENCES = (
    "In {year} the {who} of {where} {did} the {how} {what} because of {why}.",
    "The {what} near {where} cost {number} crowns, which the {who} called far too much.",
    "A letter of {year} says that the {how} {what} was {did} by the {who} after {why}.",
    "Between {where} and the {how} {what} there were {number} workers, as the {who} noted.",
    "Whether {why} or the {who} ended the work on the {what} in {year} is not known.",
)
TASKS = (
    "You are the teacher. Ask one short question at the level basic, which asks for one fact "
    "about the {what} of {where} that a document states directly. Then say where it stands.",
    "Write a question at the level intermediate: it asks how two events at the {how} {what} "
    "are connected, and which of the people named in the documents took part in both of them.",
    "The level is advanced. Compare what the documents say about {where} and the {what}, give "
    "the reasons that each of them names, and explain at length why they do not agree.",
    "Think as an expert would: list what remains uncertain about the {what} and {why}, what "
    "conflicts between the reports, and what follows from it for the {who} of {where}.",
)


@dataclass(frozen=True)
class Call:
    """A request, and the tokens that every contender reads for it."""

    request: Request
    tokens: tuple[int, ...]


def fill(pattern: str, draw: random.Random) -> str:
    """Return a sentence with words drawn for its gaps."""
    words = {name: draw.choice(choices) for name, choices in WORDS.items()}
    return pattern.format(**words, year=draw.randint(1700, 1999), number=draw.randint(100, 9999))


def make_text(count: Callable[[str], int], draw: random.Random, tokens: int) -> str:
    """Return generated sentences of about ``tokens`` tokens together."""
    text = ""
    while count(text) < tokens:
        text = f"{text} {fill(draw.choice(SENTENCES), draw)}".lstrip()
    return text


def make_calls(tokenizer: Any, calls: int, seed: str, tokens: int = DOCUMENT_TOKENS) -> list[Call]:
    """Return the calls of one repeat: four tasks behind each loop's documents."""
    draw = random.Random(seed)
    # The number makes even the beginning of a prompt new in every repeat.
    system = f"Series {draw.randrange(10**6)}. You work with documents and keep to what they say."
    made: list[Call] = []
    for number in range(calls):
        if number % len(TASKS) == 0:
            text = make_text(lambda t: len(tokenizer(t)["input_ids"]), draw, tokens)
        segments = (
            Segment(text=system, speaker="system", shared=True),
            Segment(text=text, shared=True),
            Segment(text=fill(TASKS[number % len(TASKS)], draw)),
        )
        sampling = SamplingParameters(max_tokens=NEW_TOKENS)
        request = Request(segments=segments, role=f"bench.{number % len(TASKS)}", sampling=sampling)
        made.append(Call(request, render(tokenizer, segments).token_ids))
    return made


def endless(folder: Path, into: Path) -> Path:
    """Return the model of a folder, by links, with an end that it never writes.

    The engine has no switch for it, and a call that ends after ten tokens would
    compare reading prompts with writing.
    """
    token = transformers.AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(NEVER_WRITTEN)
    for file in folder.iterdir():
        (into / file.name).symlink_to(file.resolve())
    for name in ("config", "generation_config", "tokenizer_config", "special_tokens_map"):
        file = into / f"{name}.json"
        if not file.is_file():
            continue
        settings = json.loads(file.read_text(encoding="utf-8"))
        for key, end in (("eos_token_id", token), ("eos_token", NEVER_WRITTEN)):
            if key in settings:
                settings[key] = end
        file.unlink()  # the link: what it shows must stay as it is
        file.write_text(json.dumps(settings), encoding="utf-8")
    return into


def tree_of(prompts: Iterable[tuple[int, ...]]) -> tuple[int, int]:
    """Return the nodes of the tree of some prompts, and the pairs that attention looks at."""
    nodes = pairs = 0
    before: tuple[int, ...] = ()
    for tokens in sorted(prompts):
        both = zip(before, tokens, strict=False)
        shared = next((i for i, (a, b) in enumerate(both) if a != b), min(len(before), len(tokens)))
        nodes += len(tokens) - shared
        pairs += (len(tokens) * (len(tokens) + 1) - shared * (shared + 1)) // 2
        before = tokens
    return nodes, pairs
