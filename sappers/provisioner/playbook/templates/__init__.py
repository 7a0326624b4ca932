"""Jinja as playbooks know it: rendering, with Ansible's filters, tests and lookups."""
