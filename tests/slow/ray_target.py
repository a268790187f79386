"""A run on a Ray cluster that a test kills: python ray_target.py RUN LOG WORKERS."""

import os
import sys
from functools import partial
from pathlib import Path

from reflectory import ReflectiveLoop
from reflectory.cluster import map_on_ray
from reflectory.config.cluster import ClusterConfig
from reflectory.errors import BackendError
from reflectory.testing.models import ScriptedModel
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld

WORLD = SyntheticWorld(skill=0.5, gain=0.4, levels=2)
ASKED = [f"What is known of number {i}?" for i in range(12)]
CLUSTER = ClusterConfig(engine="ray", workers=2, cpus=0.5, patience_s=60)


def logged(model: ScriptedModel, log: Path | None, delay_s: float) -> ScriptedModel:
    """Return a slow model that writes down every call that it is asked to make, and where."""

    async def speak(request):
        if log is not None:
            line = f"{os.getpid()}\t{request.role}\t{request.seed}\t{request.segments[-1].text!r}\n"
            with log.open("a", encoding="utf-8") as file:
                file.write(line)
        if "broken" in request.segments[-1].text:
            raise BackendError("the server refuses this one", hint="ask another", retryable=False)
        if "deadly" in request.segments[-1].text:
            os._exit(1)
        return (await model.complete(request)).text

    return ScriptedModel(speak, name=model.fingerprint, delay_s=delay_s)


def make_loop(log: Path | None = None, delay_s: float = 0.0) -> ReflectiveLoop:
    """Return the loop that every worker makes for itself."""
    return ReflectiveLoop(
        WORLD.documents(),
        teacher=logged(WORLD.teacher(), log, delay_s),
        student=logged(WORLD.student(), log, delay_s),
        grader=WORLD.grader(),
        embedder=ConstantEmbedder(),
        config=WORLD.config(max_iterations=3, epsilon=1e-9),
    )


def main(run: Path, log: Path, workers: int) -> None:
    """Run all instructions and print the id of each as it is done."""
    make = partial(make_loop, log, 0.05)
    cluster = CLUSTER.model_copy(update={"workers": workers})
    for trajectory in map_on_ray(make, ASKED, concurrency=2, output=run, cluster=cluster):
        print(trajectory.id, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
