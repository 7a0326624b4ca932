"""One task on one host: the variables it sees, what is to be done, what came of it."""
