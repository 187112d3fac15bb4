"""Which states there are of a time, and how one is written as a dataset."""
