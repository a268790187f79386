"""Docstrings of the public interface say what is taken and what is raised.

What is public stands in the reference, docs/reference. That there is a docstring at all, and in
Google's style, is ruff's to check.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reflectory import errors

ROOT = Path(__file__).parents[2]
OURS = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and name != "Sequence"
}
Function = ast.FunctionDef | ast.AsyncFunctionDef
NODE = ["state", "runtime"]
"""What LangGraph hands to every node; the same in all of them."""


@dataclass(frozen=True)
class Documented:
    """A public function or method, and where it stands."""

    place: str
    node: Function

    @property
    def text(self) -> str:
        return ast.get_docstring(self.node) or ""

    def section(self, name: str) -> str:
        """Return what stands below a heading, up to the next one."""
        _, found, rest = self.text.partition(f"{name}:\n")
        return re.split(r"^\w+:$", rest, flags=re.M)[0] if found else ""


def functions_of(file: Path) -> Iterator[Documented]:
    """Yield the public functions of a module and the methods of its public classes."""
    found: list[tuple[str, ast.AST]] = [("", ast.parse(file.read_text("utf-8")))]
    while found:
        prefix, parent = found.pop()
        for node in ast.iter_child_nodes(parent):
            name = getattr(node, "name", "_")
            if name.startswith("_"):
                continue
            if isinstance(node, ast.ClassDef):
                found.append((f"{prefix}{name}.", node))
            elif isinstance(node, Function):
                place = f"{file.relative_to(ROOT)}:{node.lineno} {prefix}{name}"
                yield Documented(place, node)


def parameters_of(node: Function) -> list[str]:
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [a.arg for a in (given.vararg, given.kwarg) if a is not None]
    return [name for name in names if name not in ("self", "cls")]


def raised_by(node: Function) -> set[str]:
    """Return the errors of this package that leave the body: not those of inner functions,
    nor of a ``try`` that catches something, which may be theirs.
    """
    found, rest = set(), list(node.body)
    while rest:
        inner = rest.pop()
        if isinstance(inner, (*Function.__args__, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(inner, ast.Try) and inner.handlers:
            rest += [*inner.handlers, *inner.orelse, *inner.finalbody]
            continue
        if isinstance(inner, ast.Raise) and inner.exc is not None:
            kind = inner.exc.func if isinstance(inner.exc, ast.Call) else inner.exc
            found.add(kind.id if isinstance(kind, ast.Name) else getattr(kind, "attr", ""))
        rest += ast.iter_child_nodes(inner)
    return found & OURS


def files_of(module: str) -> list[Path]:
    """Return the file of a module, or of what a package hands on the defining files."""
    path = ROOT / module.replace(".", "/")
    if path.with_suffix(".py").is_file():
        return [path.with_suffix(".py")]
    handed_on = re.findall(
        r"^from (reflectory[\w.]*) import", (path / "__init__.py").read_text(), re.M
    )
    return [file for name in handed_on for file in files_of(name)] + [path / "__init__.py"]


MODULES = sorted(
    {
        module
        for page in (ROOT / "docs" / "reference").glob("*.md")
        for module in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.M)
    }
)
REFERENCE = [
    function
    for file in sorted({file for module in MODULES for file in files_of(module)})
    for function in functions_of(file)
]
# A verb's docstring is what --help prints: its options say themselves what they are.
EVERYWHERE = [
    function
    for file in sorted((ROOT / "reflectory").rglob("*.py"))
    if "cli" not in file.parts
    for function in functions_of(file)
]


def test_errors_that_a_function_raises_are_named_by_it():
    silent = [
        f"{function.place}: {error}"
        for function in EVERYWHERE
        for error in sorted(raised_by(function.node))
        if not re.search(rf"\b{error}\b", function.section("Raises"))
    ]
    assert silent == []


def test_parameters_of_the_public_interface_are_described():
    silent = [
        f"{function.place}: {', '.join(missing)}"
        for function in REFERENCE
        if (missing := undescribed(function))
    ]
    assert silent == []


def undescribed(function: Documented) -> list[str]:
    """Return the parameters that neither ``Args`` nor, for a single one, the summary describes."""
    names = parameters_of(function.node)
    described = set(re.findall(r"^ *\*{0,2}(\w+)(?: \([^)]*\))?:", function.section("Args"), re.M))
    missing = [name for name in names if name not in described]
    return missing if len(names) > 1 and names != NODE else []


def test_sections_are_found_where_they_are():
    code = '''
def f(a, *, b):
    """Say.

    Args:
        a: One.
        b: Two.

    Raises:
        UserError: Always.
    """
    def inner():
        raise ModelError("x")
    raise UserError("x")
'''
    function = Documented("here", ast.parse(code).body[0])
    assert undescribed(function) == []
    assert raised_by(function.node) == {"UserError"}
    assert "UserError" in function.section("Raises")
    assert "UserError" not in function.section("Args")


@pytest.mark.parametrize(
    "code",
    [
        "def f(a, b):\n    'Say.'",
        "def f(a, b):\n    '''Say.\n\n    Args:\n        a: One.\n    '''",
    ],
)
def test_a_parameter_without_words_is_noticed(code):
    assert "b" in undescribed(Documented("here", ast.parse(code).body[0]))
