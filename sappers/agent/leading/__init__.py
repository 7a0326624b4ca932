"""What a member does because it leads."""
