"""Seeing what a run does: places, spans, logs, traces of responses, experiments."""

from __future__ import annotations

from reflectory.observability.place import Place, Run, current_place, in_run, observing

__all__ = ["Place", "Run", "current_place", "in_run", "observing"]
