"""The report of a run in a real browser: no request, the keyboard, 10,000 trajectories, axe."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from reflectory.report.run import write_report
from reflectory.testing.trajectories import synthetic_trajectories

sys.path.append(str(Path(__file__).parents[1] / "unit"))
browsing = importlib.import_module("browsing")
reports = importlib.import_module("reports")
rounds = importlib.import_module("report_rounds")
pytest.importorskip("playwright.sync_api", reason="needs the extra `test`")
ATTACK = browsing.ATTACK

pytestmark = browsing.browser

WIDTHS = (390, 820, 1440)


@pytest.fixture(scope="module")
def browser():
    with browsing.launched() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run with failures, flags, hostile texts and two rounds."""
    folder = tmp_path_factory.mktemp("report") / "run"
    loops = reports.some(120)
    reports.make_run(folder, [*loops[:-1], reports.with_text(loops[-1], ATTACK)])
    rounds.add_round(folder, 0, "plain")
    rounds.add_round(folder, 1, ATTACK, failed=True)
    return write_report(folder).path


class Opened:
    """A page, and everything that it asked for and complained about."""

    def __init__(self, browser, path: Path, *, width: int = 1440, scheme: str = "light") -> None:
        size = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())
        self.path = path

    def _said(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def shown(self) -> str:
        return self.page.locator("#shown").inner_text()

    def wait_until(self, condition: str) -> None:
        """Wait for an expression to hold; playwright's own way needs what the policy forbids."""
        for _ in range(300):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never came true: {condition}")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        self.context.close()
        if kind is None:
            assert self.requests == [self.path.as_uri()], "the page asked for something"
            assert self.complaints == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser, report, width):
    with Opened(browser, report, width=width) as it:
        it.page.check("#unfold")
        it.page.locator("#list summary").first.click()
        it.page.wait_for_selector("#list .inside article")
        it.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        it.wait_until("!document.body.innerText.includes('Unpacking ...')")
        assert it.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_it_is_used_with_the_keyboard_alone(browser, report):
    with Opened(browser, report) as it:
        page = it.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "search"
        page.keyboard.type("no answer")  # what the failed loops say
        it.wait_until("document.getElementById('shown').textContent.includes('that fit')")
        assert it.shown() == "1 to 1 of 1 trajectory that fit, 126 in all"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "status"
        page.keyboard.type("failed")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.tagName") == "SUMMARY":
                break
        page.keyboard.press("Enter")
        page.wait_for_selector("#list .inside article")
        assert "gave no answer" in page.locator("#list .inside").inner_text()


def test_filters_sorting_pages_and_links(browser, report):
    with Opened(browser, report) as it:
        page = it.page
        assert it.shown() == "1 to 25 of 126 trajectories"
        page.click("#next")
        assert it.shown() == "26 to 50 of 126 trajectories"
        page.fill("#page", "6")
        page.press("#page", "Enter")
        assert it.shown() == "126 to 126 of 126 trajectories"
        page.select_option("#part", label="round 1")
        assert it.shown() == "1 to 3 of 3 trajectories that fit, 126 in all"
        page.click("#clear")
        it.wait_until(
            "document.getElementById('shown').textContent.endsWith('of 126 trajectories')"
        )
        page.select_option("#sort", "grade")
        page.select_option("#order", "down")
        about = page.locator("#list .about").all_inner_texts()
        grades = [float(re.search(r"G (?:[\d.]+ → )?([\d.]+)", line)[1]) for line in about]
        assert grades == sorted(grades, reverse=True) and len(grades) == 25
        page.fill("#low", "0.5")
        page.fill("#high", "0.6")
        it.wait_until("document.getElementById('shown').textContent.includes('that fit')")
        about = page.locator("#list .about").all_inner_texts()
        grades = [float(re.search(r"G (?:[\d.]+ → )?([\d.]+)", line)[1]) for line in about]
        assert grades and all(0.5 <= grade <= 0.6 for grade in grades)
        page.locator("section[aria-labelledby=failures] a").first.click()
        page.wait_for_selector("#trajectory-97 .inside article")
        assert "gave no answer" in page.locator("#trajectory-97").inner_text()


def test_what_a_model_wrote_is_never_run(browser, report):
    with Opened(browser, report) as it:
        it.page.goto(f"{report.as_uri()}#trajectory-120")
        it.page.wait_for_selector("#trajectory-120 .inside article")
        assert ATTACK in it.page.locator("#trajectory-120").inner_text()
        it.page.wait_for_timeout(300)
        assert it.page.title() == "Report of run"
        assert it.page.locator("img").count() == 0
        it.requests[1:] = []  # the address with its fragment


def test_a_browser_without_decompression_says_so(browser, report):
    with Opened(browser, report) as it:
        it.page.evaluate("delete window.DecompressionStream")
        it.page.locator("#list summary").first.click()
        it.page.wait_for_selector("#problem:not([hidden])")
        assert "cannot unpack" in it.page.locator("#problem").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_no_serious_fault(browser, report, scheme, width):
    with Opened(browser, report, width=width, scheme=scheme) as it:
        it.page.check("#unfold")
        it.page.locator("#list summary").first.click()
        it.page.wait_for_selector("#list .inside article")
        # The page's policy forbids foreign scripts; axe comes in through the debugger.
        faults = browsing.serious_faults(it.page)
        assert faults == []


def test_it_prints(browser, report, tmp_path):
    with Opened(browser, report) as it:
        paper = it.page.pdf(path=tmp_path / "report.pdf", format="A4")
        assert paper.startswith(b"%PDF") and len(paper) > 20_000


def test_ten_thousand_trajectories_are_there_within_two_seconds(browser, tmp_path):
    run = reports.make_run(
        tmp_path / "run", synthetic_trajectories(10_000, iterations=1, passages=1)
    )
    written = write_report(run)
    with Opened(browser, written.path) as it:
        ready = it.page.evaluate("performance.getEntriesByName('interactive')[0].startTime")
        assert it.shown() == "1 to 25 of 10000 trajectories"
        searched = it.page.evaluate(
            """async () => {
              const began = performance.now(), field = document.getElementById("search");
              field.value = "no answer";
              field.dispatchEvent(new Event("input"));
              const said = document.getElementById("shown");
              while (!said.textContent.includes("that fit")) {
                await new Promise((done) => setTimeout(done, 5));
              }
              return performance.now() - began;
            }"""
        )
        assert it.shown() == "1 to 25 of 103 trajectories that fit, 10000 in all"
        it.page.locator("#list summary").first.click()
        it.page.wait_for_selector("#list .inside article", timeout=60_000)
        print(f"{written.size / 1e6:.1f} MB, ready {ready:.0f} ms, search {searched:.0f} ms")
        assert ready < 2_000
        assert searched < 2_000
