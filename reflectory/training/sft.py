"""TRL's SFT trainer with the loss of Equation 6 at the positions that have one.

Importing this module imports torch, transformers and trl.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from reflectory.config import TrainingConfig
from reflectory.errors import TrainingError
from reflectory.training.tokens import IGNORED

Progress = Callable[[int, int, float, float], None]

ACTIVATION_BYTES = 90
"""Memory of activations per token, layer and unit of width in bfloat16.

Measured on SmolLM2-135M with adapters on all linear layers: 1.5 MB per token
for 30 layers of 576. Twice as much in float32.
"""

ACTIVATION_BUDGET = 3 * 2**30
"""Above this many bytes of activations, they are computed again in the backward pass."""


class CompletionTrainer(SFTTrainer):  # type: ignore[misc]  # trl has no types
    """Minimises Equation 6 and keeps the loss of every optimiser step.

    TRL projects every position onto the vocabulary on a processor (only its GPU
    kernel skips the others). Prompts are ten times as long as completions here,
    so only positions that predict a learnt token are projected.

    Attributes:
        step_losses: Loss of each finished optimiser step.
        tokens_seen: Tokens of all forward passes, without padding.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.step_losses: list[float] = []
        self.tokens_seen = 0
        self._current = 0.0
        super().__init__(*args, **kwargs)
        forward = type(self.model.get_base_model()).forward
        self._selects = "logits_to_keep" in inspect.signature(forward).parameters

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return this micro-batch's share of the loss of the optimiser step.

        Equation 6: L = -(1 / N_target) * sum of log p over the target tokens,
        where N_target counts the whole batch of the step, so that a batch of 4
        and 4 accumulated batches of 1 give the same gradient.

        Raises:
            TrainingError: The loss is not a finite number.
        """
        self.tokens_seen += int(inputs["attention_mask"].sum())
        if return_outputs or not self._selects:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            self._note(result[0] if return_outputs else result)
            return result
        targets = inputs["labels"][:, 1:]  # position i predicts token i + 1
        columns = (targets != IGNORED).any(dim=0).nonzero().flatten()
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            logits_to_keep=columns,
            use_cache=False,
        ).logits
        kept = targets[:, columns]
        count = (kept != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        negative_log_likelihood = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), kept.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        loss = negative_log_likelihood / count  # Equation 6
        self._note(loss)
        return loss

    def _note(self, loss: torch.Tensor) -> None:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss of step {len(self.step_losses) + 1} is {value}",
                hint="lower training.learning_rate, or train with dtype float32",
            )
        self._current += value

    def finish_step(self) -> float:
        """Close the books of an optimiser step and return its loss."""
        loss, self._current = self._current, 0.0
        self.step_losses.append(loss)
        return loss

    def _send_telemetry(self) -> None:
        """Report nothing to anybody: TRL would tell its makers about the training."""


class StepCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
    """Calls the user's progress function after every optimiser step.

    Attributes:
        seconds: Wall-clock time from the first step's beginning to the last one's end.
        trainer: The trainer that it is attached to; set after both are made.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self.seconds = 0.0
        self.trainer: CompletionTrainer | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Hand over step, number of steps, loss and seconds since the beginning."""
        if self.trainer is None:
            return
        loss = self.trainer.finish_step()
        self.seconds = time.monotonic() - self._started
        if self._progress is not None:
            self._progress(state.global_step, state.max_steps, loss, self.seconds)


def needs_checkpointing(model: Any, tokens: int, dtype: torch.dtype) -> bool:
    """Return whether the activations of a micro-batch exceed their budget.

    Computing activations again costs a third of the speed, so it is only done
    where keeping them would cost memory that a small machine does not have.
    """
    config = model.config.get_text_config()
    width = int(config.num_hidden_layers) * int(config.hidden_size)
    factor = 2 if dtype == torch.float32 else 1
    return tokens * width * ACTIVATION_BYTES * factor > ACTIVATION_BUDGET


def sft_arguments(
    config: TrainingConfig,
    *,
    folder: str,
    device: torch.device,
    dtype: torch.dtype,
    micro_batch: int,
    checkpointing: bool,
) -> SFTConfig:
    """Return TRL's arguments for one round.

    Args:
        config: What the user decides.
        folder: A folder for what the trainer insists on writing.
        device: Where to train.
        dtype: Number format of the base.
        micro_batch: Rows of one forward pass; divides the batch size.
        checkpointing: Whether to compute activations again in the backward pass.
    """
    arguments = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=config.batch_size // micro_batch,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        num_train_epochs=config.epochs,
        max_steps=-1 if config.max_steps is None else config.max_steps,
        max_length=None,  # the rows are cut already, at the right end
        seed=config.seed,
        data_seed=config.seed,
        gradient_checkpointing=checkpointing,
        use_cpu=device.type == "cpu",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device.type == "cuda",
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # TRL refuses transformers' data parallelism over several devices
    return arguments
