"""Training on several centres: pooled, each left out once, or federated; see docs/centres.md."""
