"""The house: imports point one way, and importing the package loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reflectory

ROOT = Path(reflectory.__file__).parent
HEAVY = (
    "torch",
    "transformers",
    "faiss",
    "langgraph",
    "matplotlib",
    "sentence_transformers",
    "ray",
)

# A room may import those before it, never one behind it.
ORDER = [
    {"errors"},
    {"alignment"},
    {"types"},
    {"config"},
    {"models"},
    {"retrieval"},
    {"agents"},
    {"graphs"},
]
# These read trajectories and never import graphs.
READERS = {"runs", "training", "evaluation", "observability"}
BELOW = {room for level in ORDER for room in level}
TOP = {
    "assembly",
    "background",
    "cli",
    "cluster",
    "contenders",
    "demo",
    "driver",
    "evaluator",
    "improvement",
    "loop",
    "planning",
    "report",
    "runnable",
    "runner",
    "studio",
}


def rooms_of(path: Path) -> set[str]:
    """Return the rooms that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "reflectory":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("reflectory."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("reflectory.")}
    return found


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if len(relative.parts) > 1 or relative.name != "__init__.py":
            yield relative.parts[0].removesuffix(".py"), path


@pytest.mark.parametrize(
    ("room", "path"), [pytest.param(r, p, id=str(p.relative_to(ROOT))) for r, p in modules()]
)
def test_imports_point_one_way(room, path):
    imported = rooms_of(path) - {room}
    if room in BELOW:
        position = next(i for i, level in enumerate(ORDER) if room in level)
        allowed = {r for level in ORDER[: position + 1] for r in level}
        if room in {"alignment", "types"}:
            allowed |= {"report"}  # matrix and trajectory show themselves when they are asked to
        assert imported <= allowed, f"{room} imports {imported - allowed}"
    elif room in READERS:
        assert not imported & ({"graphs"} | TOP), f"{room} imports {imported & ({'graphs'} | TOP)}"
    elif room == "testing":
        assert not imported & TOP
    else:
        assert room in TOP, f"{room} is a room that this test does not know"


@pytest.mark.parametrize("statement", ["import reflectory", "import reflectory.cli.main"])
def test_importing_loads_nothing_heavy(statement):
    code = f"{statement}, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"


def test_public_names_are_there_and_others_are_not():
    for name in reflectory.__all__:
        assert getattr(reflectory, name) is not None
    with pytest.raises(AttributeError):
        _ = reflectory.no_such_name


def test_no_module_outgrows_a_room():
    long = {p.name: n for _, p in modules() if (n := len(p.read_text().splitlines())) > 400}
    assert not long
