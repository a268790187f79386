"""One objective from its first step to its last: built, resumed, stopped, its errors named.

torch, transformers and trl are imported inside the functions.
"""

from __future__ import annotations

import contextlib
import math
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reflectory.config import TrainingConfig
from reflectory.errors import TrainingError
from reflectory.training.plan import StagePlan
from reflectory.training.processes import Processes
from reflectory.training.resume import Schedule, WorkFolder
from reflectory.training.sharing import SharedRows
from reflectory.training.tokens import TokenisedPair, TokenisedRow

if TYPE_CHECKING:
    import torch

    from reflectory.training.distillation import DistributionTeacher
    from reflectory.training.steps import NotedTrainer


@dataclass(frozen=True)
class Workshop:
    """What all objectives of one training share.

    Attributes:
        model: The base with the adapter on it, which changes in place.
        tokenizer: Its tokenizer.
        config: Hyperparameters.
        device: Where to train.
        dtype: Number format of the base.
        group: The processes that train together.
        work: Where checkpoints go; ``None`` for nowhere.
        progress: Called after every optimiser step.
        stop: Whether training shall end after the running step.
        teacher: Whose distributions are learnt besides the rows.
    """

    model: Any
    tokenizer: Any
    config: TrainingConfig
    device: torch.device
    dtype: torch.dtype
    group: Processes
    work: WorkFolder | None
    progress: Callable[[int, int, float, float], None] | None
    stop: Callable[[], bool]
    teacher: DistributionTeacher | None = None


@dataclass(frozen=True)
class StageOutcome:
    """What one objective did.

    Attributes:
        objective: ``sft`` or ``dpo``.
        losses: Loss of every optimiser step, before its update.
        gradient_norms: Length of its gradient, before it was cut.
        checks: Step and loss of every measurement on what was held back.
        best_step: Step whose weights were kept; the last one without measurements.
        tokens_seen: Tokens of all forward passes.
        seconds: Wall-clock time of the steps, those before a resume among them.
        resumed_from: Steps that were taken from a checkpoint.
    """

    objective: Literal["sft", "dpo"]
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    checks: tuple[tuple[int, float], ...]
    best_step: int
    tokens_seen: int
    seconds: float
    resumed_from: int


def run_stage(
    plan: StagePlan,
    learnt: Sequence[Any],
    held_back: Sequence[Any],
    shop: Workshop,
) -> StageOutcome:
    """Train one objective; the adapter of the shop's model changes in place.

    Args:
        plan: Which objective, and how.
        learnt: Tokenised rows, or pairs for ``dpo``.
        held_back: The same, measured and not learnt.
        shop: Everything else.

    Raises:
        TrainingError: The loss is not a number, memory ran out, or ``stop`` said so.
        KeyboardInterrupt: Ctrl-C was pressed; a checkpoint was written if there is room.
    """
    from transformers.trainer_callback import PrinterCallback

    from reflectory.training.steps import StepCallback

    config = shop.config
    schedule = Schedule(config, shop.group)
    folder = None if shop.work is None else shop.work.stage(plan.objective)
    with tempfile.TemporaryDirectory(prefix="reflectory-") as scratch, _out_of_memory():
        callback = StepCallback(shop.progress, checkpoint=schedule, stop=shop.stop)
        build = _supervised if plan.objective == "sft" else _preference
        trainer = build(plan, learnt, held_back, shop, scratch, callback)
        trainer.remove_callback(PrinterCallback)
        callback.trainer = trainer
        trainer.folder = folder
        if held_back:
            trainer.watch = _watch(trainer, plan, config)
        done = None if folder is None else folder.finished()
        if folder is not None and done is not None:
            folder.read(trainer, done)
            resumed = len(trainer.books.losses)
        else:
            start = None if folder is None else folder.latest()
            resumed = 0 if start is None else int(start.name.partition("-")[2])
            _prepare(trainer, plan, shop)
            trainer.train(resume_from_checkpoint=None if start is None else str(start))
            if callback.interrupted:
                _stop(len(trainer.books.losses))
            if trainer.watch is not None:
                trainer.watch.restore()
            if folder is not None:
                folder.finish(trainer)
    books, watch = trainer.books, trainer.watch
    return StageOutcome(
        plan.objective,
        tuple(books.losses),
        tuple(books.gradient_norms),
        () if watch is None else tuple(watch.checks),
        len(books.losses) if watch is None else watch.best_step,
        books.tokens_seen,
        books.seconds,
        resumed,
    )


