"""How commands reach a host: over SSH, or as a child process on this machine."""
