"""What records show of themselves in a notebook, in a real browser: axe, and a phone's width."""

import importlib
import sys
from pathlib import Path

import pytest

import reflectory
from reflectory.evaluation.changes import compare_reports
from reflectory.planning import plan_run
from reflectory.testing.world import SyntheticWorld
from reflectory.training import read_dataset

sys.path.append(str(Path(__file__).parents[1] / "unit"))
browsing = importlib.import_module("browsing")
evaluations = importlib.import_module("evaluations")
reports = importlib.import_module("reports")
rounds = importlib.import_module("report_rounds")
pytest.importorskip("playwright.sync_api", reason="needs the extra `test`")

pytestmark = browsing.browser

SHELL = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Records</title>
<meta name="viewport" content="width=device-width">
<style>@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee; }} }}</style>
</head><body><main><h1>Records</h1>{cells}</main></body></html>"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Return a page that holds each record as a notebook's cell would."""
    folder = tmp_path_factory.mktemp("notebook")
    reports.make_run(folder / "run", reports.some(3))
    rounds.add_round(folder / "run", 0, "plain")
    run = reflectory.open_run(folder / "run")
    before, after = (evaluations.make_report(40, seed=seed) for seed in (0, 3))
    config = SyntheticWorld().config(max_iterations=3)
    first = next(iter(run.trajectories))
    records = {
        "matrix": first.alignment,
        "trajectory": first,
        "run": run,
        "round": run.rounds[0],
        "data set": read_dataset(folder / "run" / "rounds" / "000" / "dataset"),
        "plan": plan_run(config, instructions=20, concurrency=4, grader="spoken"),
        "evaluation": after,
        "comparison": compare_reports(before, after, resamples=200),
    }
    cells = "".join(f"<h2>{name}</h2>{it._repr_html_()}" for name, it in records.items())
    page = folder / "page.html"
    page.write_text(SHELL.format(cells=cells), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def browser():
    with browsing.launched() as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_no_serious_fault(browser, shown, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(shown.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    fits = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    faults = browsing.serious_faults(page)
    page.close()
    assert faults == []
    assert fits, "a record is wider than the window"
