"""Sappers: bare SSH hosts become a self-governing cluster of unikernels and micro-VMs."""

__version__ = "0.1.0"
