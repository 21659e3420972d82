"""Draws graphs of tasks: where each node stands, and the picture of it. It knows plain data."""
