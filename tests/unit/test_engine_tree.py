"""The prefix tree: every prefix once, and what is dropped first."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from reflectory.models.engine.tree import Node, PrefixTree, hold

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=10)


def filled(node: Node) -> None:
    for one in node.ancestry():
        if one.kv is None:
            one.kv = [torch.tensor(one.tokens)[None, None, :, None].float()]


@given(PROMPTS)
def test_every_prefix_is_held_once_and_whole(prompts: list[list[int]]) -> None:
    tree = PrefixTree(limit_bytes=2**40)
    ends = []
    for prompt in prompts:
        node = tree.insert(prompt)
        filled(node)
        ends.append(node)
    trie = {tuple(p[: i + 1]) for p in prompts for i in range(len(p))}
    assert sum(len(node.tokens) for node in tree.nodes()) == len(trie)
    for prompt, node in zip(prompts, ends, strict=True):
        # A later split may have cut the node; its end stays where it was.
        runs = [torch.cat([r.kv[0][0, 0, :, 0]]) for r in reversed(node.runs())]
        assert torch.cat(runs).long().tolist() == prompt


@given(PROMPTS, st.integers(0, 30), st.data())
def test_trimming_keeps_what_is_in_use(
    prompts: list[list[int]], limit: int, data: st.DataObject
) -> None:
    tree = PrefixTree(limit_bytes=limit * 4)
    ends = [tree.insert(prompt) for prompt in prompts]
    for node in ends:
        filled(node)
    used = data.draw(st.sampled_from(ends))
    hold(used, 1)
    tree.trim()
    present = set(tree.nodes())
    assert set(used.ancestry()) <= present
    assert tree.nbytes <= max(limit * 4, used.end * 4)
    hold(used, -1)
    assert all(node.users == 0 for node in present)


def test_the_least_recently_used_goes_first() -> None:
    tree = PrefixTree(limit_bytes=2 * 4)
    for prompt in ([1], [2], [1], [3]):
        filled(tree.insert(prompt))
        tree.trim()
    assert {int(node.tokens[0]) for node in tree.nodes()} == {1, 3}
