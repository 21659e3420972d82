"""What a user writes: tasks, flows and what is between them. Nothing here runs anything."""
