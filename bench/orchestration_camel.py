"""The nearest pipeline of camel-ai, for ``bench/orchestration.py``.

    python bench/orchestration_camel.py PROMPTS.json SLEEP_SECONDS

Runs in an environment of its own and prints one line of JSON. ``SelfImprovingCoTPipeline``
answers a problem, and judges and improves the answer in turn. It writes its own prompts, here
around the first prompt of each loop, and with nine improvements makes 20 calls, one more than
the loop.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from camel.agents import ChatAgent
from camel.datagen import SelfImprovingCoTPipeline
from camel.models.stub_model import StubModel
from camel.types import ChatCompletion, ModelType

PLACES = 100


class Double(StubModel):
    """A model that answers at once or after a sleep, and notes when."""

    delay_s = 0.0
    calls: list[tuple[float, float]] = []  # noqa: RUF012  # of both agents together

    def _run(self, messages: Any, response_format: Any = None, tools: Any = None) -> Any:
        self.calls.append((time.perf_counter(), time.process_time()))
        if self.delay_s:
            time.sleep(self.delay_s)
        text = "The water stands two metres higher."
        if response_format is not None:
            grades = {"correctness": 0.1, "clarity": 0.1, "completeness": 0.1}
            text = json.dumps({**grades, "feedback": "It says where the water stands."})
        message = {"role": "assistant", "content": text}
        return ChatCompletion.model_validate(
            {
                "id": "double",
                "model": "double",
                "object": "chat.completion",
                "created": 0,
                "choices": [{"finish_reason": "stop", "index": 0, "message": message}],
                "usage": {"prompt_tokens": 500, "completion_tokens": 12, "total_tokens": 512},
            }
        )


def measure(loops: list[list[list[str]]], delay_s: float) -> dict[str, float]:
    """Return what the pipeline takes from its first call to its end."""
    logging.disable(logging.WARNING)
    Double.delay_s = delay_s
    pipeline = SelfImprovingCoTPipeline(
        reason_agent=ChatAgent(model=Double(ModelType.STUB)),
        evaluate_agent=ChatAgent(model=Double(ModelType.STUB)),
        problems=[{"problem": loop[0][0]} for loop in loops],
        max_iterations=9,
        score_threshold=0.9,
        max_workers=PLACES if delay_s else 1,  # threads are of no use where nothing waits
        batch_size=len(loops),
    )
    pipeline.generate(rationalization=False)
    began, used = Double.calls[0]
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - used,
        "calls": len(Double.calls),
    }


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps({"loops": len(given), **measure(given, float(sys.argv[2]))}))
