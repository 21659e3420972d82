"""Flows that ship with the package. They use its public names only, and are there to be copied."""
