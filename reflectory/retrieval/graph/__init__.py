"""The knowledge graph of an index: made from structures, walked, saved and shown."""
