"""What is learnt of a variable from its captures, and what it is expected to be next."""
