"""A trajectory as a fragment of HTML, and as a page of its own.

All that models, documents and users wrote stands in it as text: the templates escape it, and the
page's content security policy allows no script at all. Folding is that of ``<details>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from reflectory.report.html import asset, environment
from reflectory.report.reading import words
from reflectory.report.reading.reader import reading_of
from reflectory.runs.files import storage_errors, write_atomic
from reflectory.types import Trajectory

if TYPE_CHECKING:
    from jinja2 import Environment


def trajectory_html(
    trajectory: Trajectory, *, heading: int = 2, facts: Mapping[str, str] | None = None
) -> str:
    """Return a trajectory as a fragment of HTML, to be read with :func:`trajectory_css`.

    The fragment is one ``<article class="trajectory">``. Every id in it begins with one made
    from the trajectory's id, so several fragments can stand on one page.

    Args:
        trajectory: What is shown; it may have failed.
        heading: Level of its first heading, from 1 to 3; those below go on from there.
        facts: What else is known of it, such as its calls and tokens, by name.

    Raises:
        ValueError: The level of the heading is none of these.
    """
    if not 1 <= heading <= 3:
        raise ValueError(f"heading must be 1, 2 or 3, got {heading}")
    template = _environment().get_template("trajectory.html.j2")
    return template.render(it=reading_of(trajectory), heading=heading, facts=facts or {})


@cache
def trajectory_css() -> str:
    """Return the style sheet of the fragments; it applies inside of them only."""
    return asset("trajectory.css")


def trajectory_page(trajectory: Trajectory, *, facts: Mapping[str, str] | None = None) -> str:
    """Return a trajectory as one self-contained HTML page; arguments as above.

    Args:
        trajectory: Also one that failed.
        facts: Further lines by name, for the head of the page.
    """
    return (
        _environment()
        .get_template("trajectory_page.html.j2")
        .render(
            title=trajectory.instruction,
            style=trajectory_css(),
            body=trajectory_html(trajectory, heading=1, facts=facts),
        )
    )


def write_trajectory(
    trajectory: Trajectory, path: str | Path, *, facts: Mapping[str, str] | None = None
) -> Path:
    """Write :func:`trajectory_page` to a file and return its path; a file there is replaced.

    Args:
        trajectory: Also one that failed.
        path: A file there is replaced.
        facts: Further lines by name, for the head of the page.

    Raises:
        StorageError: The file cannot be written.
    """
    target = Path(path)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, trajectory_page(trajectory, facts=facts).encode())
    return target


@cache
def _environment() -> Environment:
    """Return what fills the templates; every text passes ``clean`` before it is escaped."""
    made = environment().overlay(
        finalize=lambda value: words.clean(value) if type(value) is str else value
    )
    made.globals = {**made.globals, "words": words}
    return made
