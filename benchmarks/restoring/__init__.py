"""What restores are worth: benchmarks of `python -m benchmarks.restore`, one module each."""
