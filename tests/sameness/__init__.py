"""Playbooks on two hosts that are the same, by Ansible and by us; both have to end the same."""
