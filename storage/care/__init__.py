"""Looking after a repository: check, repair, retention, forget, prune, and its size."""
