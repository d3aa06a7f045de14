"""Ray Train entry points: the same functions run on a laptop's local Ray and as a RayJob on a cluster."""
