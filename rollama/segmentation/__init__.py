"""RO-LLaMA-SEG: a CT and a plan's text in, a 3D target volume out."""
