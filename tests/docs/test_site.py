"""The site's list of pages is whole, and its pages and the reference belong together."""

import ast
import importlib
import re

import pytest
import yaml
from pages import PAGES, ROOT, blocks_of, prose_of

DOCS = ROOT / "docs"
SITE = [page for page in PAGES if page.is_relative_to(DOCS)]


class Loader(yaml.SafeLoader):
    """Reads MkDocs' file, whose tags name functions, without calling any."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
SETTINGS = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), Loader)


def pages_in(part) -> list[str]:
    """Return the pages of a part of the navigation, in order."""
    if isinstance(part, str):
        return [part]
    parts = part.values() if isinstance(part, dict) else part
    return [page for inner in parts for page in pages_in(inner)]


def test_every_page_stands_in_the_navigation_once():
    named = pages_in(SETTINGS["nav"])
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in SITE)


def test_the_site_fetches_nothing():
    assert SETTINGS["theme"]["font"] is False
    plugins = [
        plugin if isinstance(plugin, str) else next(iter(plugin)) for plugin in SETTINGS["plugins"]
    ]
    assert plugins == ["search", "mkdocstrings"]  # Material's "offline" fetches a script
    own = [*SETTINGS.get("extra_css", []), *SETTINGS.get("extra_javascript", [])]
    assert all((DOCS / file).is_file() for file in own)
    assert "://" not in (DOCS / "site.css").read_text("utf-8")


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_and_pictures_stay_in_the_site(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if not target.startswith(("http://", "https://", "#")):
            file = (page.parent / target.split("#")[0]).resolve()
            assert file.is_relative_to(DOCS.resolve()), target


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_pictures_say_what_they_show(page):
    for words in re.findall(r"!\[([^\]]*)\]\(", prose_of(page)):
        assert len(words) > 10


REFERENCE = [
    name
    for page in sorted((DOCS / "reference").glob("*.md"))
    for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.M)
]


@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_names_modules_that_exist_and_say_something(name):
    assert importlib.import_module(name).__doc__


def test_no_module_stands_in_the_reference_twice():
    assert len(set(REFERENCE)) == len(REFERENCE)


def imports_of_pages() -> set[tuple[str, str]]:
    """Return module and name of everything of this package that a page's code imports."""
    found = set()
    for page in PAGES:
        for block in blocks_of(page):
            if block.language == "python":
                for node in ast.walk(ast.parse(block.code)):
                    if isinstance(node, ast.ImportFrom) and node.module.startswith("reflectory"):
                        found |= {(node.module, name.name) for name in node.names}
    return found


INSIDE = {"reflectory.background", "reflectory.demo.story"}
"""What pages use to show a thing, without its being part of the interface."""


@pytest.mark.parametrize(("module", "name"), sorted(imports_of_pages()), ids=str)
def test_what_pages_import_stands_in_the_reference(module, name):
    if module in INSIDE:
        pytest.skip("not part of the interface")
    if module == "reflectory":
        assert name in (DOCS / "reference" / "index.md").read_text("utf-8")
    elif f"{module}.{name}" not in REFERENCE:  # a module may be imported as a name
        exported = getattr(importlib.import_module(module), "__all__", None)
        assert module in REFERENCE
        assert exported is None or name in exported
