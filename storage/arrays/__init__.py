"""How arrays are written and read: metadata, residuals, shards, tables."""
