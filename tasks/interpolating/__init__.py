"""Interpolation in time: what a state between, before or after captures was, by numerics alone."""
