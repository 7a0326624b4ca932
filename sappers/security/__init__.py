"""Cluster CA, certificates, TLS contexts."""
