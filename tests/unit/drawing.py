"""The progress of a run as a console draws it."""

import io

from rich.console import Console

from reflectory.cli.progress_snapshot import Snapshot
from reflectory.cli.progress_view import ProgressView


def drawn(snapshot: Snapshot, width: int = 80, height: int = 40, **options) -> str:
    """Return what a console of that size shows."""
    console = Console(
        file=io.StringIO(),
        width=width,
        height=height,
        **{"color_system": None, "legacy_windows": False, "force_terminal": True, **options},
    )
    console.print(ProgressView(lambda: snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
