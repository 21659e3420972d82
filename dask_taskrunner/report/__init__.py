"""The report of a flow run: one file that tells all, without a network and without this package."""
