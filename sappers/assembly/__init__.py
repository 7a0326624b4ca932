"""The composition root: the only place that names adapters. One file a command."""
