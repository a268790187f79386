"""One round on the default model: does it learn, how fast, in how much memory?"""

import json
import math
import subprocess
import sys

import pytest
import torch

from reflectory.config import TrainingConfig
from reflectory.models.engine.loading import (
    Facts,
    check_adapter,
    load_model,
    load_tokenizer,
    merge_adapter,
)
from reflectory.training import Message, PreferenceRow, Provenance, TrainingRow, train_adapter
from reflectory.training.rows import assistant
from reflectory.training.tokens import tokenise_rows

pytestmark = pytest.mark.slow

DOCUMENTS = (
    "[1] The crater was mapped twice. The first mission dated its floor by counting small "
    "craters, the second by the decay of potassium in a sample that was brought back. "
)


def rows(count, repetitions=10):
    return [
        TrainingRow(
            prompt=(
                Message(role="system", content="You work with documents."),
                Message(
                    role="user",
                    content=DOCUMENTS * (repetitions + i % 5)
                    + f"\n\nQuestion: what dates rock {i}?",
                ),
            ),
            completion=assistant(f"Rock {i} is dated by the decay of its potassium. [1]"),
            provenance=Provenance(
                trajectory=f"t{i}", what="response", iteration=1, grader="rule", score=0.9
            ),
        )
        for i in range(count)
    ]


def loss_on(model, tokenizer, row):
    tokens = tokenise_rows(tokenizer, [row], 1024).rows[0]
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor([tokens.input_ids]), labels=torch.tensor([tokens.labels])
        )
    return out.loss.item()


def test_twenty_steps_learn_what_unseen_rows_share(language_model, tmp_path):
    *seen, unseen = rows(21)
    report = train_adapter(
        seen, language_model, tmp_path / "adapter", TrainingConfig(max_steps=20, batch_size=2)
    )
    print(f"{report.tokens_per_second:.0f} tokens/s, {report.seconds:.1f} s of training")
    assert report.losses[-1] < report.losses[0] / 2
    assert 0.0 < report.trainable_fraction < 0.05
    model = load_model(language_model, torch.device("cpu"), torch.float32)
    tokenizer = load_tokenizer(language_model)
    before = loss_on(model, tokenizer, unseen)
    fingerprint = report.manifest.base_fingerprint
    files = check_adapter(tmp_path / "adapter", Facts.of(model, fingerprint), fingerprint)
    assert loss_on(merge_adapter(model, files), tokenizer, unseen) < before / 2


def test_pairs_are_told_apart_and_the_plan_is_near(language_model, tmp_path):
    pairs = [
        PreferenceRow(
            prompt=row.prompt,
            chosen=row.completion,
            rejected=assistant(
                "The first mission counted small craters, and nothing more is known."
            ),
            margin=0.5,
            provenance=row.provenance,
        )
        for row in rows(8, 4)
    ]
    config = TrainingConfig(objective="dpo", batch_size=2, preference_learning_rate=3e-4)
    report = train_adapter([], language_model, tmp_path / "adapter", config, preferences=pairs)
    print(
        f"planned {report.plan.seconds:.0f} s, took {report.seconds:.0f} s; planned "
        f"{report.plan.memory.total / 1e9:.2f} GB, peak {report.peak_memory / 1e9:.2f} GB"
    )
    assert report.losses[0] == pytest.approx(math.log(2), abs=0.02)
    assert report.losses[-1] < report.losses[0] / 1.5
    # A prompt is read once for both completions.
    assert report.plan.tokens == report.manifest.tokens
    seen = report.tokens_per_second * report.seconds
    assert seen == pytest.approx(report.plan.tokens, rel=0.01)
    # The machine may be busy with other things.
    assert report.plan.seconds / 5 < report.seconds < report.plan.seconds * 10


def test_memory_stays_modest_at_four_rows_of_700_tokens(language_model, tmp_path):
    # In a process of its own: the peak of a process covers all that it ever did.
    done = subprocess.run(
        [sys.executable, __file__, str(language_model), str(tmp_path / "adapter")],
        capture_output=True,
        text=True,
        check=True,
    )
    tokens, peak = json.loads(done.stdout.splitlines()[-1])
    print(f"peak memory {peak / 1e9:.2f} GB")
    assert tokens >= 600
    assert peak < 6e9


def measure_memory(base, output):
    """Print the mean length of the rows and the peak memory of this process in bytes."""
    config = TrainingConfig(max_steps=1, batch_size=4)
    report = train_adapter(rows(4, 20), base, output, config)
    print(json.dumps([report.manifest.tokens / 4, report.peak_memory]))


if __name__ == "__main__":
    measure_memory(sys.argv[1], sys.argv[2])
