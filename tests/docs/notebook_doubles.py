"""Puts doubles in the place of the default models, for notebooks that run without them.

A notebook that is tested so begins with a cell that imports this module, before it imports
anything itself. The language model is a tiny transformer, so that it can be trained; what it
says is not drawn from its weights but copied from the documents of its prompt, because from
noise nothing could be learnt. The embedder hashes words.
"""

import os
import random
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

os.environ["REFLECTORY_FORBID_MODELS"] = "0"  # the student is tiny and made here

from reflectory.evaluation import general
from reflectory.models import defaults, embedders
from reflectory.models.local import LocalModel
from reflectory.models.protocol import Completion, Request, ScoreRequest, Scores, TokenScores, Usage
from reflectory.models.quiet import no_progress_bars
from reflectory.testing.embedder import HashingEmbedder
from reflectory.testing.tiny import save_tiny_model

_FEW_GENERAL = general.general_instructions()[:4]
_WORD = re.compile(r"[A-Za-z]{5,}")


def _tiny(*_: object) -> SimpleNamespace:
    """Return the record of the tiny model, as of one that was fetched."""
    folder = Path(tempfile.gettempdir(), f"reflectory-tiny-{os.getpid()}")
    if not folder.exists():
        with no_progress_bars():
            save_tiny_model(folder, context_window=4096)
    return SimpleNamespace(path=folder)


def _nothing_to_fetch(*_: object) -> None:
    raise AssertionError("a notebook on doubles asked for the real embedder")


async def _complete(_: LocalModel, request: Request) -> Completion:
    """Copy a sentence of the documents, or ask about a word of them."""
    draw = random.Random(f"{request.seed} {request.role} {request.segments[-1].text}")
    documents = " ".join(s.text for s in request.segments if s.shared and s.speaker == "user")
    words = sorted(set(_WORD.findall(documents))) or ["nothing"]
    sentences = [s for s in re.split(r"(?<=[.!?])\s+", documents) if len(s.split()) > 3]
    if request.role in ("teacher.ask", "teacher.practise"):
        asked = " and ".join(draw.sample(words, min(2, len(words))))
        text = f"{request.prefill or 'What'} is said of {asked}?"
    else:
        text = " ".join(draw.choice(sentences or ["I do not know."]).split()[:16])
    return Completion(text=text, usage=Usage(prompt_tokens=100, completion_tokens=16))


async def _score(_: LocalModel, request: ScoreRequest) -> Scores:
    """Find likely what the prompt holds."""
    prompt = " ".join(segment.text for segment in request.segments)
    held = [-0.5 if text.strip() in prompt else -2.0 for text in request.continuations]
    pairs = zip(held, request.continuations, strict=True)
    each = tuple(TokenScores(logprobs=(value,) * max(1, len(t.split()))) for value, t in pairs)
    return Scores(continuations=each)


defaults.ensure_language_model = _tiny
defaults.ensure_embedding_model = _nothing_to_fetch
embedders.resolve_embedder = lambda *_, **__: HashingEmbedder()
general.general_instructions = lambda: _FEW_GENERAL
LocalModel.complete = _complete
LocalModel.score = _score
