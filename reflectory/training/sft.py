"""TRL's SFT trainer with the loss of Equation 6 at the positions that have one.

Importing this module imports torch, transformers and trl.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import SFTTrainer

from reflectory.training.distillation import DistributionTeacher
from reflectory.training.sharing import SharedRows
from reflectory.training.sharing_batches import shared_inputs
from reflectory.training.steps import NotedTrainer
from reflectory.training.targets import SAME_PER_TOKEN, logits_at, predicted
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

        Args:
            model: What learns.
            inputs: A micro-batch: token ids and targets of shape (rows, length).
        """
        if "source" in inputs:
            return self._summed_together(model, inputs)
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

    def _summed_together(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same of rows that are read together."""
        reads = {n: inputs[n] for n in ("input_ids", "attention_mask", "position_ids")}
        columns, where = inputs["source"].unique(return_inverse=True)
        logits = logits_at(model, reads, columns, selects=self._selects, offset=self._offset)
        total = torch.nn.functional.cross_entropy(  # Equation 6
            logits[0, where], inputs["target"], reduction="sum"
        )
        return total, torch.tensor(len(where), device=total.device)

    def shares(self, pack: SharedRows, dtype: torch.dtype) -> bool:
        """Return whether one pass over rows together gives what passes one by one give.

        Tried, because a network may know no mask of its own shape: those with windows or
        with a recurrent state do not.

        Args:
            pack: Rows read as one sequence.
            dtype: What the training computes in; it decides how near is equal.
        """
        with self.unlearning():
            try:
                together = self._likelihood(pack)
                apart = sum(self._likelihood(row) for row in pack.apart())
            except (ValueError, RuntimeError, TypeError):
                return False
        return abs(together - apart) / len(pack.targets) <= SAME_PER_TOKEN.get(dtype, 1e-3)

    def _likelihood(self, pack: SharedRows) -> float:
        total, _ = self.summed_loss(self.model, self._prepare_inputs(shared_inputs(pack)))
        return float(total)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """Return the learnt tokens of the whole optimiser step."""
        if batch_samples and "target" in batch_samples[0]:
            return torch.tensor(sum(len(b["target"]) for b in batch_samples), device=device)
        return super()._get_num_items_in_batch(batch_samples, device)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Leave packs as they are: TRL would look for texts to make tokens of."""
        if "pack" in dataset.column_names:
            return dataset
        return super()._prepare_dataset(dataset, *args, **kwargs)
