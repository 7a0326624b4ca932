"""What the control machine keeps of a cluster."""
