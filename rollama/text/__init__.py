"""S and P: fine-tuning a causal LM with plain, NEFTune or CEFTune loss, and generating with the result."""
