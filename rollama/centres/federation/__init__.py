"""Federated training on Flower: data stay, weights move. Runs in an environment of its own, without torch or Ray."""
