"""The judge on trial: whatever grades is measured before it is believed."""
