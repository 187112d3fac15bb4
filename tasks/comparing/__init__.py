"""Comparing: what differs between two states, captured, estimated or live, and how it looks."""
