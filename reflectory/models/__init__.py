"""What the agents speak with: the model protocol and its implementations."""
