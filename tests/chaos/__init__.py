"""Real faults on real hosts, while clients write and read: `python -m tests.chaos`."""
