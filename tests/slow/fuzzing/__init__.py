"""Seeded damage to everything that comes from outside: 10,000 cases, the same ones every time."""
