"""The gate between training and the clinic: protocol, comparison, registry, promotion, rollback."""
