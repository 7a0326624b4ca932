"""What playbooks say: reads YAML to plays, blocks and tasks, and refuses what is wrong."""
