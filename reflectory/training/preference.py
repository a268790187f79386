"""TRL's DPO trainer with the loss of Equation 12, the adapter-off model as the reference.

The reference's log-likelihoods are computed once before training, so no second
model is in memory and a step costs one forward pass. Importing this module
imports torch, transformers and trl.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from trl import DPOTrainer

from reflectory.training.distillation import adapter_off
from reflectory.training.pairs import PairCollator
from reflectory.training.steps import NotedTrainer
from reflectory.training.targets import SAME_PER_TOKEN, logits_at


class PreferenceTrainer(NotedTrainer, DPOTrainer):  # type: ignore[misc]  # trl has no types
    """Minimises Equation 12 on pairs that are tokens already.

    Attributes:
        margin_weight: How much of the grades' margin the better answer has to lead by.
        reference: Log-likelihoods of chosen and rejected under the reference, of shape
            (pairs, 2); what is held back comes after what is learnt.
    """

    margin_weight: float = 0.0
    reference: torch.Tensor | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            # Of the name that TRL gives to a copy of the adapter, its reference.
            warnings.filterwarnings("ignore", "Adapter name 'ref'", UserWarning)
            super().__init__(*args, **kwargs)
        # Ours is computed before training, so that no copy stays in memory.
        if "ref" in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter("ref")

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Leave the pairs as they are: they hold the tokens of inference."""
        return dataset

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """Return the pairs of the whole optimiser step, over all processes."""
        count = torch.tensor(sum(len(b["pair"]) for b in batch_samples), device=device)
        if self.accelerator.num_processes > 1:
            count = self.accelerator.gather(count.reshape(1)).sum()
        return count

    def summed_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum over the pairs, and their number.

        Equation 12: -log sigmoid(beta [log pi/pi_ref (y_w) - log pi/pi_ref (y_l)]). With a
        margin weight, that weight times the difference of the two grades is taken off
        inside the sigmoid (offset DPO, Amini et al. 2024).

        Args:
            model: The policy.
            inputs: A micro-batch: token ids of shape (rows, length), and of each pair its number
                and its margin.
        """
        if self.reference is None:
            raise RuntimeError("the reference was not computed")
        ratios = (
            self.likelihoods(model, inputs, self._offset)
            - self.reference.to(inputs["pair"].device)[inputs["pair"]]
        )
        lead = self.beta * (ratios[:, 0] - ratios[:, 1])
        wanted = self.margin_weight * inputs["margin"]
        losses = -torch.nn.functional.logsigmoid(lead - wanted)  # Equation 12
        return losses.sum(), torch.tensor(len(losses), device=losses.device)

    def likelihoods(self, model: Any, inputs: dict[str, Any], offset: int) -> torch.Tensor:
        """Return log p of chosen and rejected completions, of shape (pairs, 2), in nats.

        Args:
            model: The policy, or the reference.
            inputs: A micro-batch of token ids of shape (rows, length).
            offset: Virtual tokens before the prompt; 0 where the adapter is off.
        """
        reads: dict[str, Any] = {
            name: inputs[name]
            for name in ("input_ids", "attention_mask", "position_ids")
            if name in inputs
        }
        columns, where = inputs["source"].unique(return_inverse=True)
        logits = logits_at(model, reads, columns, selects=self._selects, offset=offset)
        picked = logits[inputs["row"], where]
        log_p = -torch.nn.functional.cross_entropy(picked, inputs["target"], reduction="none")
        sums = torch.zeros(2 * len(inputs["pair"]), dtype=log_p.dtype, device=log_p.device)
        return sums.index_add(0, inputs["completion"], log_p).reshape(-1, 2)

    def compute_reference(
        self, pairs: Sequence[dict[str, Any]], which: Literal["base", "start"]
    ) -> None:
        """Ask the reference about all pairs, once.

        Args:
            pairs: In the order of their numbers.
            which: ``base`` switches the adapter off; ``start`` takes it as it is now.
        """
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        found: list[tuple[int, list[float]]] = []
        with self.unlearning():
            off = adapter_off(self.model) if which == "base" else contextlib.nullcontext()
            offset = 0 if which == "base" else self._offset
            with off:
                for pair in pairs[index::count]:
                    inputs = self._prepare_inputs(self.data_collator([pair]))
                    value = self.likelihoods(self.model, inputs, offset)[0]
                    found.append((int(pair["pair"]), value.tolist()))
        if count > 1:
            from accelerate.utils import gather_object

            found = gather_object(found)
        self.reference = torch.tensor([value for _, value in sorted(found)])

    def shares_prompts(self, pair: dict[str, Any], dtype: torch.dtype) -> bool:
        """Return whether one forward pass over both completions gives what two give.

        Tried on a pair, because a network may know no mask of its own shape: those with
        windows or with a recurrent state do not.

        Args:
            pair: One pair of tokens.
            dtype: What the training computes in; it decides how near is equal.
        """
        collator: PairCollator = self.data_collator
        values = []
        with self.unlearning():
            for share in (True, False):
                try:
                    inputs = self._prepare_inputs(collator.collate([pair], share=share))
                    values.append(self.likelihoods(self.model, inputs, self._offset))
                except (ValueError, RuntimeError, TypeError):
                    return False
        tokens = max(len(pair["chosen_ids"]), len(pair["rejected_ids"]))
        difference = float((values[0] - values[1]).abs().max()) / tokens
        return difference <= SAME_PER_TOKEN.get(dtype, 1e-3)
