"""Where checkpoints go: the setting, checked so that no password is written down."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

SCHEMES = ("postgresql://", "postgres://")
ENVIRONMENT = "env:"
"""Before the name of a variable that holds the address."""

_PASSWORD = re.compile(
    r"(?<=://)([^/@\s]*?):[^/@\s]*@|((?:ssl)?password=)[^&\s'\"]*", re.IGNORECASE
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_PARAMETERS = ("password", "sslpassword", "passfile")


def without_passwords(text: str) -> str:
    """Return an address, or a message with one in it, with ``***`` for its password."""
    return _PASSWORD.sub(lambda m: f"{m[2]}***" if m[2] else f"{m[1]}:***@", text)


def checked_checkpoints(setting: str) -> str:
    """Return the setting ``checkpoints`` of a run when it is one.

    Args:
        setting: Empty for a file in the run directory, ``postgresql://...`` without
            a password, or ``env:NAME``.

    Raises:
        ValueError: It is something else or holds a password; the message does not
            repeat it.
    """
    if not setting:
        return setting
    if setting.startswith(ENVIRONMENT):
        if not _VARIABLE.fullmatch(setting.removeprefix(ENVIRONMENT)):
            raise ValueError("env: is followed by the name of a variable, as in env:CHECKPOINTS")
        return setting
    if not setting.startswith(SCHEMES):
        raise ValueError(
            "leave it empty for a file in the run directory, or name a database: "
            "postgresql://USER@HOST/DATABASE, or env:NAME of a variable with such an address"
        )
    try:
        parts = urlsplit(setting)
        has_password = parts.password is not None
    except ValueError:
        raise ValueError("this is no address; postgresql://USER@HOST/DATABASE is one") from None
    if has_password or set(_SECRET_PARAMETERS) & set(parse_qs(parts.query)):
        raise ValueError(
            "an address in a configuration holds no password: put it into PGPASSWORD or "
            "~/.pgpass, or the whole address into a variable and name that, as env:NAME"
        )
    return setting
