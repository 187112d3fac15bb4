"""When, in which order, and what to do on failure."""
