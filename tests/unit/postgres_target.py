"""The run of ``kill_target`` with its checkpoints in PostgreSQL: RUN LOG ADDRESS."""

import sys
from pathlib import Path

from kill_target import INSTRUCTIONS, WORLD, logged
from worlds import world_loop

from reflectory.background import BACKGROUND
from reflectory.runner import Runner, run_config_of
from reflectory.runs import read_instructions


def run_in(run, log, checkpoints, instructions=INSTRUCTIONS, **models):
    """Run all instructions and return their trajectories."""
    settings = {
        "teacher": logged(WORLD.teacher(), log),
        "student": logged(WORLD.student(), log),
    }
    loop = world_loop(WORLD, max_iterations=3, epsilon=1e-9, **{**settings, **models})
    config = run_config_of(loop.sources, loop.config)
    runner = Runner(loop, settings=config.model_copy(update={"checkpoints": checkpoints}))
    stream = runner.stream(read_instructions(instructions), concurrency=2, output=run)
    return list(BACKGROUND.iterate(stream))


if __name__ == "__main__":
    for trajectory in run_in(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]):
        print(trajectory.id, flush=True)
