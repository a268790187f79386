"""What the tests of pages share: tags that balance, and a browser that opens them."""

import shutil
import subprocess
from contextlib import contextmanager
from html.parser import HTMLParser

import pytest

VOID = {"meta", "input", "br", "col", "img", "link", "hr"}
ATTACK = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Balance(HTMLParser):
    """Fails on the first tag that is closed where it was not opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.getpos())


def assert_balanced(text: str) -> None:
    balance = Balance()
    balance.feed(text)
    assert balance.open == []


def in_browser(path, profile, *options: str) -> str:
    """Return the document as the browser has it after the page's scripts ran."""
    command = [
        str(CHROMIUM),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=3000",
        *options,
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8", "replace")


@contextmanager
def launched():
    """Run the browser under playwright, which can press keys and sees requests."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `test`")
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield found
        found.close()


def serious_faults(page):
    """Return what axe finds in an open page that is serious or worse."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    return [
        (fault["id"], fault["impact"], [node["html"][:160] for node in fault["nodes"][:4]])
        for fault in axe.Axe().run(page).response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
