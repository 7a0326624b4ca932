"""This member's seat: whether it votes or only follows, and what it has of its vote on its disk."""
