"""From SSH hosts to agents: inventory, connection, playbooks and their modules, bootstrap."""
