"""Plain values: grids, times, types, attributes, and what they say of raw numbers."""
