"""TRL's SFT trainer with the loss of Equation 6 at the positions that have one.

Importing this module imports torch, transformers and trl.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTTrainer

from reflectory.training.distillation import DistributionTeacher
from reflectory.training.steps import NotedTrainer
from reflectory.training.targets import logits_at, predicted
from reflectory.training.tokens import IGNORED


class CompletionTrainer(NotedTrainer, SFTTrainer):  # type: ignore[misc]  # trl has no types
    """Minimises Equation 6, perhaps with the divergence from a teacher.

    TRL projects every position onto the vocabulary on a processor (only its GPU
    kernel skips the others). Prompts are ten times as long as completions here,
    so only positions that predict a learnt token are projected.

    Attributes:
        teacher: Whose distributions are learnt besides; ``None`` for nobody's.
    """

    teacher: DistributionTeacher | None = None

    def summed_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum over the target tokens, and their number.

        Equation 6: L = -(1 / N_target) * sum of log p over the target tokens. With a
        teacher, lambda times the divergence from it is added (Equations 2 and 3); what
        is held back is measured by Equation 6 alone.
        """
        columns, kept = predicted(inputs["labels"])
        reads = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        logits = logits_at(model, reads, columns, selects=self._selects, offset=self._offset)
        total = torch.nn.functional.cross_entropy(  # Equation 6
            logits.flatten(0, 1), kept.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if self.teacher is not None and torch.is_grad_enabled():
            far = self.teacher.divergence(self.model, reads, columns, kept, logits)
            total = total + self.teacher.weight * far
        return total, (kept != IGNORED).sum()
