"""The policy of docs/versions.md: what a newer version wrote is refused, with what to do.

The other kinds of files have such a test beside the rest of their reading: trajectories,
manifests, data sets, adapters, indexes, vectors, matrices, call caches and checkpoints.
"""

import json

import pytest

from reflectory.cli.evaluate import read_report
from reflectory.errors import RunDirectoryError, UserError
from reflectory.evaluation.records import SCHEMA_VERSION
from reflectory.improvement import records
from reflectory.improvement.lineage import read_lineage, read_rounds


def test_the_report_of_a_newer_evaluation_asks_for_an_upgrade(tmp_path):
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1, "grown": []}))
    with pytest.raises(UserError, match=f"known up to {SCHEMA_VERSION}") as caught:
        read_report(tmp_path)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema_version": "9"}', "null", "\xff"])
def test_what_is_no_report_is_called_no_report(tmp_path, text):
    (tmp_path / "evaluation.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="no report") as caught:
        read_report(tmp_path)
    assert "upgrade" not in caught.value.hint


@pytest.mark.parametrize(
    ("place", "read"),
    [("rounds/000/round.json", read_rounds), ("students.json", read_lineage)],
)
def test_newer_rounds_ask_for_an_upgrade(tmp_path, place, read):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"schema_version": records.SCHEMA_VERSION + 1}))
    with pytest.raises(RunDirectoryError, match="known up to") as caught:
        read(tmp_path)
    assert "upgrade" in caught.value.hint
