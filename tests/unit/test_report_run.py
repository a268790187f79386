"""The report of a run: what it says, what it holds, and what it never does."""

import base64
import gzip
import json
import re
import tracemalloc

import pytest
from browsing import ATTACK, assert_balanced
from bs4 import BeautifulSoup
from reports import make_run, some, with_text

from reflectory.cli.main import run_command
from reflectory.errors import IntegrityError, RunDirectoryError, StorageError
from reflectory.report.run import details, write_report
from reflectory.report.run import page as page_module
from reflectory.report.run.datasets import Lengths, dataset_facts
from reflectory.report.run.details import CHUNK, cells_of
from reflectory.report.run.loops import Running, loop_facts
from reflectory.report.run.rounds import check_of
from reflectory.report.terminal import SAME_GRADE
from reflectory.training.dataset import write_dataset
from reflectory.training.rows import Message, Provenance, TrainingRow
from reflectory.types import Trajectory

COUNT = 110  # with one failed loop, number 97, and a chunk that is not full


@pytest.fixture(scope="module")
def loops() -> list[Trajectory]:
    return some(COUNT)


@pytest.fixture(scope="module")
def run(tmp_path_factory, loops):
    return make_run(tmp_path_factory.mktemp("report") / "run", loops)


@pytest.fixture(scope="module")
def written(run):
    return write_report(run)


@pytest.fixture(scope="module")
def page(written) -> BeautifulSoup:
    return page_of(written.path)


@pytest.fixture
def _no_pictures(monkeypatch):
    """Draw nothing, because that takes most of the time, where a test does not look at it."""
    monkeypatch.setattr(page_module, "pictures_of", lambda facts: {})


def page_of(path) -> BeautifulSoup:
    text = path.read_text(encoding="utf-8")
    assert_balanced(text)
    return BeautifulSoup(text, "html.parser")


def entries_of(page: BeautifulSoup) -> list:
    return json.loads(page.find(id="entries").string)


def details_of(page: BeautifulSoup, number: int) -> str:
    packed = page.find(id=f"chunk-{number // CHUNK}").string
    return json.loads(gzip.decompress(base64.b64decode(packed)))[number % CHUNK]


def test_every_trajectory_is_in_the_list_and_can_be_unpacked(page, loops, written):
    entries = entries_of(page)
    assert [e[0] for e in entries] == [t.id for t in loops]
    assert [e[1] for e in entries] == [t.instruction for t in loops]
    for number in (0, CHUNK - 1, CHUNK, COUNT - 1):
        shown = BeautifulSoup(details_of(page, number), "html.parser")
        assert loops[number].instruction in shown.get_text()
    assert page.find(id=f"chunk-{COUNT // CHUNK}") is not None
    assert page.find(id=f"chunk-{COUNT // CHUNK + 1}") is None
    assert written.size == written.path.stat().st_size > written.details_size > 0


def test_an_entry_says_what_the_trajectory_says(page, loops):
    about = json.loads(page.find(id="about").string)
    for entry, known in zip(entries_of(page), loops, strict=True):
        assert entry[3] == (known.status == "failed")
        assert entry[6] == [round(g, 3) for g in known.grades]
        assert entry[12] == cells_of(known.alignment)
        assert about["levels"][entry[10]] == list(known.levels)
        if known.stop is not None:
            assert about["rules"][entry[4]] == known.stop.rule and entry[5] == known.stop.iterations
        marked = {flag for bit, flag in enumerate(about["flags"]) if entry[9] & (1 << bit)}
        assert marked == set(known.flags)


def test_the_means_are_those_of_the_loops(written, loops):
    (_, facts), *others = written.facts.parts
    assert not others and facts.loops == COUNT
    assert facts.failed == sum(t.status == "failed" for t in loops) == 1
    for t, spread in enumerate(facts.grades):
        values = [loop.grades[t] for loop in loops if len(loop.grades) > t]
        assert spread.count == len(values)
        assert spread.mean == pytest.approx(sum(values) / len(values))
    graded = [t for t in loops if len(t.grades) > 1]
    risen = [t for t in graded if t.grades[t.chosen] - t.grades[0] >= SAME_GRADE]
    assert facts.risen == len(risen)
    assert facts.converged == sum(t.stop.converged for t in loops if t.stop)
    assert sum(sum(by.values()) for by in facts.matrices.stops.values()) == COUNT


def test_a_failed_loop_is_listed_with_its_hint(page):
    failures = page.find(id="failures").parent
    assert "gave no answer" in failures.get_text()
    assert "What helps: start it again" in failures.get_text()
    assert failures.find("a", href="#trajectory-97") is not None


