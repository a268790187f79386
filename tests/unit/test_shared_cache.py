"""A call cache that runs share: nothing is asked again, and each run is whole without it."""

import asyncio
import multiprocessing
import shutil
from collections import Counter
from contextlib import closing
from types import SimpleNamespace

import psutil
import pytest
from typer.testing import CliRunner
from worlds import world_loop

from reflectory.background import BACKGROUND
from reflectory.cli.main import app
from reflectory.cluster import ClusterRunner
from reflectory.config import BudgetConfig, RunConfig
from reflectory.errors import RunDirectoryError, UserError
from reflectory.observability.trace import trace_of
from reflectory.runner import Runner
from reflectory.runs import CallCache, RunView, read_instructions
from reflectory.runs.call_inspection import CallFilter, prune_calls
from reflectory.runs.shared_cache import network_of, open_shared
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = ["What is known?", "What is not?"]


def logged(model, calls):
    async def speak(request):
        calls.append((request.role, request.seed, *(s.text for s in request.segments)))
        return (await model.complete(request)).text

    return ScriptedModel(speak, name=model.fingerprint)


def run(output, shared, asked=ASKED, **limits):
    """Run into a directory and return what the models were asked, and the trajectories."""
    calls = []
    loop = world_loop(
        WORLD,
        teacher=logged(WORLD.teacher(), calls),
        student=logged(WORLD.student(), calls),
        max_iterations=2,
    )
    settings = RunConfig(
        teacher="object",
        student="object",
        embedder="object",
        loop=loop.config,
        cache=str(shared),
        budget=BudgetConfig(**limits),
    )
    stream = Runner(loop, settings=settings).stream(
        read_instructions(asked), concurrency=2, output=output
    )
    found = {t.id: t.to_json() for t in BACKGROUND.iterate(stream)}
    return calls, found


def test_what_one_run_asked_another_does_not(tmp_path):
    shared = tmp_path / "shared"
    first, said = run(tmp_path / "one", shared)
    assert first and set(Counter(first).values()) == {1}
    again, same = run(tmp_path / "two", shared, calls=1)  # a budget counts what was paid for
    assert again == [] and same == said
    totals = RunView.read(tmp_path / "two").manifest.totals
    assert totals.calls == 0 and totals.hits >= len(first)
    assert totals.spent["calls"] == 0
    assert RunView.read(tmp_path / "one").manifest.totals.calls == len(first)
    more, _ = run(tmp_path / "three", shared, asked=[*ASKED, "What else?"])
    assert more and not set(more) & set(first)


def test_a_run_is_whole_without_the_cache_that_lent_it_calls(tmp_path):
    shared = tmp_path / "shared"
    run(tmp_path / "one", shared)
    run(tmp_path / "two", shared)
    shutil.rmtree(shared)
    id_ = next(iter(RunView.read(tmp_path / "two").trajectories)).id
    traced = trace_of(tmp_path / "two", id_)
    assert traced.calls and not traced.lost
    (tmp_path / "two" / "trajectories.jsonl").unlink()
    again, _ = run(tmp_path / "two", "")
    assert again == []


def test_pruned_calls_that_were_lent_are_not_counted_afterwards(tmp_path):
    shared = tmp_path / "shared"
    first, _ = run(tmp_path / "one", shared)
    run(tmp_path / "two", shared)
    for name, made in (("one", len(first)), ("two", 0)):
        with closing(CallCache(tmp_path / name / "calls.sqlite")) as cache:
            assert prune_calls(cache, CallFilter()).calls == len(first)
            assert cache.stats().total.calls == made
            assert sum(t.calls for t in cache.by_model().values()) == made


def test_the_command_shows_and_prunes_a_shared_cache(tmp_path):
    shared = tmp_path / "shared"
    first, _ = run(tmp_path / "one", shared)
    shown = CliRunner().invoke(app, ["cache", str(shared)])
    assert shown.exit_code == 0 and "student.answer" in shown.output
    pruned = CliRunner().invoke(app, ["cache", str(shared), "--older-than", "0s", "--prune"])
    assert pruned.exit_code == 0 and str(len(first)) in pruned.output
    again, _ = run(tmp_path / "two", shared)
    assert len(again) == len(first)


def _work(folder, shared, name):
    run(folder / name, shared, asked=[f"What is known of {n}?" for n in range(6)])


def test_two_processes_use_it_at_once(tmp_path):
    shared = tmp_path / "shared"
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_work, args=(tmp_path, shared, name)) for name in ("a", "b")]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=120)
    assert [process.exitcode for process in both] == [0, 0]
    a, b = ({t.id: t.to_json() for t in RunView.read(tmp_path / n).trajectories} for n in "ab")
    assert a == b and len(a) == 6
    made = [RunView.read(tmp_path / name).manifest.totals.calls for name in "ab"]
    with closing(CallCache(shared / "calls.sqlite")) as cache:
        assert max(made) <= cache.stats().total.calls <= sum(made)


def mounted(monkeypatch, *mounts):
    found = [SimpleNamespace(mountpoint=str(point), fstype=kind) for point, kind in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)


def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    mounted(monkeypatch, ("/", "ext4"), (tmp_path / "far", "nfs4"), (tmp_path / "far/disk", "xfs"))
    with pytest.raises(RunDirectoryError, match="network file system \\(nfs4\\)"):
        run(tmp_path / "one", tmp_path / "far" / "cache")
    assert not (tmp_path / "far/cache/calls.sqlite").exists()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    with pytest.raises(RunDirectoryError, match="nfs4"):
        run(tmp_path / "one", tmp_path / "link" / "cache")
    open_shared(tmp_path / "far" / "disk", tmp_path / "one").close()
    mounted(monkeypatch, ("/", "ext4"), ("/", "nfs"))
    assert network_of(tmp_path) == "nfs"
    mounted(monkeypatch)
    assert network_of(tmp_path) is None


def test_a_run_directory_is_no_shared_cache(tmp_path):
    run(tmp_path / "one", "")
    for output in ("one", "two"):
        with pytest.raises(RunDirectoryError, match="is a run directory"):
            run(tmp_path / output, tmp_path / "one")


def test_the_path_is_that_of_the_file_and_may_differ_when_a_run_goes_on(tmp_path):
    (tmp_path / "config.yaml").write_text("cache: shared\n")
    assert RunConfig.load(tmp_path / "config.yaml").cache == str(tmp_path / "shared")
    run(tmp_path / "one", "")
    assert run(tmp_path / "one", tmp_path / "shared", asked=[*ASKED, "What else?"])[0]


def test_a_cluster_has_none(tmp_path):
    settings = RunConfig(cache=str(tmp_path))
    stream = ClusterRunner(lambda: None, settings=settings).stream([], concurrency=1)
    with pytest.raises(UserError, match="no shared call cache"):
        asyncio.run(anext(stream))
