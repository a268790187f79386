"""The packaged example and the story that ``reflectory demo`` tells with it."""
