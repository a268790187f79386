"""Who competes in an evaluation: each yields the answers that it would give, and their cost."""
