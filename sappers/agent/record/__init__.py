"""What happened, written down on this member."""
