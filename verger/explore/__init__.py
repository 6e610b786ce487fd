"""A finished run as a map in the browser."""
