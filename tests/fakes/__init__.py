"""Stand-ins for a cluster; what they promise is held to by the contract tests."""
