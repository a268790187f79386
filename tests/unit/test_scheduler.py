"""Many loops at once: bounded, lazy, and nothing left running; reading instructions."""

import asyncio
import json
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.runs import read_instructions, run_many


class Workshop:
    """A worker that counts who is at work, and takes as long as it is told."""

    def __init__(self, seconds=lambda item: 0.0):
        self.seconds = seconds
        self.at_work = 0
        self.most = 0
        self.started = []
        self.cancelled = []

    async def __call__(self, item):
        self.started.append(item)
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await asyncio.sleep(self.seconds(item))
            return item
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.at_work -= 1


async def collect(items, worker, concurrency):
    return [result async for result in run_many(items, worker, concurrency=concurrency)]


def only_this_task():
    return asyncio.all_tasks() == {asyncio.current_task()}


@settings(max_examples=40, deadline=None)
@given(
    delays=st.lists(st.integers(min_value=0, max_value=3), max_size=25),
    concurrency=st.integers(min_value=1, max_value=8),
)
def test_every_item_once_and_never_more_than_asked(delays, concurrency):
    async def main():
        workshop = Workshop(lambda item: delays[item] / 2000)
        results = await collect(range(len(delays)), workshop, concurrency)
        assert sorted(results) == list(range(len(delays)))
        assert workshop.started == list(range(len(delays)))
        assert workshop.most <= concurrency
        assert only_this_task()

    asyncio.run(main())


def test_all_places_are_used():
    async def main():
        workshop = Workshop(lambda item: 0.002 if item % 3 else 0.01)
        await collect(range(40), workshop, 8)
        assert workshop.most == 8

    asyncio.run(main())


def test_all_places_stay_used_after_the_first_results():
    async def main():
        both = asyncio.Event()
        working = []

        async def worker(item):
            working.append(item)
            if item == 0:
                return item
            if len(working) == 3:  # 1 and 2 are at work together
                both.set()
            await asyncio.wait_for(both.wait(), 5)
            return item

        assert sorted(await collect(range(3), worker, 2)) == [0, 1, 2]

    asyncio.run(main())


def test_results_come_in_the_order_of_completion():
    async def main():
        delays = {"slow": 0.05, "fast": 0.0, "middle": 0.02}
        assert await collect(delays, Workshop(delays.get), 3) == ["fast", "middle", "slow"]

    asyncio.run(main())


def test_the_input_is_read_only_as_far_as_there_is_room():
    async def main():
        read = 0

        def endless():
            nonlocal read
            while True:
                read += 1
                yield read

        taken = 0
        async with aclosing(run_many(endless(), Workshop(), concurrency=4)) as results:
            async for _ in results:
                taken += 1
                await asyncio.sleep(0.001)  # a slow reader
                assert read <= taken + 4
                if taken == 50:
                    break
        assert only_this_task()

    asyncio.run(main())


def test_a_slow_source_does_not_hold_back_results():
    async def main():
        released = asyncio.Event()

        async def source():
            yield "first"
            await asyncio.wait_for(released.wait(), 5)
            yield "second"

        async with aclosing(run_many(source(), Workshop(), concurrency=4)) as results:
            assert await anext(results) == "first"  # while the source waits for us
            released.set()
            assert await anext(results) == "second"
            with pytest.raises(StopAsyncIteration):
                await anext(results)

    asyncio.run(main())


def test_nothing_in_gives_nothing_out():
    assert asyncio.run(collect([], Workshop(), 3)) == []


def test_leaving_early_cancels_what_runs_and_waits_for_it():
    async def main():
        workshop = Workshop(lambda item: 0 if item == 0 else 60)
        async with aclosing(run_many(range(100), workshop, concurrency=5)) as results:
            assert await anext(results) == 0
            await asyncio.sleep(0)
        assert workshop.at_work == 0
        assert sorted(workshop.cancelled) == sorted(set(workshop.started) - {0})
        assert only_this_task()

    asyncio.run(main())


def test_cancelling_the_reader_cancels_what_runs():
    async def main():
        workshop = Workshop(lambda item: 60)
        reader = asyncio.create_task(collect(range(100), workshop, 5))
        await asyncio.sleep(0.02)
        assert workshop.at_work == 5
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert workshop.at_work == 0 and len(workshop.cancelled) == 5
        assert only_this_task()

    asyncio.run(main())


def test_an_exception_comes_after_the_others_are_cancelled():
    async def main():
        workshop = Workshop(lambda item: 60)
        seen = []

        async def worker(item):
            if item == "good":
                return item
            if item == "bad":
                raise RuntimeError("broken worker")
            return await workshop(item)

        with pytest.raises(RuntimeError, match="broken worker"):
            async for result in run_many(["x", "y", "good", "bad"], worker, concurrency=4):
                seen.append(result)
        assert seen == ["good"]
        assert workshop.at_work == 0 and sorted(workshop.cancelled) == ["x", "y"]
        assert only_this_task()

    asyncio.run(main())


def test_an_exception_of_the_source_ends_everything_too():
    async def main():
        workshop = Workshop(lambda item: 60)

        def source():
            yield 1
            yield 2
            raise UserError("line 3 is broken")

        with pytest.raises(UserError, match="line 3"):
            await collect(source(), workshop, 8)
        assert sorted(workshop.cancelled) == sorted(workshop.started)
        assert only_this_task()

    asyncio.run(main())


