"""The prompt of a row: the very one that the student reads when it answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from reflectory.training.rows import Prompter

if TYPE_CHECKING:
    from reflectory.config import LoopConfig


def prompter_for(config: LoopConfig) -> Prompter:
    """Return what makes the student's prompts in the loops of a configuration.

    Args:
        config: That of the loops whose trajectories become rows: ``loop.config``, or
            ``RunView.read(run).config.loop``.

    Raises:
        ConfigError: ``prompts`` replaces one that is unknown, or lacks a placeholder.
    """
    from reflectory.agents import PromptSet, answer_segments

    return partial(answer_segments, PromptSet.for_loop(config))
