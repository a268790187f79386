"""The nearest pipeline of distilabel, for ``bench/orchestration.py``.

    python bench/orchestration_distilabel.py PROMPTS.json SLEEP_SECONDS

Runs in an environment of its own and prints one line of JSON. ``PROMPTS.json`` holds for each
loop its prompts by stage; here they are seven tasks in a row, with a row per prompt. Each task
is a process of its own, as distilabel has it, and works on up to 100 rows at once, so all of
them together may have more calls in flight than the model of the others has places.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distilabel.models.llms import AsyncLLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, Step, StepInput
from distilabel.steps.tasks import TextGeneration

PLACES = 100


class Double(AsyncLLM):
    """A model that answers at once or after a sleep, and notes when.

    Attributes:
        log: File of the times.
        delay_s: How long every call takes.
    """

    log: str
    delay_s: float = 0.0

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return "double"

    async def agenerate(  # type: ignore[override]
        self, input: Any, num_generations: int = 1
    ) -> dict[str, Any]:
        """Say the same to everything."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        text = "The water stands two metres higher."
        return {
            "generations": [text],
            "statistics": {"input_tokens": [500], "output_tokens": [12]},
        }

    def generate(self, inputs: Any, **kwargs: Any) -> Any:
        """Answer a batch, and note when it began and ended."""
        began = time.time()
        found = super().generate(inputs, **kwargs)
        with Path(self.log).open("a") as file:
            file.write(f"{began} {time.time()} {len(inputs)}\n")
        return found


class Rows(Step):
    """Makes of each loop's rows one row per prompt of a stage.

    Attributes:
        stage: Number of the stage.
    """

    stage: int

    @property
    def inputs(self) -> list[str]:
        """Columns that are read."""
        return ["loop", "prompts"]

    @property
    def outputs(self) -> list[str]:
        """Columns that are written."""
        return ["loop", "prompts", "instruction"]

    def process(self, inputs: StepInput) -> Any:  # type: ignore[valid-type]
        """Yield the rows of a batch."""
        seen: dict[str, Any] = {row["loop"]: row["prompts"] for row in inputs}
        yield [
            {"loop": loop, "prompts": prompts, "instruction": text}
            for loop, prompts in seen.items()
            for text in json.loads(prompts)[self.stage]
        ]


def measure(loops: list[list[list[str]]], delay_s: float) -> dict[str, float]:
    """Return what the pipeline takes from its first call to its last."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "times"
        data = [{"loop": str(i), "prompts": json.dumps(loop)} for i, loop in enumerate(loops)]
        with Pipeline(name="loop") as pipeline:
            last: Any = LoadDataFromDicts(data=data, batch_size=PLACES)
            for stage in range(len(loops[0])):
                # A loop's four rows come as neighbours, and 100 is a multiple of four.
                rows = Rows(name=f"rows_{stage}", stage=stage, input_batch_size=PLACES)
                task = TextGeneration(
                    name=f"task_{stage}",
                    llm=Double(log=str(log), delay_s=delay_s),
                    input_batch_size=PLACES,
                    add_raw_output=False,
                    add_raw_input=False,
                    output_mappings={"generation": f"said_{stage}", "model_name": f"by_{stage}"},
                )
                last >> rows >> task
                last = task
        pipeline.run(use_cache=False)
        times = [tuple(map(float, line.split())) for line in log.read_text().splitlines()]
    began, ended = min(t[0] for t in times), max(t[1] for t in times)
    return {"seconds": ended - began, "calls": int(sum(t[2] for t in times))}


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps({"loops": len(given), **measure(given, float(sys.argv[2]))}))
