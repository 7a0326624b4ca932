"""Which hosts there are, with which groups and variables; in every form that Ansible reads."""
