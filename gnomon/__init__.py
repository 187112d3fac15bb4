"""The door: Python API, command line and xarray engine."""
