"""The report of a run with many trajectories: time, size, memory, and how soon it can be used.

python bench/report.py --trajectories 1000 10000 --json FILE

Each size is made in a process of its own, from synthetic trajectories whose texts are random
words, so they compress worse than real ones. Where Chromium and playwright are there, the
page is opened from the disk, and what the page itself measured is reported.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from long_run import peak_megabytes
from provenance import provenance

from reflectory.config import RunConfig
from reflectory.report.run import write_report
from reflectory.runs.directory import RunDirectory
from reflectory.testing.trajectories import synthetic_trajectories

SEARCH = """async () => {
  const began = performance.now(), field = document.getElementById("search");
  field.value = "no answer";
  field.dispatchEvent(new Event("input"));
  const said = document.getElementById("shown");
  while (!said.textContent.includes("that fit")) {
    await new Promise((done) => setTimeout(done, 5));
  }
  return performance.now() - began;
}"""


def make_run(count: int, folder: Path) -> None:
    """Write a run directory with so many trajectories, without loops."""
    with RunDirectory.open(folder, RunConfig(documents=("notes",)), identity={}):
        pass
    with (folder / "trajectories.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(t.to_json() + "\n" for t in synthetic_trajectories(count))


def measure(run: Path) -> dict[str, Any]:
    """Write the page of a run and return what that took."""
    before = peak_megabytes()
    processor = time.process_time()
    written = write_report(run)
    return {
        "trajectories": written.facts.loops,
        "seconds": round(written.seconds, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "peak_mb": round(peak_megabytes(), 1),
        "peak_mb_before": round(before, 1),
        "page_mb": round(written.size / 1e6, 2),
        "details_mb": round(written.details_size / 1e6, 2),
        "unpacked_mb": round(written.details_unpacked / 1e6, 2),
    }


def opened(page: Path) -> dict[str, Any]:
    """Return how soon a browser can use a page; empty without one."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if chromium is None:
        return {}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(page.as_uri())
        entry = "performance.getEntriesByName('interactive')[0].startTime"
        ready = tab.evaluate(entry)
        whole = tab.evaluate("performance.getEntriesByType('navigation')[0].domComplete")
        searched = tab.evaluate(SEARCH)
        began = time.perf_counter()
        tab.locator("#list summary").first.click()
        tab.wait_for_selector("#list .inside article")
        unpacked = 1000 * (time.perf_counter() - began)
        browser.close()
    return {
        "ready_ms": round(ready),
        "whole_file_ms": round(whole),
        "search_ms": round(searched),
        "open_ms": round(unpacked),
    }


def main() -> None:
    """Measure each size in a process of its own and print or write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run is not None:
        print(json.dumps(measure(given.run)))
        return
    found = []
    for count in given.trajectories:
        with tempfile.TemporaryDirectory() as place:
            run = Path(place) / "run"
            make_run(count, run)
            command = [sys.executable, __file__, "--run", str(run)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append({**json.loads(done.stdout), **opened(run / "report.html")})
            print(found[-1], file=sys.stderr)
    text = json.dumps({**provenance(), "sizes": found}, indent=2)
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