def test_it_needs_no_network_and_no_foreign_script(page):
    for tag in page.find_all(True):
        for name in ("src", "href", "xlink:href", "action", "poster", "data"):
            value = tag.get(name, "")
            assert not value or value.startswith("#"), (tag.name, name, value)
    style = page.style.get_text()
    assert "url(" not in style and "@import" not in style
    policy = page.find("meta", attrs={"http-equiv": True})["content"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    scripts = [tag for tag in page.find_all("script") if tag.get("type") is None]
    assert len(scripts) == 1


def test_tables_can_be_read_aloud(page):
    assert len(page.find_all("table")) > 10
    for table in page.find_all("table"):
        assert table.caption is not None and table.caption.get_text(strip=True)
        assert all(th.get("scope") in ("col", "row") for th in table.find_all("th"))
    for field in page.select("input, select"):
        assert field.find_parent("label") is not None
    ids = [tag["id"] for tag in page.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_bytes(run, written, tmp_path):
    again = write_report(run, tmp_path / "again.html")
    assert again.path.read_bytes() == written.path.read_bytes()


def test_an_empty_run(tmp_path):
    written = write_report(make_run(tmp_path / "run"))
    page = page_of(written.path)
    assert written.facts.loops == 0
    assert "No trajectory has been finished yet." in page.get_text()
    assert page.find(id="controls") is None


@pytest.mark.usefixtures("_no_pictures")
def test_only_failed_loops(tmp_path, loops):
    written = write_report(make_run(tmp_path / "run", [loops[96]]))
    assert written.facts.failed == 1
    assert "0 loops are done, 1 failed." in page_of(written.path).get_text()


@pytest.mark.usefixtures("_no_pictures")
def test_hostile_texts_stay_texts(tmp_path, loops):
    hostile = [with_text(t, ATTACK) for t in (loops[0], loops[1], loops[96])]
    page = page_of(write_report(make_run(tmp_path / "run", hostile, name=ATTACK)).path)
    assert not page.find_all("img")
    assert sum(tag.get("type") is None for tag in page.find_all("script")) == 1
    for number in range(3):
        shown = BeautifulSoup(details_of(page, number), "html.parser")
        assert not shown.find_all(["script", "img"])
        assert ATTACK in shown.get_text()
    assert entries_of(page)[0][1] == ATTACK
    assert ATTACK in page.get_text()


@pytest.mark.usefixtures("_no_pictures")
def test_texts_that_no_file_can_hold_and_ends_of_scripts(tmp_path, loops):
    text = "</script><!--entries--><!--chunks--><!-- \u2028 {{ 7 * 7 }} \U0001f600 \x00"
    written = write_report(make_run(tmp_path / "run", [with_text(loops[0], text)]))
    page = page_of(written.path)
    assert entries_of(page)[0][1] == text
    assert "{{ 7 * 7 }}" in details_of(page, 0)


@pytest.mark.usefixtures("_no_pictures")
def test_a_half_written_last_line_is_left_out(tmp_path, loops):
    run = make_run(tmp_path / "run", loops[:3])
    file = run / "trajectories.jsonl"
    file.write_bytes(file.read_bytes() + loops[3].to_json().encode()[:500])
    before = file.read_bytes()
    assert write_report(run).facts.loops == 3
    assert file.read_bytes() == before, "a report changes nothing of the run"


@pytest.mark.usefixtures("_no_pictures")
def test_a_damaged_line_in_the_middle_is_an_error(tmp_path, loops):
    run = make_run(tmp_path / "run", loops[:3])
    file = run / "trajectories.jsonl"
    first, second, third = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second[:100] + b"\n" + third)
    with pytest.raises(IntegrityError, match="line 2"):
        write_report(run)
    assert not (run / "report.html").exists()
    assert not list(run.glob(".report*"))


@pytest.mark.usefixtures("_no_pictures")
def test_loops_with_other_levels_are_said(tmp_path, loops):
    data = json.loads(loops[1].to_json())
    data["levels"] = ["one", "two"]
    data["examinations"] = []
    other = Trajectory.model_validate(data)
    written = write_report(make_run(tmp_path / "run", [loops[0], other]))
    assert "1 loop with other levels" in page_of(written.path).get_text()


@pytest.mark.usefixtures("_no_pictures")
def test_huge_texts_are_cut_in_the_list_only(tmp_path, loops):
    long = "a" * 200_000 + " b" * 1_000
    page = page_of(write_report(make_run(tmp_path / "run", [with_text(loops[0], long)])).path)
    assert len(entries_of(page)[0][1]) == 400
    assert "a" * 200_000 in details_of(page, 0)


def test_memory_does_not_grow_with_the_trajectories(tmp_path, loops, monkeypatch):
    monkeypatch.setattr(details, "trajectory_html", lambda found, heading: "text " * 4_000)

    def peak(count: int) -> int:
        with details.Details(tmp_path) as kept:
            tracemalloc.start()
            for _ in range(count):
                kept.add(loops[0])
            for _ in (*kept.entries(), *kept.chunks()):
                pass
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return most

    # The texts of 200 are 4 MB and of 1,000 are 20 MB; the entries of the latter are 0.4 MB.
    assert peak(1_000) < peak(200) + 1_500_000


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunDirectoryError, match="no run directory"):
        write_report(tmp_path)
    with pytest.raises(RunDirectoryError, match="no folder"):
        write_report(tmp_path / "nowhere")


