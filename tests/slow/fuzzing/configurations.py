"""Configurations: damaged fields and damaged YAML, through loading and on to the plan."""

import copy
import math
import re
from pathlib import Path

import yaml

from fuzzing.commands import run_verb
from fuzzing.damage import damaged_json, damaged_text
from fuzzing.tally import Case, Unhandled
from reflectory.config import RunConfig
from reflectory.errors import ReflectoryError
from reflectory.planning import plan_learning, plan_of_names

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
BOMB = "f0: &a0 [x]\n" + "".join(
    f"f{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
BOMB += "documents: [*a9]\nloop: {levels: *a9}"
"""YAML of 500 bytes that names a billion texts."""
EXTREME = (
    BOMB,
    "loop: &a {levels: [*a]}",
    "documents: &a [*a]",
    "concurrency: 0x" + "f" * 9000,
    "concurrency: " + "9" * 9000,
    "concurrency: 190:20:30.15",
    "loop: " + "[" * 5000,
    "loop: " + "{a: " * 500 + "1" + "}" * 500,
    "? [a, b]\n: 1",
    "1: 2\nnull: 3\n2026-01-01: 4",
    "loop: !!python/object/apply:os.system ['true']",
    "loop: !!set {a, b}\nlevels: !!binary aGk=",
    "<<: [1]",
    "- a\n- b",
    "--- 1\n--- 2",
    "\ufeffteacher: local",
    "teacher: \x00",
    'teacher: "\\ud800"',
    "%YAML 3.0\n---\nteacher: local",
    "seed: 2026-99-99",
    "loop: {epsilon: .nan, seed: .inf, max_iterations: 1e3}",
)


def _seeds() -> list[dict]:
    """Return valid configurations: the page's, all fields, few fields."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    found = [yaml.safe_load(block) for block in blocks]
    full = RunConfig().model_dump(mode="json")
    level = {"name": "basic", "description": "asks for a fact", "rubric": "It is right."}
    small = {
        "documents": ["notes/"],
        "instructions": ["What is ice?"],
        "teacher": "openai:gpt-4o",
        "loop": {
            "levels": [level],
            "max_iterations": 2,
            "prompts": {"teacher.ask": "{level}"},
        },
        "budget": {"calls": 100, "cost": 1.5},
    }
    return [full, full, small, *(s for s in found if isinstance(s, dict))]


SEEDS = _seeds()


class Dumper(yaml.SafeDumper):
    """PyYAML's, which also writes an integer too long for decimal digits."""


Dumper.add_representer(
    int,
    lambda dumper, value: dumper.represent_scalar(
        "tag:yaml.org,2002:int", str(value) if abs(value) < 10**4000 else hex(value)
    ),
)


def run_case(case: Case, folder: Path) -> None:
    """Load one configuration, from text or from values, and plan a run with it."""
    way = case.dice.random()
    if way < 0.45:
        config = _from_values(case)
    else:
        config = _from_text(case, folder, _text(case) if way < 0.95 else _extreme(case))
    _plan(config, case)


def _values(case: Case) -> object:
    data = copy.deepcopy(case.dice.choice(SEEDS))
    if case.dice.random() < 0.45:  # some fields of the right type, far out
        return _far_out(case, data)
    return damaged_json(case.dice, data)


def _far_out(case: Case, data: dict) -> dict:
    """Change numbers to others of their type, most of which are allowed."""
    parts = [data, *(part for part in data.values() if isinstance(part, dict))]
    for _ in range(case.dice.randint(1, 3)):
        part = case.dice.choice(parts)
        names = [n for n, v in part.items() if isinstance(v, int | float) and v is not True]
        if names:
            name = case.dice.choice(names)
            whole = isinstance(part[name], int)
            part[name] = case.dice.choice(
                (1, 2, 20, 999, 10**6, 2**63) if whole else (1e-9, 0.5, 1.0, 3.5, 1e300, 5e-324)
            )
    return data


def _from_values(case: Case) -> RunConfig:
    config = RunConfig.from_dict(_values(case))  # values meet no parser before the validation
    case.past = True
    return config


def _text(case: Case) -> str:
    if case.dice.random() < 0.6:
        data, plain = _values(case), case.dice.random() < 0.5
        try:
            return yaml.dump(data, Dumper=Dumper, allow_unicode=plain)
        except RecursionError:  # too deep for PyYAML to write, so the braces are written here
            return f"loop: {{seed: {'[' * 400}0{']' * 400}}}"
    return damaged_text(case.dice, yaml.safe_dump(case.dice.choice(SEEDS)))


def _extreme(case: Case) -> str:
    text = case.dice.choice(EXTREME)
    return text if case.dice.random() < 0.5 else damaged_text(case.dice, text)


def _from_text(case: Case, folder: Path, text: str) -> RunConfig:
    file = folder / "run.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = RunConfig.load(file)
    except ReflectoryError as error:
        case.past = "is not YAML" not in error.message
        if case.dice.random() < 0.1:
            code, _ = run_verb("plan", "-c", str(file), "--no-probe", "--count", "3")
            if code == 0:
                raise Unhandled("a plan with a configuration that is refused") from error
        raise
    case.past = True
    if case.dice.random() < 0.1:
        flags = ["--json"] if case.dice.random() < 0.5 else []
        run_verb("plan", "-c", str(file), "--no-probe", "--count", "3", *flags)
    return config


def _plan(config: RunConfig, case: Case) -> None:
    """Plan, and write the configuration down so that it is read as the same one."""
    case.outcome = "planned"
    count = case.dice.choice((1, 3, 10**6, 2**63))
    made = plan_of_names(config, instructions=count, instruction_tokens=40)
    learning = plan_learning(config, made.cases["usual"], instructions=count, parameters=10**8)
    made.model_dump_json()
    learning.model_dump_json()
    if any(math.isnan(need.total.calls) for need in made.cases.values()):
        raise Unhandled("a plan of no number of calls")
    again = RunConfig.from_dict(yaml.safe_load(config.to_yaml()))
    if again != config:
        raise Unhandled("a configuration is read as another one than was written")
