"""The work of the graph of rounds: stages, decisions, and the record of each round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reflectory.errors import IntegrityError
from reflectory.graphs.round_state import StageOutcome
from reflectory.improvement import checking, learning, practising
from reflectory.improvement.lineage import (
    ROUND_FILE,
    STUDENTS_FILE,
    add_student,
    read_lineage,
    read_rounds,
    write_lineage,
    write_round,
)
from reflectory.improvement.records import Decision, RoundRecord, StudentRecord
from reflectory.improvement.workshop import Workshop
from reflectory.runs.manifest import LIBRARIES, library_versions, working_copy_commit
from reflectory.training.lineage import read_adapter_manifest

SETTINGS = ("practice", "candidates", "curation", "training", "improvement")
"""Parts of the configuration that a round records, because they may change between rounds."""


class Rounds:
    """Meets :class:`~reflectory.graphs.round_state.RoundWork` with the real stages.

    Args:
        shop: Where the rounds are worked on.
    """

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    async def begin(self) -> tuple[int, int]:
        """Return the next round and the current student, after closing what is unfinished."""
        shop = self._shop
        lineage = read_lineage(shop.run.path)
        if not (shop.run.path / STUDENTS_FILE).exists():
            write_lineage(shop.run.path, lineage)
        number = len(read_rounds(shop.run.path))
        if number >= shop.settings.improvement.rounds:
            return number, lineage.current
        folder = shop.round(number)
        folder.clean()
        await shop.crew.use_seed(shop.round_seed(shop.settings.loop.seed, "loops", number))
        began_with = folder.noted("student")
        trained = lineage.of_round(number)
        if trained is not None:
            # It was decided, and a kill came before the record of the round.
            decision: Decision = "promoted" if trained.decision == "promoted" else "rolled_back"
            self._record(number, decision, trained.reason, trained=trained)
            return await self.begin()
        if began_with is not None and began_with != lineage.current:
            reason = f"student {lineage.current} was restored while the round was made"
            self._record(number, "abandoned", reason)
            return await self.begin()
        if began_with is None:
            folder.note("student", lineage.current)
        return number, lineage.current

    async def practise(self, number: int) -> StageOutcome:
        """Write the questions of the round."""
        return await practising.practise(self._shop, number)

    async def reflect(self, number: int) -> StageOutcome:
        """Run the loops."""
        return await practising.reflect(self._shop, number)

    async def gather(self, number: int) -> StageOutcome:
        """Gather the candidates."""
        return await practising.gather(self._shop, number)

    async def curate(self, number: int) -> StageOutcome:
        """Make the data set."""
        return await learning.make_rows(self._shop, number)

    async def train(self, number: int) -> StageOutcome:
        """Train the adapter."""
        return await learning.train(self._shop, number)

    async def evaluate(self, number: int) -> StageOutcome:
        """Compare both students."""
        return await checking.evaluate(self._shop, number)

    async def promote(self, number: int, said: Mapping[str, bool]) -> None:
        """Make the new adapter the current student and record the round."""
        self._decide(number, "promoted", said)

    async def roll_back(self, number: int, said: Mapping[str, bool]) -> None:
        """Keep the student and record why."""
        self._decide(number, "rolled_back", said)

    async def fail(self, number: int, failure: Mapping[str, str]) -> None:
        """Keep the student and record what ended the round."""
        reason = f"{failure['stage']}: {failure['message']}"
        self._record(number, "failed", reason, failure=dict(failure))

    def review(self, number: int, what: str) -> Mapping[str, Any]:
        """Return what a person is shown."""
        shop = self._shop
        folder = shop.round(number)
        if what == "rows":
            counts = folder.counts("curate")
            return {"path": str(folder.path / learning.DATASET), "counts": counts}
        found = checking.evaluation_of(shop, number)
        return {
            "path": str(folder.path / checking.EVALUATION),
            "promote": found.decision.promote,
            "reason": found.decision.reason,
            "warnings": list(found.decision.warnings),
            "figures": found.figures,
            "forgetting": str(found.forgetting),
        }

    def _decide(self, number: int, decision: Decision, said: Mapping[str, bool]) -> None:
        shop = self._shop
        if _is_over(shop, number):
            return
        if said.get("rows") is False:
            self._record(number, decision, "a person refused the rows", said=said)
            return
        found = checking.evaluation_of(shop, number)
        reason = found.decision.reason
        if "promotion" in said and said["promotion"] != found.decision.promote:
            reason = f"a person decided against the rule, which said: {reason}"
        student = self._trained(number, decision, reason, found.figures["after"])
        self._record(number, decision, reason, trained=student, said=said, evaluation=found)

    def _trained(
        self, number: int, decision: Decision, reason: str, figures: Mapping[str, float]
    ) -> StudentRecord:
        """Add the student of a round to the lineage; the one step that promotes it."""
        shop = self._shop
        old = shop.student(number)
        folder = shop.round(number).path / learning.ADAPTER
        manifest = read_adapter_manifest(folder)
        return add_student(
            shop.run.path,
            StudentRecord(
                number=0,
                adapter=folder.relative_to(shop.run.path).as_posix(),
                sha256=manifest.weights_sha256,
                parent=None if shop.settings.improvement.start == "base" else old.number,
                round=number,
                rows=manifest.rows,
                rows_sha256=manifest.rows_sha256,
                decision="promoted" if decision == "promoted" else "rolled_back",
                reason=reason,
                figures=dict(figures),
                versions=library_versions(LIBRARIES),
                commit=working_copy_commit(shop.run.path),
            ),
        )

    def _record(
        self,
        number: int,
        decision: Decision,
        reason: str,
        *,
        trained: StudentRecord | None = None,
        said: Mapping[str, bool] | None = None,
        failure: Mapping[str, str] | None = None,
        evaluation: checking.Evaluation | None = None,
    ) -> None:
        """Write ``round.json``, which ends the round."""
        shop = self._shop
        if _is_over(shop, number):
            return
        folder = shop.round(number)
        began_with = folder.noted("student")
        if evaluation is None and trained is not None:
            evaluation = checking.evaluation_of(shop, number)
        comparisons: dict[str, dict[str, Any]] = {}
        if evaluation is not None:
            comparisons = {
                name: c.model_dump(mode="json") for name, c in evaluation.comparisons.items()
            }
            comparisons["general"] = evaluation.forgetting.model_dump(mode="json")
            if evaluation.fluency is not None:
                comparisons["fluency"] = evaluation.fluency.model_dump(mode="json")
        if began_with is None:
            raise IntegrityError(
                f"{folder.path} does not say which student round {number} began with",
                hint="take the folder away; the round is made again on recorded calls",
            )
        stages = ("practise", "reflect", "gather", "curate")
        record = RoundRecord(
            number=number,
            student=began_with,
            trained=None if trained is None else trained.number,
            decision=decision,
            reason=reason,
            warnings=evaluation.decision.warnings if evaluation is not None else (),
            reviews=dict(said or {}),
            counts={stage: counts for stage in stages if (counts := folder.counts(stage))},
            comparisons=comparisons,
            failure=dict(failure or {}),
            settings={part: shop.settings.model_dump(mode="json")[part] for part in SETTINGS},
        )
        write_round(shop.run.path, record)
        shop.watcher.round_done(record)


def _is_over(shop: Workshop, number: int) -> bool:
    return (shop.round(number).path / ROUND_FILE).exists()
