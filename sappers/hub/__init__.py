"""The messaging hub: nats-server supervision, the client, credentials and every subject's name."""
