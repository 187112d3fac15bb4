"""What is kept of each variable, state after state: captures, shadows, forecaster."""
