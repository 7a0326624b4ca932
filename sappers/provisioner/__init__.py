"""From SSH hosts to agents: inventory, connection, facts, phases."""
