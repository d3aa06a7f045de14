"""Configuration, errors, files, seeds and run records. Imports neither torch nor ray."""
