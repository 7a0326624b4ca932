"""A run of plays on hosts: who goes when, how hosts are reached, what follows failures."""
