"""Pure decisions: (state, observations, now) -> plan."""
