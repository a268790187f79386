"""One base model, its adapters, and the thread that runs all calls to them."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from reflectory.errors import UserError
from reflectory.models.adapter_files import AdapterFiles
from reflectory.models.engine.adapters import is_plain_lora, read_lora
from reflectory.models.engine.batch import Batch
from reflectory.models.engine.failures import closed_error
from reflectory.models.engine.generic import GenericNetwork
from reflectory.models.engine.memory import empty_caches, plan_memory
from reflectory.models.engine.network import Network, VirtualTokens
from reflectory.models.engine.peft_model import served
from reflectory.models.engine.plain import PlainBatch
from reflectory.models.engine.projection import LowRank
from reflectory.models.engine.scheduler import Scheduler
from reflectory.models.engine.selection import Limits
from reflectory.models.engine.tree import PrefixTree
from reflectory.models.engine.virtual import read_virtual
from reflectory.models.engine.work import Counts, Job
from reflectory.models.torch_thread import run_in_torch_thread

Prepare = Callable[[Any], Network | None]
"""Finds the network of a transformers model; ``None`` if it can only run as it is."""


@dataclass(eq=False)
class _Adapter:
    """What an adapter does, and how many models and unanswered calls need it."""

    layers: dict[str, LowRank]
    users: int = 1


class Engine:
    """Shared by all models that differ in their adapter only.

    Args:
        source: Returns the transformers model; called at once, and again after a sleep.
        prepare: Finds its network.
        owned: Whether every call of ``source`` loads a new model, which need not be kept.
        tokenizer: Its tokenizer.
        max_batch: Most completions that are written together.
        alone: Compute every call by itself, so that it has the same bits whatever
            else runs.
        cache_bytes: Most bytes of kept prefixes; by default by the memory there is.

    Attributes:
        lock: Held while the tokenizer makes tokens of text.
        counts: What was computed until now.
        window: Most tokens of prompt and completion together; ``None`` when unknown.
        packed: Whether calls share passes; else they run one after the other.
    """

    def __init__(
        self,
        source: Callable[[], Any],
        prepare: Prepare,
        tokenizer: Any,
        *,
        owned: bool,
        max_batch: int,
        alone: bool,
        cache_bytes: int | None,
    ) -> None:
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}", hint="it must be at least 1")
        self._source = source
        self._prepare = prepare
        self._owned = owned
        self._tokenizer = tokenizer
        self._alone = alone
        self._max_batch = max_batch
        self._cache_bytes = cache_bytes
        self._adapters: dict[str, _Adapter] = {}
        self._virtual: dict[str, VirtualTokens] = {}
        self._users = 0
        self._closed = False
        self._counting = threading.Lock()
        self._network: Network | None = None
        self._model: Any = None
        self.lock = threading.Lock()
        self.counts = Counts()
        # There too, because every thread that computes gets a pool of its own.
        model = run_in_torch_thread(self._load)
        self.window = _context_window(model)
        self._eos_ids = _ending_tokens(model, tokenizer)
        self._asleep = False
        self._scheduler = Scheduler(
            self._wake,
            tokenizer,
            self.lock,
            limits=Limits(rows=max_batch, tokens=2**62),
            window=self.window,
            counts=self.counts,
        )

    def _load(self) -> Any:
        """Load the model and find its network; the network alone is kept where there is one."""
        model = self._source()
        self._network = self._prepare(model)
        self._model = None if self._network is not None else model
        self.packed = self._network is not None
        if self._network is not None:
            self._shape, self._layers = self._network.shape, self._network.layer_names
        return model

    def submit(self, job: Job) -> None:
        """Put a call into the queue; its adapter stays until the call is answered.

        Raises:
            BackendError: The engine or the adapter was closed.
        """
        name = job.adapter
        if name:
            with self._counting:
                if name not in self._adapters:
                    raise closed_error()
                self._adapters[name].users += 1
                if name in self._virtual:
                    job.virtual = self._virtual[name].count
            job.future.add_done_callback(lambda _: self._leave(name))
        try:
            self._scheduler.submit(job)
        except BaseException:
            job.future.cancel()  # Gives the adapter back.
            raise

    def add_adapter(self, name: str, files: AdapterFiles) -> bool:
        """Take an adapter up beside the others, for one more user.

        Args:
            name: What jobs call it.
            files: Where it lies; checked already.

        Returns:
            False if it is neither pairs of matrices nor virtual tokens, and needs a
            model of its own.
        """
        with self._counting:
            if name in self._adapters:
                self._adapters[name].users += 1
                return True
        if not self.packed:
            return False
        virtual = read_virtual(files.weights, files.config, self._shape)
        layers: dict[str, LowRank] | None = {} if virtual is not None else None
        if is_plain_lora(files.config):
            layers = read_lora(files.weights, files.config, self._shape.dtype, self._shape.device)
        if layers is None or not layers.keys() <= self._layers:
            return False

        def take_up() -> None:
            with self._counting:
                if name in self._adapters:  # meanwhile
                    self._adapters[name].users += 1
                    return
                self._adapters[name] = _Adapter(layers)
                if virtual is not None:
                    self._virtual[name] = virtual
            if self._network is not None:  # else it is asleep and takes them up when it wakes
                self._network.add_adapter(name, layers)

        run_in_torch_thread(take_up)
        return True

    def _leave(self, name: str) -> None:
        """Count one user of an adapter less; drop it after the last one."""
        with self._counting:
            adapter = self._adapters.get(name)
            if adapter is None:
                return
            adapter.users -= 1
            unused = adapter.users == 0 and not self._closed
        if unused:
            self._scheduler.errand(lambda batch: self._drop(name, batch))

    def _drop(self, name: str, batch: Batch | PlainBatch | None) -> None:
        """Forget an adapter that nobody uses; called in the torch thread."""
        with self._counting:
            adapter = self._adapters.get(name)
            if adapter is None or adapter.users > 0:
                return  # Somebody has come back.
            del self._adapters[name]
            self._virtual.pop(name, None)
        if self._network is not None:
            self._network.drop_adapter(name)
        if isinstance(batch, Batch):
            batch.forget_adapter(name)

    def merged(self, files: AdapterFiles) -> Engine:
        """Return an engine of its own for an adapter that cannot share this one.

        Raises:
            ModelError: It does not fit the model.
        """

        def source() -> Any:
            return served(self._untouched, files)

        def prepare(model: Any) -> Network | None:
            return None if hasattr(model, "peft_config") else self._prepare(model)

        return Engine(
            source,
            prepare,
            self._tokenizer,
            owned=True,
            max_batch=self._max_batch,
            alone=self._alone,
            cache_bytes=self._cache_bytes,
        )

    def _untouched(self) -> Any:
        """Return a model that PEFT may change; called in the torch thread."""
        if self._owned:
            return self._source()
        with restored(self._network):
            return copy.deepcopy(self._source())

    def open(self) -> None:
        """Count one more user.

        Raises:
            BackendError: The engine was closed.
        """
        with self._counting:
            if self._closed:
                raise closed_error()
            self._users += 1

    def close(self, adapter: str = "") -> None:
        """Count one user less; the last one ends the thread, and waiting calls fail.

        Args:
            adapter: The user's; dropped when no other user and no call needs it.
        """
        with self._counting:
            self._users -= 1
            last = self._users <= 0 and not self._closed
            self._closed = self._closed or last
        if last:
            self._scheduler.close()
            self._network, self._model = None, None
            with self._counting:
                self._adapters.clear()
                self._virtual.clear()
        elif adapter:
            self._leave(adapter)

    def sleep(self) -> None:
        """Give weights, prefixes and buffers back, once what runs has ended.

        The next call wakes the engine. Adapters stay known. A model that was handed over
        stays with whoever holds it.
        """

        def drop() -> None:
            if isinstance(self._network, GenericNetwork):
                self._network.release()  # The model may be somebody's.
            self._network, self._model, self._asleep = None, None, True
            empty_caches()

        self._scheduler.pause(drop)

    def statistics(self) -> dict[str, float]:
        """Return the counts as a dictionary."""
        return asdict(self.counts)

    def _wake(self) -> Batch | PlainBatch:
        """Return a batch to run in; called in the thread, at the start and after a sleep."""
        if self._asleep:
            self._load()
            self._asleep = False
            if self._network is not None:
                with self._counting:
                    known = dict(self._adapters)
                for name, adapter in known.items():
                    self._network.add_adapter(name, adapter.layers)
        if self._network is None:
            self._scheduler.limit(Limits(rows=1, tokens=2**62))
            return PlainBatch(self._model, self._eos_ids, self._tokenizer, self.counts)
        shape = self._network.shape
        plan = plan_memory(shape.device, shape.token_bytes, self._cache_bytes)
        rows = 1 if self._alone else self._max_batch
        self._scheduler.limit(Limits(rows=rows, tokens=plan.row_tokens))
        return Batch(
            self._network,
            PrefixTree(limit_bytes=plan.cache_bytes),
            self._eos_ids,
            self._tokenizer,
            self.counts,
            alone=self._alone,
            virtual=self._virtual,
        )


@contextmanager
def restored(network: Network | None) -> Iterator[None]:
    """Have a transformers model as it was, where a network has changed it."""
    if not isinstance(network, GenericNetwork):
        yield
        return
    network.release()
    yield
    network.take()


def _context_window(model: Any) -> int | None:
    """Return the most positions that the configuration names."""
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(window) if window else None


def _ending_tokens(model: Any, tokenizer: Any) -> Iterable[int]:
    """Return the ids that end a completion: those of the model and of the tokenizer."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = set(named if isinstance(named, list | tuple) else [named])
    return {int(i) for i in (*ids, tokenizer.eos_token_id) if i is not None}
