"""What the tests of pages share: tags that balance, and a browser that opens them."""

import shutil
import subprocess
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
