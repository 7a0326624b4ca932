"""The language: what playbooks say, and how a run goes through it."""
