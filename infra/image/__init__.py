"""The container image: Dockerfile, a base for machines without a registry, the build, and a smoke test."""
