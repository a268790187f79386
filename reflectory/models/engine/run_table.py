"""Columns of the table of runs that compiled attention reads; addresses are in bytes.

A run is keys and values that lie somewhere in memory, and who looks at them.
"""

KEY, VALUE = 0, 1
"""Addresses of the first key and the first value."""

HEAD_STEP, KEY_STEP = 2, 3
"""Numbers from a head to the next, and from a key to the next."""

COUNT = 4
"""How many keys there are."""

FIRST, BEHIND = 5, 6
"""The first token that sees them, and the one behind the last."""

GROWS = 7
"""1 if the first token sees one key, the next one more, and so on; 0 if all see all."""

NEW = 8
"""Address of the last key and value, which are copied to their place first; 0 for none."""

COLUMNS = 9
