"""Consul: the host's agent as a registry of services. The only room that speaks to it."""
