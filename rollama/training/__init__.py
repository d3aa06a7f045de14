"""What text and segmentation training share: batch order, loop, callbacks, checkpoints, artefacts.

Knows neither Ray nor a method.
"""
