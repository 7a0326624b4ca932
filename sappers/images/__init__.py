"""Image definitions, builders, the content-addressed store."""
