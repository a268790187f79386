"""Verification: which statements of an answer the passages in use support."""

from reflectory.agents.verification.lexical import LexicalVerifier
from reflectory.agents.verification.protocol import (
    Verifier,
    groundedness,
    statements_in,
    with_evidence,
)

__all__ = ["LexicalVerifier", "Verifier", "groundedness", "statements_in", "with_evidence"]
