"""What the figures of a bench depend on: date, commit, versions, machine."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reflectory.models.device import DeviceName, choose_device, describe_device


def provenance(*packages: str, device: DeviceName = "cpu") -> dict[str, Any]:
    """Return what is written beside the figures.

    Args:
        packages: Distributions whose versions matter, besides Python and reflectory.
        device: The device that is measured.
    """
    git = ["git", "-C", str(Path(__file__).parent)]

    def said(*words: str) -> str:
        command = [*git, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": said("rev-parse", "HEAD").strip(),
        "changed_files": said("status", "--short").splitlines(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("reflectory", *packages)},
        "machine": describe_device(choose_device(device)),
    }
