"""Which waiting calls run next."""

from engines import request
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.models.engine.selection import Limits, choose, own_tokens
from reflectory.models.engine.work import CompletionRow, Job

SIZES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 2)), min_size=1, max_size=12)


@given(SIZES, st.integers(1, 8), st.integers(50, 600))
@settings(max_examples=60, deadline=None)
def test_selection_keeps_its_limits_and_never_starves(
    sizes: list[tuple[int, int]], rows: int, tokens: int
) -> None:
    job = Job(request("x"))
    waiting = [
        CompletionRow(job=job, tokens=(kind,) * (size + 1), prefix_length=size, room=10)
        for size, kind in sizes
    ]
    chosen = choose(waiting, [], Limits(rows=rows, tokens=tokens), rows)
    assert chosen and chosen[0] is waiting[0]
    assert len(chosen) <= rows
    if len(chosen) > 1:
        held = sum(map(own_tokens, chosen)) + sum(map(len, {row.prefix for row in chosen}))
        assert held <= tokens
