"""The pictures of a run's page as SVG inside the page, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from reflectory.report.html import svg
from reflectory.report.run.facts import RunFacts
from reflectory.report.run.loops import LoopFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pictures_of(facts: RunFacts) -> dict[str, str]:
    """Return SVG pictures by name; one that has nothing to show is left out.

    The names are ``stops-0``, ``grades-0`` and ``levels-0`` for the first part with loops,
    ``losses-0`` for the training of the first round, ``lengths-0-0`` for its first data set.
    """
    from reflectory.report.run.plots import plot_lengths, plot_losses

    drawn: dict[str, Callable[[], Axes]] = {}
    for place, (_, found) in enumerate(facts.parts):
        drawn |= {f"{name}-{place}": draw for name, draw in _of_loops(found).items()}
    for done in facts.rounds:
        if done.training is not None and done.training.losses:
            drawn[f"losses-{done.number}"] = partial(plot_losses, done.training)
        for place, data in enumerate(done.datasets):
            # Prompts hold the documents: beside them nothing else could be seen.
            learnt = {name: found for name, found in data.lengths.items() if name != "prompt"}
            if learnt:
                drawn[f"lengths-{done.number}-{place}"] = partial(plot_lengths, learnt)
    return {name: svg(draw, name) for name, draw in drawn.items()}


def _of_loops(found: LoopFacts) -> dict[str, Callable[[], Axes]]:
    from reflectory.report.matrix_plots import plot_levels, plot_stops
    from reflectory.report.run.plots import plot_grades

    drawn: dict[str, Callable[[], Axes]] = {}
    if any(any(by.values()) for by in found.matrices.stops.values()):
        drawn["stops"] = partial(plot_stops, found.matrices)
    if any(found.grades):
        drawn["grades"] = partial(plot_grades, found.grades, found.groundedness)
    if any(any(level.counts) for level in found.matrices.levels):
        drawn["levels"] = partial(plot_levels, found.matrices)
    return drawn
