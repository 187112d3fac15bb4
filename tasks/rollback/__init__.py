"""A state is written into a live dataset: only what differs, and so that it can be taken back."""