def _supervised(
    plan: StagePlan,
    learnt: Sequence[TokenisedRow | SharedRows],
    held_back: Sequence[TokenisedRow],
    shop: Workshop,
    scratch: str,
    callback: Any,
) -> Any:
    import torch
    from datasets import Dataset

    from reflectory.training.arguments import trl_arguments
    from reflectory.training.sft import CompletionTrainer
    from reflectory.training.sharing_batches import SharedCollator

    def collated(row: dict[str, list[int]]) -> dict[str, Any]:
        batch = {name: torch.tensor([values]) for name, values in row.items()}
        return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}

    def plain(row: TokenisedRow) -> dict[str, list[int]]:
        return {"input_ids": list(row.input_ids), "labels": list(row.labels)}

    def made(items: list[dict[str, Any]], arguments: Any, **options: Any) -> CompletionTrainer:
        return CompletionTrainer(
            model=shop.model,
            args=arguments,
            train_dataset=Dataset.from_list(items),
            processing_class=shop.tokenizer,
            callbacks=[callback],
            **options,
        )

    arguments = trl_arguments("sft", shop.config, plan, **_place(shop, scratch))
    packs = [item for item in learnt if isinstance(item, SharedRows)]
    if packs:
        numbered = [{"pack": number} for number in range(len(packs))]
        trainer = made(numbered, arguments, data_collator=SharedCollator(packs))
        several = min((p for p in packs if p.rows > 1), key=lambda p: len(p.input_ids))
        if not trainer.shares(several, shop.dtype):
            apart = [row for pack in packs for row in pack.apart()]
            arguments.gradient_accumulation_steps = shop.config.batch_size
            numbered = [{"pack": number} for number in range(len(apart))]
            trainer = made(numbered, arguments, data_collator=SharedCollator(apart))
        trainer.held_back = [collated(plain(row)) for row in held_back]
        return trainer
    rows = [plain(row) for row in learnt if isinstance(row, TokenisedRow)]
    trainer = made(rows, arguments)
    trainer.teacher = shop.teacher
    trainer.held_back = [trainer.data_collator([plain(row)]) for row in held_back]
    return trainer


def _preference(
    plan: StagePlan,
    learnt: Sequence[TokenisedPair],
    held_back: Sequence[TokenisedPair],
    shop: Workshop,
    scratch: str,
    callback: Any,
) -> Any:
    from datasets import Dataset

    from reflectory.training.arguments import trl_arguments
    from reflectory.training.pairs import PairCollator
    from reflectory.training.preference import PreferenceTrainer

    pairs = [
        {
            "prompt_ids": list(row.prompt_ids),
            "chosen_ids": list(row.chosen_ids),
            "rejected_ids": list(row.rejected_ids),
            "margin": row.margin,
            "pair": number,
        }
        for number, row in enumerate([*learnt, *held_back])
    ]
    padding = shop.tokenizer.pad_token_id
    collator = PairCollator(shop.tokenizer.eos_token_id if padding is None else padding)
    trainer = PreferenceTrainer(
        model=shop.model,
        args=trl_arguments("dpo", shop.config, plan, **_place(shop, scratch)),
        train_dataset=Dataset.from_list(pairs[: len(learnt)]),
        data_collator=collator,
        processing_class=shop.tokenizer,
        callbacks=[callback],
    )
    trainer.margin_weight = shop.config.margin_weight
    trainer.pairs = pairs
    collator.share = trainer.shares_prompts(pairs[0], shop.dtype)
    trainer.held_back = [collator([pair]) for pair in pairs[len(learnt) :]]
    return trainer


def _prepare(trainer: Any, plan: StagePlan, shop: Workshop) -> None:
    """Ask the reference, when the objective has one and the adapter is as it starts."""
    if plan.objective == "dpo":
        trainer.compute_reference(trainer.pairs, shop.config.reference)


def _place(shop: Workshop, scratch: str) -> dict[str, Any]:
    return {
        "folder": scratch,
        "device": shop.device,
        "dtype": shop.dtype,
    }


def _watch(trainer: NotedTrainer, plan: StagePlan, config: TrainingConfig) -> Any:
    from reflectory.training.watch import Watch

    every = config.validation_steps or max(math.ceil(plan.steps / 10), 1)
    return Watch(trainer.measure, trainer.trained, every=every, patience=config.patience)


class Stop:
    """Whether training shall end: Ctrl-C was pressed, or the caller's event is set."""

    def __init__(self, cancel: threading.Event | None) -> None:
        self._cancel = cancel
        self.pressed = False

    def __call__(self) -> bool:
        """Return whether it shall."""
        return self.pressed or (self._cancel is not None and self._cancel.is_set())


@contextlib.contextmanager
def stoppable(cancel: threading.Event | None) -> Iterator[Stop]:
    """Let Ctrl-C end training after the running step; pressed again, it ends at once.

    Only the main thread gets signals; in another one ``cancel`` alone counts.
    """
    stop = Stop(cancel)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def press(*_: Any) -> None:
        if stop.pressed:
            raise KeyboardInterrupt
        stop.pressed = True

    if before is not signal.default_int_handler:
        yield stop  # Somebody else handles it, and shall go on doing so.
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield stop
    except TrainingError as error:
        if stop.pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _stop(step: int) -> None:
    raise TrainingError(
        f"training was stopped after step {step}",
        hint="the same call goes on from there, if checkpoints are written",
    )


@contextlib.contextmanager
def _out_of_memory() -> Iterator[None]:
    """Name what helps when memory runs out.

    Raises:
        TrainingError: It did.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _memory_error(error) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise _memory_error(error) from error


def _memory_error(error: Exception) -> TrainingError:
    return TrainingError(
        f"training ran out of memory: {str(error).splitlines()[0]}",
        hint="lower training.micro_batch, training.batch_size or training.max_length",
    )
