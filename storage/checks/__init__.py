"""What is asked of each chunk: a statistic that the ledger keeps, and the values it may have."""