def test_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_report(run, tmp_path / "file" / "page.html")


# The command


@pytest.mark.usefixtures("_no_pictures")
def test_the_command_prints_figures(run, tmp_path, capsys):
    target = tmp_path / "deep" / "page.html"
    assert run_command(["report", str(run), "-o", str(target), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["loops"] == COUNT and said["failed"] == 1
    assert said["bytes"] == target.stat().st_size
    assert set(said["parts"][0]["alignment"]) == {"basic", "intermediate", "advanced", "expert"}


@pytest.mark.usefixtures("_no_pictures")
def test_the_command_says_it_to_people(run, tmp_path, capsys):
    target = tmp_path / "page.html"
    assert run_command(["report", str(run), "-o", str(target)]) == 0
    said = capsys.readouterr().out
    assert "109 loops are done, 1 failed." in said and str(target) in said


def test_the_command_refuses_other_folders(tmp_path, capsys):
    assert run_command(["report", str(tmp_path)]) == 2
    assert "no manifest.json" in capsys.readouterr().err


# The parts


def row(question: str, answer: str, level: str | None, score: float) -> TrainingRow:
    return TrainingRow(
        prompt=(Message(role="user", content=question),),
        completion=(Message(role="assistant", content=answer),),
        provenance=Provenance(trajectory="t", level=level, score=score, round=1),
    )


def test_statistics_of_a_data_set(tmp_path):
    rows = [row(f"q {n}", "word " * (n + 1), "basic" if n % 2 else None, n / 10) for n in range(10)]
    write_dataset(tmp_path / "dataset", rows)
    facts = dataset_facts(tmp_path / "dataset", "dataset")
    assert facts.levels == {"response": 5, "basic": 5}
    assert facts.lengths["completion"].counts == {n + 1: 1 for n in range(10)}
    assert facts.lengths["completion"].quantiles == (1, 1, 5, 9, 10)
    assert facts.rounds == {1: 10} and facts.scores == dict.fromkeys(range(10), 1)
    assert dataset_facts(tmp_path / "none", "none") is None


def test_edited_rows_are_a_problem_and_no_error(tmp_path):
    write_dataset(tmp_path / "dataset", [row("q", "a", None, 0.5)])
    file = tmp_path / "dataset" / "train.jsonl"
    file.write_text(file.read_text().replace('"a"', '"b"'))
    facts = dataset_facts(tmp_path / "dataset", "dataset")
    assert "was changed" in facts.problem and facts.manifest.rows == 1


def test_lengths_without_texts():
    assert Lengths({}).quantiles == ()
    assert Lengths({3: 1}).quantiles == (3, 3, 3, 3, 3)


def test_a_damaged_check_names_its_file(tmp_path):
    file = tmp_path / "evaluation.json"
    assert check_of(file) is None
    for text in ("{", '{"answers": []}', "[]", '{"questions": 1}'):
        file.write_text(text)
        with pytest.raises(IntegrityError, match=re.escape(str(file))):
            check_of(file)


def test_running_mean_and_spread():
    running = Running()
    assert running.spread() is None
    for value in (1.0, 2.0, 4.0):
        running.add(value)
    spread = running.spread()
    assert spread.mean == pytest.approx(7 / 3)
    assert spread.deviation == pytest.approx((14 / 9) ** 0.5)


def test_no_loops_at_all():
    facts = loop_facts([])
    assert facts.loops == 0 and facts.first is None and facts.grades == ()
