"""Loops over the synthetic world, for the tests of graph, facade and runner."""

from reflectory import ReflectiveLoop
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld


def world_loop(world: SyntheticWorld, **options):
    """Return a loop in a world; keyword arguments go to its configuration."""
    overrides = {
        name: options.pop(name)
        for name in ("teacher", "student", "grader", "documents", "embedder", "stop_rules")
        if name in options
    }
    settings = {
        "documents": world.documents(),
        "teacher": world.teacher(),
        "student": world.student(),
        "grader": world.grader(),
        "embedder": ConstantEmbedder(),
        **overrides,
    }
    return ReflectiveLoop(**settings, config=world.config(**options))
