"""A run in a synthetic world that a test kills: python kill_target.py RUN LOG."""

import sys
from pathlib import Path

from holding import wait_while_held
from worlds import world_loop

from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import SyntheticWorld

WORLD = SyntheticWorld(skill=0.5, gain=0.4, levels=3)
INSTRUCTIONS = ["What is known?", "What is unknown?", "What follows?"]


def logged(model: ScriptedModel, log: Path, delay: float = 0.02) -> ScriptedModel:
    """Return a slow model that writes down every call it is asked to make."""

    async def speak(request):
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{request.role}\t{request.seed}\t{request.segments[-1].text!r}\n")
        await wait_while_held(log)
        return (await model.complete(request)).text

    return ScriptedModel(speak, name=model.fingerprint, delay_s=delay)


def main(run: Path, log: Path) -> None:
    loop = world_loop(
        WORLD,
        max_iterations=3,
        epsilon=1e-9,
        revision={"accept": "better", "drafts": 2, "temperature": 0.5},
        teacher=logged(WORLD.teacher(), log),
        student=logged(WORLD.student(), log),
    )
    for trajectory in loop.map(INSTRUCTIONS, concurrency=2, output=run):
        print(trajectory.id, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
