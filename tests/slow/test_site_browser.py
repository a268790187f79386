"""The documentation's site in a real browser: axe, the width of a phone, and the search."""

import functools
import http.server
import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))
browsing = importlib.import_module("browsing")
pytest.importorskip("playwright.sync_api", reason="needs the extra `test`")
pytest.importorskip("mkdocstrings", reason="needs the extra `docs`")

pytestmark = browsing.browser

ROOT = Path(__file__).parents[2]
PAGES = ("index", "start", "concepts", "equations", "reference/errors")
# One page of the reference is like the others, and reading all modules takes the longest.
SETTINGS = """
INHERIT: mkdocs.yml
exclude_docs: |
  *.py
  *.mmd
  reference/*.md
  !reference/errors.md
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the built site, with one page of the reference."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "-f", "-", "-d", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, input=SETTINGS, cwd=ROOT, env=quiet, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def browser():
    with browsing.launched() as found:
        yield found


@pytest.fixture(scope="module")
def served(site):
    """Serve the site to this machine and return its address; the search needs a server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_axe_finds_no_serious_fault(browser, site, name, width, scheme):
    size = {"width": width, "height": 900}
    page = browser.new_page(viewport=size, color_scheme=scheme)
    page.goto((site / f"{name}.html").as_uri())
    shown = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
    assert shown == {"light": "default", "dark": "slate"}[scheme]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    faults = browsing.serious_faults(page)
    page.close()
    assert faults == []


def test_a_word_is_found_and_nothing_is_asked_of_others(browser, served):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served}/index.html")
    page.locator(".md-search__input").click()
    page.keyboard.type("epsilon")
    page.locator(".md-search-result__link").first.wait_for()
    titles = page.locator(".md-search-result__item h1").all_inner_texts()
    assert "Equations and their code" in titles
    page.locator(".md-search-result__link", has_text="Equations and their code").first.click()
    page.wait_for_url("**/equations.html*")
    page.close()
    assert all(url.startswith(served) for url in asked)
