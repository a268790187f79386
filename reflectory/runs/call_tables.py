"""The tables of the call cache: calls, the texts of their prompts, and what was pruned or lent."""

from __future__ import annotations

SCHEMA_VERSION = 1
SCRIPT = """
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    text TEXT NOT NULL
);
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    request TEXT NOT NULL,
    response TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    reused_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    created REAL NOT NULL
)
"""
ADDITIONS = (
    """
CREATE TABLE IF NOT EXISTS pruned (
    role TEXT NOT NULL,
    model TEXT NOT NULL,
    calls INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    reused_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (role, model)
) WITHOUT ROWID
""",
    "CREATE TABLE IF NOT EXISTS lent (key TEXT PRIMARY KEY) WITHOUT ROWID",
)
"""Tables that came later: the sums of calls that were pruned, and the keys of those that another
run made. Files without them get them, and versions that do not know them work on."""
MADE = """
    SELECT CAST(role AS TEXT) AS role, CAST(model AS TEXT) AS model, 1 AS calls, prompt_tokens,
    reused_tokens, completion_tokens, seconds
    FROM calls WHERE key NOT IN (SELECT key FROM lent)
    UNION ALL
    SELECT CAST(role AS TEXT), CAST(model AS TEXT), calls, prompt_tokens, reused_tokens,
    completion_tokens, seconds
    FROM pruned
"""
"""Every call that was ever made here, those that were pruned included: what they cost is
spent."""
