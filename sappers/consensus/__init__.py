"""The replicated log: Raft in a process of its own, the state machine, followers."""
