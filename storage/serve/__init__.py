"""What is kept, served as ordinary Zarr data."""
