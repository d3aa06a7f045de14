"""The inference endpoint: one HTTP ingress over a text and a segmentation deployment, on Ray Serve."""
