"""The command line over a synthetic world: python run_target.py LOG DELAY ARGUMENTS...

Every call that a model is asked to make is written to LOG, and takes DELAY seconds.
"""

import sys
from pathlib import Path

from kill_target import logged
from worlds import world_loop

from reflectory.cli import run
from reflectory.cli.main import run_command
from reflectory.errors import BackendError
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(levels=2)


def breakable(model: ScriptedModel, broken: Path) -> ScriptedModel:
    """Return the model, which fails on what the file ``broken`` has in it while it is there."""

    def word_of_trouble() -> str:
        return broken.read_text().strip() if broken.exists() else ""

    async def speak(request):
        word = word_of_trouble()
        if word and word in request.segments[-1].text:
            raise BackendError(f"the server does not like {word!r}", hint="wait")
        return (await model.complete(request)).text

    return ScriptedModel(speak, name=model.fingerprint)


def main(log: Path, delay: float, arguments: list[str]) -> int:
    def loop_from(settings):
        student = logged(WORLD.student(), log, delay)
        return world_loop(
            WORLD,
            max_iterations=settings.loop.max_iterations,
            teacher=logged(WORLD.teacher(), log, delay),
            student=breakable(student, log.with_suffix(".broken")),
        )

    run.loop_from = loop_from
    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
