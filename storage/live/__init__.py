"""The live dataset as what it is stored in: objects that are replaced one at a time."""
