"""What is captured of a source, and how it is measured as it comes."""
