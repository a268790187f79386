"""Logs for machines: one JSON object per line, with the place it speaks of.

Every module of this package logs through :mod:`logging`, so any handler of yours
works; the formatter here adds run, round, loop, step, iteration and level.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reflectory.config.checkpoints import without_passwords
from reflectory.errors import StorageError
from reflectory.observability.place import Place, current_place

_SECRET_NAME = re.compile(r"(API_?KEY|TOKEN|SECRET|SECRET_KEY|ACCESS_KEY|PASSWORD)$")
_SHORTEST_SECRET = 8
_HIDDEN = "***"


class JsonFormatter(logging.Formatter):
    """One line of JSON per record.

    Fields: ``time`` (UTC, ISO 8601), ``severity``, ``logger``, ``message``; then the
    place, as far as it is known (``run``, ``round``, ``loop``, ``step``, ``iteration``,
    ``level``); then what the record says besides, and ``error`` with the class and the
    traceback's text of an exception. The values of the environment's keys and the
    passwords of addresses are replaced by ``***`` wherever they stand.

    Args:
        environment: Whose variables hold keys; the process's own when ``None``.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        super().__init__()
        known = os.environ if environment is None else environment
        self._secrets = sorted(
            {
                value
                for name, value in known.items()
                if _SECRET_NAME.search(name.upper()) and len(value) >= _SHORTEST_SECRET
            },
            key=len,
            reverse=True,
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, without a line break at its end."""
        place = getattr(record, "place", None)
        where = (place if isinstance(place, Place) else current_place()).fields()
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "logger": record.name,
            "message": self._clean(record.getMessage()),
            **where,
        }
        for name, value in getattr(record, "fields", {}).items():
            line.setdefault(name, self._clean(value) if isinstance(value, str) else value)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["traceback"] = self._clean(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return without_passwords(text)


@contextmanager
def json_log(path: str | Path, level: int = logging.DEBUG) -> Iterator[None]:
    """Write what this package logs in the block to a file, as JSON Lines.

    Args:
        path: The file; lines are added to one that is there.
        level: The lowest severity that is written. ``DEBUG`` has a line per node and
            per call, ``INFO`` one where a loop starts and ends.

    Raises:
        StorageError: The file cannot be written.
    """
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(file, encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(
            f"cannot write the log {file}: {error.strerror or error}",
            hint="name a file in a folder that may be written",
        ) from error
    handler.setFormatter(JsonFormatter())
    handler.setLevel(level)
    logger = logging.getLogger("reflectory")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()
