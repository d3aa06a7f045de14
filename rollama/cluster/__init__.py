"""Jobs and services on Kubernetes through KubeRay: built strictly, submitted once, followed to a truthful end.

KubeRay starts Ray and Ray runs the training; this room only writes the custom resources, refuses beforehand what would
be refused or ignored later, and reads back how it ended and why. It uses `rollama.core` and is the only room that
imports the Kubernetes client, and that only in `client.py`, when a connection is made.
"""
