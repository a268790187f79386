"""Instructions whose following can be verified by rules (IFEval; Zhou et al. 2023).

The 25 kinds of arXiv:2311.07911 by their published ids and parameters.
"""

from reflectory.evaluation.metrics.instructions.checks import CHECKS
from reflectory.evaluation.metrics.instructions.following import (
    Followed,
    FollowingAccuracy,
    Instruction,
    VerifiablePrompt,
    follow,
    following_accuracy,
    follows,
    instructions_of,
    read_verifiable_prompts,
)

__all__ = [
    "CHECKS",
    "Followed",
    "FollowingAccuracy",
    "Instruction",
    "VerifiablePrompt",
    "follow",
    "following_accuracy",
    "follows",
    "instructions_of",
    "read_verifiable_prompts",
]
