"""The HTTP API: routes, wire schema, client."""
