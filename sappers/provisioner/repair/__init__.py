"""How a healer logs in to a host, and what it does there."""
