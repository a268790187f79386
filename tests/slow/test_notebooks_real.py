"""The example notebooks with the real default models, as a reader runs them."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "docs"))
from notebooks import NOTEBOOKS, check, execute

pytestmark = pytest.mark.slow

WITH_MODELS = [path for path in NOTEBOOKS if path.stem != "alignment_matrix"]


@pytest.mark.parametrize("notebook", WITH_MODELS, ids=lambda path: path.stem)
def test_notebooks_run_with_real_models(notebook, tmp_path):
    check(execute(notebook, tmp_path, doubles=False, timeout_s=1200))
