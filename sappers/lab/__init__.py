"""Throw-away hosts on this machine: systemd-nspawn containers with their own systemd and sshd."""
