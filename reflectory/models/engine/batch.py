"""Rows that are written token by token, and texts that are scored, on packed passes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch

from reflectory.models.engine.layout import Piece, Seat
from reflectory.models.engine.network import Network, VirtualTokens
from reflectory.models.engine.passes import Pass
from reflectory.models.engine.sampling import draw_tokens
from reflectory.models.engine.scoring import RememberedScores, logprobs_of
from reflectory.models.engine.store import RowStore
from reflectory.models.engine.tree import LONGEST, Node, PrefixTree, copied, hold
from reflectory.models.engine.virtual import virtual_ids
from reflectory.models.engine.work import CompletionRow, Counts, Row, ScoreRow

OWN = 192
"""A prompt's own end of at most so many tokens is copied beside what the row writes:
one product for all rows costs less than one for each."""

READ_TOKENS = 1024
"""Prompt tokens that are read in one pass, at least one piece."""

SCORED_TOKENS = 1024
"""Tokens whose logits over the whole vocabulary are held at once."""


class Batch:
    """The rows of one network that run now.

    Args:
        network: The model.
        tree: Prefixes that were read.
        eos_ids: Tokens that end a completion.
        tokenizer: Decodes, to find stop strings.
        counts: Where tokens and time are counted.
        alone: Compute every row by itself, with passes that depend on it only.
        virtual: What adapters put before a prompt, by name.
    """

    def __init__(
        self,
        network: Network,
        tree: PrefixTree,
        eos_ids: Iterable[int],
        tokenizer: Any,
        counts: Counts,
        *,
        alone: bool = False,
        virtual: Mapping[str, VirtualTokens] | None = None,
    ) -> None:
        self._network = network
        self._virtual = {} if virtual is None else virtual
        self._virtual_kv: dict[str, list[torch.Tensor]] = {}
        self._tree = tree
        self._eos_ids = frozenset(eos_ids)
        self._tokenizer = tokenizer
        self._counts = counts
        self._alone = alone
        self._device = network.shape.device
        self._store = RowStore(network.shape)
        self._pass = Pass(network, self._store)
        self._scores = RememberedScores()
        self.rows: list[CompletionRow] = []
        self._ended: list[CompletionRow] = []
        self._seats: list[Seat] = []
        self._held: dict[int, Node] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the rows' own keys and values."""
        return self._store.nbytes

    def start(self, rows: Sequence[CompletionRow]) -> None:
        """Read the prompts of new rows, all but the last token of each, and seat them."""
        nodes = [self._prefix(row, row.tokens[:-1]) for row in rows]
        try:
            self._read(rows, nodes, ())
        except BaseException:
            for row in rows:
                self._release(row)
            raise
        for row, node in zip(rows, nodes, strict=True):
            self._sit(row, node)
        self._pass.seat(self._seats)
        self._tree.trim()
        self._counts.prefilled += len(rows)  # the last tokens, read with the first step

    def step(self) -> None:
        """Write one more token to every row; rows that end stay until :meth:`sweep`."""
        logits, _ = self._pass.run(*self._next())
        self._counts.passes += 1
        self._accept(logits)

    def score(self, rows: Sequence[ScoreRow]) -> None:
        """Set the log-likelihoods of some rows; the running rows go on meanwhile."""
        unknown: dict[tuple[str, bytes], list[ScoreRow]] = {}
        for row in rows:
            known = self._scores.get(row)
            if known is None:
                unknown.setdefault(row.name, []).append(row)
            else:
                row.know(known)
        if unknown:
            self._score([alike[0] for alike in unknown.values()])
        for first, *others in unknown.values():
            self._scores.add(first)
            for row in others:
                row.know(first.logprobs or ())
        self._counts.remembered += len(rows) - len(unknown)

    def _score(self, rows: Sequence[ScoreRow]) -> None:
        counts = [len(row.targets) for row in rows]
        nodes = [
            self._prefix(row, row.tokens[: len(row.tokens) - count])
            for row, count in zip(rows, counts, strict=True)
        ]
        try:
            pieces = [
                Piece(
                    tokens=row.tokens[len(row.tokens) - count :],
                    start=len(row.tokens) - count,
                    parent=node,
                    keep=True,
                    adapter=row.adapter,
                )
                for row, count, node in zip(rows, counts, nodes, strict=True)
            ]
            self._read(rows, nodes, pieces)
        finally:
            for row in rows:
                self._release(row)
            self._tree.trim()

    def sweep(self) -> list[CompletionRow]:
        """Take out the rows that have ended and return all since the last time."""
        self._retire()
        ended, self._ended = self._ended, []
        return ended

    def _retire(self) -> None:
        """Give the places of rows that have ended back, so that they grow no more."""
        ended = [row for row in self.rows if row.finish]
        self._ended += ended
        for row in ended:
            slot = self.rows.index(row)
            moved = self._store.remove(slot)
            self.rows[slot], self._seats[slot] = self.rows[moved], self._seats[moved]
            self._seats[slot].slot = slot
            self.rows.pop()
            self._seats.pop()
            self._release(row)
        if ended:
            self._tree.trim()
            self._pass.seat(self._seats)

    def clear(self) -> None:
        """Give up all rows, as after a pass that failed."""
        for node in self._held.values():
            hold(node, -1)
        self._held.clear()
        self.rows, self._seats = [], []
        self._store.clear()
        self._pass.seat([])

    def forget(self) -> None:
        """Drop all kept prefixes, as when the memory is needed; no row may run."""
        self._tree.clear()

    def forget_adapter(self, name: str) -> None:
        """Drop all that an adapter has read; no row of it may run."""
        self._tree.forget(name)
        self._scores.forget(name)
        self._virtual_kv.pop(name, None)

    def _prefix(self, row: Row, tokens: Sequence[int]) -> Node | None:
        """Return the node for some first tokens, made where it is not there, and hold it."""
        if not tokens:
            return None
        node = (
            self._prefix_alone(row, tokens)
            if self._alone
            else self._begun(row, row.adapter, tokens)
        )
        hold(node, 1)
        self._held[id(row)] = node
        return node

    def _prefix_alone(self, row: Row, tokens: Sequence[int]) -> Node:
        """Return a node whose numbers depend on this prompt only.

        The shared beginning has a tree of its own, so that no other prompt splits
        it; what follows is in no tree.
        """
        shared = tokens[: min(row.prefix_length, len(tokens))]
        node = Node(_NO_TOKENS, 0, None)
        if len(shared):
            node = self._begun(row, (row.adapter, tuple(shared)), shared)
        while node.end < len(tokens):
            rest = tokens[node.end : node.end + LONGEST]
            node = Node(torch.tensor(rest).numpy(), node.end, node)
        return node

    def _begun(self, row: Row, tree: Hashable, tokens: Sequence[int]) -> Node:
        """Return the node for some first tokens; the virtual ones among them are known."""
        if row.virtual:
            count = row.virtual
            for node in self._tree.insert(virtual_ids(count), tree).ancestry():
                if node.kv is None:
                    if row.adapter not in self._virtual_kv:
                        known = self._network.virtual_kv(self._virtual[row.adapter])
                        self._virtual_kv[row.adapter] = known
                    layers = self._virtual_kv[row.adapter]
                    own = slice(node.start, node.end)
                    node.kv = [copied(kv[own].permute(1, 2, 0, 3)) for kv in layers]
        return self._tree.insert(tokens, tree)

    def _read(
        self, rows: Sequence[Row], nodes: Sequence[Node | None], last: Sequence[Piece]
    ) -> None:
        """Read every node that was never read, then the last pieces, as few at a time as fit."""
        unread: dict[int, Piece] = {}
        for row, node in zip(rows, nodes, strict=True):
            row.reused = 0 if node is None else node.end
            for one in () if node is None else node.ancestry():
                if one.kv is None and id(one) not in unread:
                    row.reused -= len(one.tokens)
                    unread[id(one)] = Piece(
                        one.tokens.tolist(), one.start, one.parent, one, adapter=row.adapter
                    )
        waiting = sorted(unread.values(), key=lambda piece: piece.order)
        self._pass.seat(self._seats)  # New prompts may have split what rows stand on.
        self._counts.prefilled += sum(len(piece.tokens) for piece in (*waiting, *last))
        while waiting:
            group = _first_pieces(waiting, 1 if self._alone else READ_TOKENS)
            waiting = waiting[len(group) :]
            self._run_with_rows(group)
        scored = [row for row in rows if isinstance(row, ScoreRow)]
        while scored:
            group = _first_pieces(last, 1 if self._alone else SCORED_TOKENS)
            for row, logits in zip(scored, self._run_with_rows(group), strict=False):
                row.logprobs = logprobs_of(logits, row.targets)
            scored, last = scored[len(group) :], last[len(group) :]

    def _run_with_rows(self, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        """Read pieces; the running rows come along, for that costs them little."""
        live = self.rows and not self._alone
        tokens, places = self._next() if live else ([], [])
        logits, kept = self._pass.run(tokens, places, pieces)
        self._counts.passes += 1
        if live:
            self._accept(logits)
            self._retire()
        return kept

    def _sit(self, row: CompletionRow, node: Node | None) -> None:
        anchor, beginning, length = node, None, 0
        if node is not None and _is_own(node):
            beginning, length = node.kv, node.end - node.cover
            anchor = next(iter(node.runs()[1:]), None)
        slot = self._store.add(length + row.room + 1, beginning)
        self.rows.append(row)
        self._seats.append(Seat(slot, anchor, row.adapter))

    def _next(self) -> tuple[list[int], list[int]]:
        """Return the next token to read and its position, by slot."""
        tokens = [row.generated[-1] if row.generated else row.tokens[-1] for row in self.rows]
        places = [len(row.tokens) - 1 + len(row.generated) for row in self.rows]
        return tokens, places

    def _accept(self, logits: torch.Tensor) -> None:
        """Draw a token for every row that has not ended."""
        live = [i for i, row in enumerate(self.rows) if not row.finish]
        chosen = [self.rows[i] for i in live]
        drawn = draw_tokens(
            logits if len(live) == len(self.rows) else logits[live],
            [row.sampling for row in chosen],
            [row.generated for row in chosen],
            [row.generator for row in chosen],
        )
        self._counts.decoded += len(chosen)
        self._counts.near_ties += drawn.near_ties
        for row, token in zip(chosen, drawn.tokens, strict=True):
            row.accept(token, self._eos_ids, self._tokenizer)

    def _release(self, row: Row) -> None:
        node = self._held.pop(id(row), None)
        if node is not None:
            hold(node, -1)


_NO_TOKENS = torch.empty(0, dtype=torch.long).numpy()


def _is_own(node: Node) -> bool:
    """Return whether a node is worth copying to the row that stands on it."""
    return node.users == 1 and not node.children and node.end - node.cover <= OWN


def _first_pieces(pieces: Sequence[Piece], budget: int) -> list[Piece]:
    """Return the first pieces that are within a budget of tokens, at least one."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if group and size + len(piece.tokens) > budget:
            break
        group.append(piece)
        size += len(piece.tokens)
    return group
