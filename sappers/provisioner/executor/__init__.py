"""The program that is started once on a host and then does everything there; this side of it."""
