"""Logs as JSON Lines: the place of each line, and no keys."""

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import world_loop

from reflectory.errors import BackendError, StorageError
from reflectory.observability import in_run, observing
from reflectory.observability.logs import JsonFormatter, json_log
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(message, *values, **extra):
    found = logging.LogRecord("reflectory.x", logging.INFO, "x.py", 1, message, values, None)
    for name, value in extra.items():
        setattr(found, name, value)
    return found


def test_every_call_and_node_is_a_line_with_its_place(tmp_path):
    loop = world_loop(WORLD, max_iterations=1)
    with json_log(tmp_path / "logs/run.jsonl"):
        done = list(loop.map(["Why?", "How?"], concurrency=2, output=tmp_path / "run"))
    found = lines(tmp_path / "logs/run.jsonl")
    assert {line["loop"] for line in found if "loop" in line} == {t.id for t in done}
    calls = [line for line in found if line["message"] == "call finished"]
    answers = [line for line in calls if line["role"] == "student.answer"]
    assert len(answers) == 4
    assert {(line["step"], line["iteration"], line["level"]) for line in answers} == {
        ("answer", 0, "level 1"),
        ("answer", 0, "level 2"),
    }
    for line in answers:
        assert line["run"] == "run" and line["severity"] == "DEBUG"
        assert line["prompt_tokens"] > 0 and line["finish"] == "stop" and line["seconds"] >= 0
    # Both loops ask the same questions, so each answer is given once and read again.
    assert sorted(line["cached"] for line in answers) == [False, False, True, True]
    messages = [line["message"] for line in found if line.get("loop") == done[0].id]
    assert messages[0] == "reflective_loop started" and "reflective_loop finished" in messages
    nodes = {line["step"] for line in found if line["message"] == "node finished"}
    assert {"preprocess", "respond", "ask", "evaluate", "reflect", "conclude"} <= nodes


def test_failures_are_lines_without_the_servers_text(tmp_path):
    def fail(request):
        raise BackendError("the private text of a server")

    loop = world_loop(WORLD, max_iterations=1, student=ScriptedModel(fail, name="broken"))
    with json_log(tmp_path / "run.jsonl"):
        list(loop.map(["Why?"], output=tmp_path / "run"))
    messages = {line["message"] for line in lines(tmp_path / "run.jsonl")}
    assert {"call failed", "node failed", "reflective_loop stopped"} <= messages
    assert "private" not in (tmp_path / "run.jsonl").read_text()


def test_after_the_block_logging_is_as_it_was(tmp_path):
    logger = logging.getLogger("reflectory")
    before = (logger.level, list(logger.handlers))
    with pytest.raises(ZeroDivisionError), json_log(tmp_path / "log.jsonl", level=logging.INFO):
        logger.info("inside")
        logger.debug("not this")
        _ = 1 / 0
    logger.warning("outside")
    assert (logger.level, logger.handlers) == before
    assert [line["message"] for line in lines(tmp_path / "log.jsonl")] == ["inside"]


def test_lines_are_added_to_a_log_that_is_there(tmp_path):
    for number in range(2):
        with json_log(tmp_path / "log.jsonl"):
            logging.getLogger("reflectory").info("number %d", number)
    assert [line["message"] for line in lines(tmp_path / "log.jsonl")] == ["number 0", "number 1"]


def test_a_log_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write the log"), json_log(tmp_path / "file/log"):
        pass


def test_the_place_is_that_of_the_moment():
    with in_run("first"), observing("reflective_loop", loop="abc", levels=("basic",)):
        line = json.loads(JsonFormatter({}).format(record("said %s", "this")))
    assert (line["run"], line["loop"], line["message"]) == ("first", "abc", "said this")
    assert "loop" not in json.loads(JsonFormatter({}).format(record("later")))


@given(
    name=st.sampled_from(["OPENAI_API_KEY", "hf_token", "MY_SECRET", "PGPASSWORD"]),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40),
    around=st.text(max_size=20),
)
def test_keys_of_the_environment_never_reach_a_line(name, secret, around):
    formatter = JsonFormatter({name: secret})
    try:
        raise ValueError(f"refused {secret}")
    except ValueError:
        found = record("%s asked with %s", around, secret, fields={"header": f"Bearer {secret}"})
        found.exc_info = sys.exc_info()
    line = json.loads(formatter.format(found))
    # The traceback quotes a line of this file, and stars may stand beside those of a secret.
    for value in (line["message"], line["header"], line["traceback"].splitlines()[-1]):
        assert secret not in value or set(secret) == {"*"} or secret in around


def test_passwords_in_addresses_are_hidden():
    line = JsonFormatter({}).format(record("lost postgresql://me:hunter2@db/runs?password=hunter3"))
    assert "hunter" not in line and "postgresql://me:***@db" in line


@given(st.text(), st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none()))
def test_any_message_is_one_line_of_json(message, fields):
    line = JsonFormatter({}).format(record("%s", message, fields=fields))
    assert "\n" not in line and json.loads(line)["severity"] == "INFO"


def test_the_command_writes_the_log_and_refuses_a_place_that_is_none(tmp_path, monkeypatch):
    from reflectory.cli import run as verb
    from reflectory.cli.main import run_command

    monkeypatch.setattr(verb, "loop_from", lambda settings: world_loop(WORLD, max_iterations=1))
    (tmp_path / "notes.txt").write_text("The first fact is known.")
    asked = ["run", "-d", str(tmp_path / "notes.txt"), "-i", "Why?", "--max-iterations", "1", "-q"]
    log = tmp_path / "logs/run.jsonl"
    assert run_command([*asked, "-o", str(tmp_path / "run"), "--log-json", str(log)]) == 0
    assert {line.get("run") for line in lines(log)} >= {"run"}
    blocked = str(tmp_path / "notes.txt/log")
    assert run_command([*asked, "-o", str(tmp_path / "other"), "--log-json", blocked]) == 1
    assert not (tmp_path / "other").exists()
