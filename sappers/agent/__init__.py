"""The agent's loop: observe, decide, act."""
