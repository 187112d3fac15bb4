"""What is asked of each chunk: a statistic that the ledger keeps, and what it may be."""
