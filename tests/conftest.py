"""What all tests share. Nothing heavy: unit tests import neither a cluster nor what draws."""
