"""Cases, plans and datasets on disk; prompts, tokenised rows and volumes. Knows no model."""
