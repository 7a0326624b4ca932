"""The messaging hub: nats-server and its supervision, clients, credentials, durable streams."""
