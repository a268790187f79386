"""Places: never more holders than places, no place lost, first come first served."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.models.slots import Slots

CALLS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.none() | st.integers(0, 6)), max_size=12
)
"""When a call is made, how long it holds its place, and when it is cancelled, in turns."""


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def play(slots, calls):
    """Make the calls; return the most holders at once and how many calls ended unharmed."""
    now = most = 0

    async def call(start, length):
        nonlocal now, most
        await turns(start)
        async with slots:
            now += 1
            most = max(most, now)
            try:
                await turns(length)
            finally:
                now -= 1

    async def cancel(task, when):
        await turns(when)
        task.cancel()

    tasks = [asyncio.create_task(call(start, length)) for start, length, _ in calls]
    cancels = [
        asyncio.create_task(cancel(task, when))
        for task, (*_, when) in zip(tasks, calls, strict=True)
        if when is not None
    ]
    await turns(500)  # many more than all calls one after the other can take
    assert all(task.done() for task in (*tasks, *cancels)), "a place was lost"
    assert now == 0
    return most, sum(not task.cancelled() for task in tasks)


@given(count=st.integers(1, 3), calls=CALLS)
def test_bound_holds_and_no_place_is_lost(count, calls):
    slots = Slots(count)
    most, ended = asyncio.run(play(slots, calls))
    assert most <= count
    assert ended >= sum(when is None for *_, when in calls)
    # Afterwards every place can be had at once again, also on another loop.
    everybody = [(0, 5, None)] * (count + 2)
    assert asyncio.run(play(slots, everybody)) == (count, count + 2)


def test_first_come_first_served():
    order = []

    async def call(slots, name):
        async with slots:
            order.append(name)
            await turns(2)

    async def main():
        slots = Slots(1)
        await asyncio.gather(*[call(slots, name) for name in "abcd"])

    asyncio.run(main())
    assert order == list("abcd")


def test_a_call_that_waits_on_a_loop_that_was_closed_is_passed_over():
    slots = Slots(1)

    async def wait():
        async with slots:
            pytest.fail("it never comes to this")

    async def main():
        async with slots:
            abandoned = asyncio.new_event_loop()
            task = abandoned.create_task(wait())
            # One turn of the other loop, in another thread, and then its end.
            abandoned.call_soon(abandoned.stop)
            await asyncio.to_thread(abandoned.run_forever)
            abandoned.close()
            task._log_destroy_pending = False
        async with slots:
            return "free"

    assert asyncio.run(main()) == "free"
