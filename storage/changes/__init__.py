"""What a source has changed since it was captured, and how a repository goes on with it."""
