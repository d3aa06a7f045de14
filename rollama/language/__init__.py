"""Base language models: the bundled SmolLM2, the test-sized `tiny`, local folders and hub ids."""