def test_results_that_are_there_are_not_lost_when_another_fails():
    async def main():
        gate = asyncio.Event()
        seen = []

        async def worker(item):
            await gate.wait()
            if item == 0:
                raise RuntimeError("broken worker")
            return item

        async def read():
            async for result in run_many(range(3), worker, concurrency=3):
                seen.append(result)

        reader = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        gate.set()  # all three end in the same turn of the event loop
        with pytest.raises(RuntimeError):
            await reader
        assert seen == [1, 2]

    asyncio.run(main())


def test_no_room_at_all_is_refused_at_once():
    with pytest.raises(UserError, match="at least 1, got 0"):
        run_many([], Workshop(), concurrency=0)


# --- instructions --------------------------------------------------------------------------


def read(source):
    return list(read_instructions(source))


def test_a_list_of_texts():
    first, second = read([" Explain this. ", "Explain that."])
    assert (first.text, second.text) == ("Explain this.", "Explain that.")
    assert first.id.startswith("000000-") and second.id.startswith("000001-")
    assert len(first.id) == 15 and first.reference is None
    assert read(iter(["Explain this."]))[0] == first


def test_ids_are_those_of_text_and_place():
    ids = [i.id for i in read(["same", "same", "other"])]
    assert len(set(ids)) == 3
    assert [i.id for i in read(["same", "same", "other", "one more"])][:3] == ids


def test_a_text_file_skips_blank_lines_and_comments(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"\xef\xbb\xbf# a comment\n\nFirst \xc3\xa9?\r\n   \n  # another\nSecond")
    assert [i.text for i in read(path)] == ["First é?", "Second"]
    assert read(str(path)) == read(path)


def test_json_lines_keep_the_reference_apart(tmp_path):
    path = tmp_path / "in.jsonl"
    rows = [
        {"instruction": "A", "id": "a", "reference": "42", "source": "mine"},
        {"question": "B", "answer": 7},
        {"instruction": "C", "id": 12},
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    first, second, third = read(path)
    assert (first.id, first.text, first.reference) == ("a", "A", "42")
    assert first.metadata == {"source": "mine"}
    assert first.annotations() == {"source": "mine", "reference": "42"}
    assert (second.text, second.reference, second.metadata) == ("B", "7", {})
    assert (third.id, third.reference, third.annotations()) == ("12", None, {})
    path.rename(tmp_path / "in.txt")  # told by its first line
    assert read(tmp_path / "in.txt") == [first, second, third]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"instruction": "A"}\n{"instruction": "B"\n', "line 2: not JSON"),
        ('{"instruction": "A"}\n\n{"instruction": "  "}\n', "line 3: the instruction is empty"),
        ('{"instruction": 5}\n', "line 1: the instruction is 5"),
        ('{"instruction": null}\n', "line 1: the instruction is null"),
        ('{"text": "A"}\n', "line 1: there is no field 'instruction'"),
        ('{"instruction": "A"}\n[1]\n', "line 2: not a JSON object"),
        (
            '{"instruction": "A", "id": "x"}\n{"instruction": "B", "id": "x"}\n',
            "line 2: the id 'x' was used before, by .*line 1",
        ),
        ('{"instruction": "A", "id": ["x"]}\n', "line 1: the id is no name"),
        ('{"instruction": "A", "id": " "}\n', "line 1: the id is no name"),
        ('{"instruction": "A", "answer": ["x"]}\n', "line 1: the reference answer"),
        ('{"instruction": "A", "answer": "x", "reference": "y"}\n', "line 1: both"),
        ("", "has no instructions"),
        ("# only\n\n# comments\n", "has no instructions"),
        ("text\0with a zero\n", "line 1: this is no text file"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_given_out(tmp_path, content, message):
    path = tmp_path / "in.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_instructions(path)
    assert str(path) in str(caught.value) and caught.value.hint


def test_a_mistake_in_the_last_line_shows_at_once(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"instruction": "A", "n": 1}\n' * 500 + "broken\n")
    with pytest.raises(UserError, match="line 501"):
        read_instructions(path)
    with pytest.raises(UserError, match="instruction 1"):
        read_instructions(["fine", ""])
    lazy = read_instructions(iter(["fine", ""]))
    assert next(lazy).text == "fine"
    with pytest.raises(UserError, match="instruction 1"):
        next(lazy)


@pytest.mark.parametrize("source", [[], iter([])])
def test_nothing_at_all_is_refused(source):
    with pytest.raises(UserError, match="no instructions"):
        read(source)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*missing\.txt"):
        read_instructions(tmp_path / "missing.txt")
    with pytest.raises(UserError, match="cannot read"):
        read_instructions(tmp_path)
    with pytest.raises(UserError, match="cannot read"):
        read_instructions("Explain why this is no path. " * 50)
    binary = tmp_path / "image.png"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(UserError, match="no text file"):
        read_instructions(binary)
    whole = tmp_path / "all.json"
    whole.write_text('[{"instruction": "A"}]')
    with pytest.raises(UserError, match="JSON Lines"):
        read_instructions(whole)
