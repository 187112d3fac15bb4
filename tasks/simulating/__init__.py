"""Simulate: states that might have been, drawn from what a shadow predicts of them."""
