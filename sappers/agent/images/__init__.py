"""The images on this member: brought by its peers, kept, given to others."""
