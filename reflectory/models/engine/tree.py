"""Keys and values of token prefixes, kept as a tree and computed once per node.

Prompts of a reflective loop begin alike: with the system text, the documents and
the instruction, and often go on alike for some way (four levels of one question
differ in one word). The tree holds every such beginning once. A node stands for a
run of tokens behind its parent; where two prompts part, the node they shared is
split. (The idea is known as a radix cache: Zheng et al. 2024, "SGLang".)
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

COVER = 128
"""A node also holds a copy of what lies before it, if that is at most so many tokens:
attention to one long run costs less than to a short one and a long one."""

LONGEST = 1024
"""Most tokens of a node, and so of one piece of reading."""

_serial = itertools.count()


class Node:
    """A run of tokens and, once they were read, their keys and values.

    Attributes:
        tokens: Shape (n,).
        start: Position of the first of them in the prompt.
        parent: What lies before them; ``None`` for a root.
        children: What follows, by first token.
        cover: Position of the first token in ``kv``, at most ``start``.
        kv: Per layer, keys and values of the positions from ``cover`` to ``end``,
            shape (2, key-value heads, tokens, width); ``None`` until it is read. What a
            head reads lies together: between two passes it leaves the processor's caches,
            and a run of memory comes back faster than pieces of one token each.
        users: Rows that are running on it or on what follows it.
        used: When it was last asked for, as a count of questions.
    """

    __slots__ = (
        "children",
        "cover",
        "kv",
        "parent",
        "serial",
        "start",
        "tokens",
        "used",
        "users",
    )

    def __init__(self, tokens: NDArray[np.int64], start: int, parent: Node | None) -> None:
        self.tokens = tokens
        self.start = start
        self.parent = parent
        self.children: dict[int, Node] = {}
        self.cover = start
        self.kv: list[torch.Tensor] | None = None
        self.users = 0
        self.used = 0
        self.serial = next(_serial)

    @property
    def end(self) -> int:
        """Position behind the last token."""
        return self.start + len(self.tokens)

    @property
    def nbytes(self) -> int:
        """Size of keys and values in bytes."""
        return 0 if self.kv is None else len(self.kv) * self.kv[0].nbytes

    def ancestry(self) -> list[Node]:
        """Return the nodes from below the root down to this one."""
        path: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            path.append(node)
            node = node.parent
        return path[::-1]

    def runs(self) -> list[Node]:
        """Return the nodes whose keys and values together are those of the whole prefix."""
        found: list[Node] = []
        boundary = self.end
        for node in reversed(self.ancestry()):
            if node.end == boundary:
                found.append(node)
                boundary = node.cover
        return found

    def split(self, count: int) -> Node:
        """Cut the node behind its first ``count`` tokens; return the new upper part."""
        parent = self.parent
        if parent is None or not 0 < count < len(self.tokens):
            raise ValueError(f"cannot split a node of {len(self.tokens)} tokens at {count}")
        upper = Node(self.tokens[:count], self.start, parent)
        upper.users, upper.used = self.users, self.used
        parent.children[int(self.tokens[0])] = upper
        cut = self.start + count
        if self.kv is not None:
            upper.kv = [copied(t[:, :, : cut - self.cover]) for t in self.kv]
            upper.cover = self.cover
            if cut - self.cover > COVER:
                self.kv = [copied(t[:, :, cut - self.cover :]) for t in self.kv]
                self.cover = cut
        elif self.cover == self.start:
            self.cover = cut
        self.tokens, self.start, self.parent = self.tokens[count:], cut, upper
        upper.children[int(self.tokens[0])] = self
        return upper


class PrefixTree:
    """All prefixes of one model, a tree per adapter, the least recently used dropped first.

    Args:
        limit_bytes: Most bytes of keys and values to keep; what rows run on stays.
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._roots: dict[Hashable, Node] = {}
        self._clock = 0

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values that are kept now."""
        return sum(node.nbytes for node in self.nodes())

    def nodes(self) -> Iterator[Node]:
        """Yield every node below the roots."""
        waiting = [child for root in self._roots.values() for child in root.children.values()]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())

    def insert(self, tokens: Sequence[int], adapter: Hashable = "") -> Node:
        """Return the node at the end of some tokens, made where it is not there.

        Args:
            tokens: The beginning of a prompt, at least one token.
            adapter: Which adapter reads them; "" for none. Each has a tree of its own.
        """
        if not len(tokens):
            raise ValueError("a prefix needs a token")
        self._clock += 1
        array = np.asarray(tokens, dtype=np.int64)
        node = self._roots.setdefault(adapter, Node(array[:0], 0, None))
        while node.end < len(array):
            at = node.end
            child = node.children.get(int(array[at]))
            if child is None:
                child = Node(array[at : at + LONGEST], at, node)
                node.children[int(array[at])] = child
            else:
                same = common_length(child.tokens, array[at:])
                if same < len(child.tokens):
                    child = child.split(same)
            child.used = self._clock
            node = child
        return node

    def trim(self) -> None:
        """Drop what was not used for the longest time until the rest is within the limit."""
        size = self.nbytes
        if size <= self.limit_bytes:
            return
        leaves = [n for n in self.nodes() if not n.children and n.users == 0]
        while size > self.limit_bytes and leaves:
            leaf = min(leaves, key=lambda n: (n.used, -n.serial))
            leaves.remove(leaf)
            size -= leaf.nbytes
            parent = self.remove(leaf)
            if parent.parent is not None and not parent.children and parent.users == 0:
                leaves.append(parent)
        self._roots = {name: root for name, root in self._roots.items() if root.children}

    def remove(self, node: Node) -> Node:
        """Take a node and what follows it out of the tree; return its parent."""
        parent = node.parent
        if parent is None:
            raise ValueError("a root cannot be removed")
        if parent.children.get(int(node.tokens[0])) is node:
            del parent.children[int(node.tokens[0])]
        return parent

    def forget(self, adapter: str) -> None:
        """Drop all that an adapter has read; no row of it may run."""
        self._roots = {
            name: root
            for name, root in self._roots.items()
            if name != adapter and not (isinstance(name, tuple) and name[0] == adapter)
        }

    def clear(self) -> None:
        """Forget everything, also what rows are running on."""
        self._roots.clear()


def copied(kv: torch.Tensor) -> torch.Tensor:
    """Return a copy whose numbers lie in the order of its shape."""
    return kv.clone(memory_format=torch.contiguous_format)


def hold(node: Node, change: int) -> None:
    """Add to the users of a node and of all before it."""
    for one in node.ancestry():
        one.users += change


def common_length(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Return how many first elements two arrays have in common."""
    limit = min(len(left), len(right))
    different = np.flatnonzero(left[:limit] != right[:limit])
    return int(different[0]) if len(different) else limit
