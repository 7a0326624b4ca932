"""What is written down of a run, what a resumed one takes over, what is kept secret."""
