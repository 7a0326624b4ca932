"""What runs inside a guest as PID 1: standard library and nats-py only, imported late."""
