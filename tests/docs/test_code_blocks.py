"""What README and docs show is true: code runs, YAML loads, verbs, options and links exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
from pages import PAGES, REAL_MODELS, ROOT, Block, blocks, blocks_of, make_notes, prose_of
from pydantic import BaseModel

from reflectory import RunConfig, config
from reflectory.agents.prompts import PLACEHOLDERS
from reflectory.cli.main import app

README = ROOT / "README.md"
COMMAND = typer.main.get_command(app)


def named(found: list[Block]) -> list:
    return [pytest.param(block, id=block.name) for block in found]


@pytest.mark.parametrize("block", named(blocks("python")))
def test_python_blocks_run(block, tmp_path, monkeypatch):
    make_notes(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, block.name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", named(blocks("python", real=True)))
def test_blocks_with_real_models_at_least_compile(block):
    compile(block.code, block.name, "exec")


def test_only_python_blocks_are_marked_as_needing_real_models():
    for page in PAGES:
        marked = [block for block in blocks_of(page) if block.real]
        assert len(marked) == page.read_text(encoding="utf-8").count(f"\n{REAL_MODELS}\n")
        assert {block.language for block in marked} <= {"python"}


@pytest.mark.parametrize("block", named(blocks("yaml")))
def test_yaml_blocks_are_configurations(block, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(block.code, encoding="utf-8")
    assert RunConfig.load(file) != RunConfig()


@pytest.mark.parametrize("block", named(blocks("bash")))
def test_bash_blocks_are_shell(block):
    read = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True)
    assert read.returncode == 0, read.stderr


def commands_of(code: str) -> list[list[str]]:
    """Return the words of every ``reflectory`` command of a shell block, without the name."""
    lines = code.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line[:1] == ["reflectory"]]


SHELL = [(block, words) for block in blocks("bash") for words in commands_of(block.code)]


@pytest.mark.parametrize(
    ("block", "words"), [pytest.param(b, w, id=f"{b.name}-{' '.join(w[:2])}") for b, w in SHELL]
)
def test_shell_commands_are_understood(block, words):
    """Let the command line parse them to the last option; nothing is run."""
    with COMMAND.make_context("reflectory", list(words)) as context:
        command, rest = COMMAND, words
        while hasattr(command, "commands"):
            _, command, rest = command.resolve_command(context, list(rest))
        command.make_context(command.name, list(rest), parent=context).close()


def test_shell_commands_were_found():
    verbs = {words[0] for _, words in SHELL}
    assert verbs == set(COMMAND.commands)


def options_of(words: list[str]) -> set[str]:
    """Return the options that a verb knows; fail when there is no such verb."""
    command = COMMAND
    for word in words:
        if not hasattr(command, "commands"):
            break
        assert word in command.commands, f"there is no verb {word}"
        command = command.commands[word]
    return {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_and_options_named_in_the_text_exist(page):
    for span in re.findall(r"`reflectory ([^`]+)`", prose_of(page)):
        words = span.split()
        named_options = {w.split("=")[0] for w in words if w.startswith("-")}
        known = options_of([w for w in words if w.islower() and not w.startswith("-")])
        assert named_options <= known, f"`reflectory {span}`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_the_first_two_shell_blocks_install_and_run():
    first, second = [b.code for b in blocks_of(README) if b.language == "bash"][:2]
    install = "python3 -m venv .venv && . .venv/bin/activate\npip install -c constraints.txt "
    assert first == f"{install}.\nreflectory demo\n"
    start, _, last = second.rstrip().rpartition("\n")
    assert start == f'{install}-e ".[test]"'
    runner, *folders = last.split()
    assert runner == "pytest" and len(folders) == 3
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_the_quickstart_is_short():
    first = next(b for b in blocks_of(README) if b.language == "python")
    assert len(first.code.strip().splitlines()) <= 12


PARTS = [
    part
    for part in vars(config).values()
    if isinstance(part, type) and issubclass(part, config.Settings) and part is not config.Settings
]


def section_of(name: str) -> str:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return re.split(r"^## ", text.split(f"\n## {name}\n")[1], flags=re.M)[0]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_field_stands_in_the_page_with_its_default(part: type[BaseModel]):
    table = section_of(part.__name__).lstrip().split("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", table, re.M))
    assert list(rows) == list(part.model_fields)
    defaults = part.model_construct()
    for name, field in part.model_fields.items():
        if field.is_required():
            assert rows[name] == "required"
        elif rows[name] == "see below":
            assert isinstance(getattr(defaults, name), BaseModel | tuple)
        else:
            shown = defaults.model_dump_json(include={name}).split(":", 1)[1][:-1]
            assert rows[name].strip("`").replace(" ", "") == shown.replace(" ", "")


@pytest.mark.parametrize("level", config.DEFAULT_LEVELS, ids=lambda level: level.name)
def test_default_levels_stand_in_the_page(level):
    starters = ", ".join(level.starters)
    row = f"| `{level.name}` | {level.description} | {level.rubric} | {starters} |"
    assert row in section_of("Level").splitlines()


def test_prompts_stand_in_the_page_with_their_placeholders():
    rows = re.findall(r"^\| `([a-z.]+)` \| (.*) \|$", section_of("Prompts"), re.M)
    shown = {name: frozenset(re.findall(r"{(\w+)}", fields)) for name, fields in rows}
    assert shown == PLACEHOLDERS


def test_every_part_of_the_configuration_is_known():
    assert {part.__name__ for part in PARTS} >= {"RunConfig", "LoopConfig", "TrainingConfig"}


def test_pages_name_no_place_of_a_machine():
    for page in (*PAGES, *Path(ROOT, "examples").iterdir()):
        if page.is_file():
            assert not re.search(r"(?<![\w.])/(home|root|tmp|work)/", page.read_text("utf-8"))
