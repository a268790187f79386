"""What both objectives share: the books of every optimiser step, checks and checkpoints.

Importing this module imports torch and transformers.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from reflectory.errors import TrainingError
from reflectory.training.methods import vectors_before
from reflectory.training.targets import selects_positions
from reflectory.training.watch import Watch

if TYPE_CHECKING:
    from reflectory.training.resume import StageFolder

Progress = Callable[[int, int, float, float], None]
"""Called with step (from 1), number of steps, loss and seconds since the beginning."""


@dataclass
class StepBooks:
    """What was noted at every optimiser step; a checkpoint holds it.

    Attributes:
        losses: Loss of each finished step, before its update.
        gradient_norms: Length of its gradient before it was cut.
        tokens_seen: Tokens of all forward passes of all processes, without padding.
        seconds: Wall-clock time of the steps.
    """

    losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    tokens_seen: int = 0
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return asdict(self)


class NotedTrainer:
    """Mixed in before one of TRL's trainers: keeps books, measures, saves checkpoints.

    A subclass computes :meth:`summed_loss`.

    Attributes:
        books: What was noted so far.
        held_back: Batches that are measured and never learnt.
        watch: Stops early by them; ``None`` when none is held back.
        folder: Where checkpoints go; ``None`` for nowhere.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.books = StepBooks()
        self.held_back: Sequence[dict[str, Any]] = ()
        self.watch: Watch | None = None
        self.folder: StageFolder | None = None
        self._loss: Any = 0.0
        self._tokens: Any = 0
        super().__init__(*args, **kwargs)
        self.model: Any
        self.accelerator: Any
        self.args: Any
        self._selects = selects_positions(self.model)
        self._offset = vectors_before(self.model)
        # The losses here are divided by what the whole step holds, not by micro-batch.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def summed_loss(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of the losses of a batch, and how many they are."""
        raise NotImplementedError

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return this micro-batch's share of the loss of the optimiser step.

        The sum of its losses, divided by how many losses the whole step has over all its
        micro-batches and processes, so that a batch of 4 and 4 accumulated batches of 1
        give the same gradient.
        """
        if return_outputs:
            # TRL's own way, for callers that want the outputs.
            return super().compute_loss(  # type: ignore[misc]
                model, inputs, return_outputs, num_items_in_batch
            )
        total, count = self.summed_loss(model, inputs)
        share = total / (count if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None:
            # Several processes average their gradients where their sum is wanted.
            share = share * self.accelerator.num_processes
        self.note(share, inputs)
        return share

    def note(self, share: torch.Tensor, inputs: dict[str, Any]) -> None:
        """Add a micro-batch to the books of the running step."""
        self._loss = self._loss + share.detach()
        self._tokens = self._tokens + tokens_of(inputs)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Close the books of a step, between its gradient and its update.

        Raises:
            TrainingError: Its loss or its gradient is not a finite number.
        """
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[misc]
        loss = self._over_processes(self._loss, "mean")
        self.books.tokens_seen += int(self._over_processes(self._tokens, "sum"))
        self._loss, self._tokens = 0.0, 0
        step, length = len(self.books.losses) + 1, float(norm)
        if not math.isfinite(loss):
            raise self._not_finite(f"the loss of step {step} is {loss}")
        # A step in float16 may overflow; its scaler then leaves the step out.
        if not math.isfinite(length) and not self.args.fp16:
            raise self._not_finite(f"the gradient of step {step} is {length}")
        self.books.losses.append(loss)
        self.books.gradient_norms.append(length)
        return norm

    def _not_finite(self, what: str) -> TrainingError:
        if self.folder is not None:
            self.folder.discard()  # from these checkpoints it would come to the same again
        return TrainingError(what, hint="lower the learning rate, or train with dtype float32")

    def _over_processes(self, value: Any, how: str) -> float:
        if self.accelerator.num_processes == 1:
            return float(value)
        tensor = torch.as_tensor(value, dtype=torch.float64, device=self.accelerator.device)
        gathered = self.accelerator.gather(tensor.reshape(1))
        return float(gathered.mean() if how == "mean" else gathered.sum())

    def measure(self) -> float:
        """Return the mean loss on what is held back, without learning from it."""
        total = count = 0.0
        with self.unlearning():
            for batch in self.held_back:
                inputs = self._prepare_inputs(dict(batch))  # type: ignore[attr-defined]
                part, number = self.summed_loss(self.model, inputs)
                total, count = total + float(part), count + float(number)
        return total / max(count, 1.0)

    @contextlib.contextmanager
    def unlearning(self) -> Iterator[None]:
        """Compute as in training, but without gradients and without dropout."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.compute_loss_context_manager():  # type: ignore[attr-defined]
                yield
        finally:
            self.model.train(training)

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """Return what is trained, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint of ours: whole or not at all, and without the base model."""
        if self.folder is not None:
            self.folder.write(self)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take the weights and the books of a checkpoint; the optimiser is read elsewhere."""
        if self.folder is not None:
            self.folder.read(self, resume_from_checkpoint)

    def _send_telemetry(self) -> None:
        """Report nothing to anybody: TRL would tell its makers about the training."""


def tokens_of(inputs: dict[str, Any]) -> Any:
    """Return how many tokens a batch has, without padding."""
    return inputs["tokens"] if "tokens" in inputs else inputs["attention_mask"].sum()


class StepCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not followed
    """Keeps the clock, measures what is held back, decides on checkpoints, tells the user.

    Attributes:
        trainer: The trainer that it is attached to; set after both are made.
        interrupted: Whether training was stopped by ``stop``.
    """

    def __init__(
        self,
        progress: Progress | None,
        *,
        checkpoint: Callable[[int, float], bool] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self._progress = progress
        self._checkpoint = checkpoint
        self._stop = stop
        self._started = time.monotonic()
        self._before = 0.0
        self.trainer: NotedTrainer | None = None
        self.interrupted = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock, and measure where training starts from."""
        if self.trainer is None:
            return
        if self.trainer.watch is not None and not self.trainer.watch.checks:
            self.trainer.watch.look(0)
        self._before = self.trainer.books.seconds
        self._started = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Hand over step, number of steps, loss and seconds since the beginning."""
        trainer = self.trainer
        if trainer is None:
            return
        step, last = state.global_step, state.global_step >= state.max_steps
        watch = trainer.watch
        if watch is not None and watch.due(step, last) and watch.look(step):
            control.should_training_stop = last = True
        trainer.books.seconds = self._before + time.monotonic() - self._started
        if self._progress is not None:
            loss = trainer.books.losses[-1]
            self._progress(step, state.max_steps, loss, trainer.books.seconds)
        if last:
            return
        if self._stop is not None and self._stop():
            control.should_training_stop = self.interrupted = True
            control.should_save = trainer.folder is not None
        elif self._checkpoint is not None and self._checkpoint(step, time.monotonic()):
            control.should_save = trainer.folder is not None
