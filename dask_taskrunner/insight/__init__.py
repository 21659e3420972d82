"""What the history of a flow run tells: why, how long, and what would make it faster. Pure."""
