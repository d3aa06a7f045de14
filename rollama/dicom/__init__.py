"""DICOM in and out of the hospital's systems. Uses core and data only."""
