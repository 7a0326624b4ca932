"""What is said and heard over the hub: by this member, by its guests, by the leader to all."""
