"""A trajectory to read: what was said, what changed, and where a grade came from.

The fragment of HTML works without JavaScript and without a network; the same is printed in a
terminal. jinja2 and rich are loaded by the functions that need them.
"""

from reflectory.report.reading.changes import WordChange, word_changes
from reflectory.report.reading.page import (
    trajectory_css,
    trajectory_html,
    trajectory_page,
    write_trajectory,
)
from reflectory.report.reading.text import plain_text, trajectory_text

__all__ = [
    "WordChange",
    "plain_text",
    "trajectory_css",
    "trajectory_html",
    "trajectory_page",
    "trajectory_text",
    "word_changes",
    "write_trajectory",
]
