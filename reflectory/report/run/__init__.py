"""A run as one HTML file: what came of it, what it took, and every trajectory to read.

jinja2 and matplotlib are loaded by the functions that need them.
"""

from reflectory.report.run.facts import RunFacts
from reflectory.report.run.page import PAGE, WrittenReport, write_report

__all__ = ["PAGE", "RunFacts", "WrittenReport", "write_report"]
