"""Gossip, by kinship."""
