"""Forecasting models beside the built-in ones, each in a file, chosen by name."""
