"""A teacher whose whole distribution is learnt from, not only the tokens it chose.

Importing this module imports torch.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from reflectory.errors import UserError
from reflectory.training.targets import base_of, logits_at, selects_positions
from reflectory.training.tokens import IGNORED


class DistributionTeacher:
    """The next-token distributions of a local model, at the positions that are learnt.

    Args:
        model: The teacher; ``None`` for the student's own base, its adapter switched
            off, which needs no second copy in memory.
        temperature: Of both distributions.
        weight: Lambda, the weight of the divergence beside the cross entropy.
    """

    def __init__(self, model: Any | None, *, temperature: float, weight: float) -> None:
        self._model = model
        self._temperature = temperature
        self.weight = weight

    def divergence(
        self,
        student: Any,
        inputs: dict[str, Any],
        columns: torch.Tensor,
        kept: torch.Tensor,
        logits: torch.Tensor,
    ) -> torch.Tensor:
        """Return the sum over the learnt tokens of KL(teacher || student).

        Equations 2 and 3: sum over the vocabulary of p_T(v) (log p_T(v) - log p_S(v)),
        both at the temperature T. It is multiplied by T squared, so that its gradient
        keeps its size beside the cross entropy at every temperature (Hinton et al. 2015).

        Args:
            student: The model that learns, not wrapped; it is asked when it is its own teacher.
            inputs: What the student reads.
            columns: Positions that predict a learnt token.
            kept: Their targets of shape (rows, positions), IGNORED where nothing is learnt.
            logits: The student's, of shape (rows, positions, vocabulary).
        """
        with torch.no_grad():
            theirs = self._logits(student, inputs, columns)
        # Padded vocabularies differ in length; the tokenizers agree, so the rest is padding.
        width = min(theirs.shape[-1], logits.shape[-1])
        learnt = kept != IGNORED
        log_t = (theirs[learnt][:, :width] / self._temperature).log_softmax(-1)
        log_s = (logits[learnt][:, :width] / self._temperature).log_softmax(-1)
        divergence = (log_t.exp() * (log_t - log_s)).sum()
        return divergence * self._temperature**2

    def _logits(self, student: Any, inputs: dict[str, Any], columns: torch.Tensor) -> torch.Tensor:
        if self._model is not None:
            selects = selects_positions(self._model)
            return logits_at(self._model, inputs, columns, selects=selects)
        with adapter_off(student):
            return logits_at(student, inputs, columns, selects=selects_positions(student))


@contextlib.contextmanager
def adapter_off(model: Any) -> Any:
    """Make a model with an adapter its own base for a while, without dropout."""
    training = model.training
    model.eval()
    try:
        with model.disable_adapter():
            yield
    finally:
        model.train(training)


def check_tokenizers(student: Any, teacher: Any, name: str) -> None:
    """Refuse a teacher whose distributions are over other tokens.

    Args:
        student: The student's tokenizer.
        teacher: The teacher's.
        name: What to call the teacher.

    Raises:
        UserError: A token has another number there, or is missing.
    """
    own, other = student.get_vocab(), teacher.get_vocab()
    if own == other:
        return
    different = sum(other.get(token) != number for token, number in own.items())
    different += sum(token not in own for token in other)
    raise UserError(
        f"the teacher {name} has another tokenizer than the student: {different} tokens differ "
        f"({len(own)} here, {len(other)} there)",
        hint="set training.kl_weight to 0, or take a teacher of the student's model family",
    )


def load_teacher(source: Path, device: Any, dtype: Any) -> Any:
    """Return the network of a teacher, frozen.

    Args:
        source: Folder of the model.
        device: Where its weights go.
        dtype: Their number format.

    Raises:
        ModelError: It cannot be loaded.
    """
    from reflectory.models.engine.loading import load_model

    return base_of(load_model(source, device, dtype)).requires_grad_(False)
