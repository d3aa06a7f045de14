"""What the platform runs on: the image, the test cluster, CI examples, set-up scripts."""
