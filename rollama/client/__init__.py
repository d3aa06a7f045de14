"""A typed client of the inference endpoint: texts at once, targets as jobs."""

from rollama.client.endpoint import Endpoint, EndpointError, Job

__all__ = ["Endpoint", "EndpointError", "Job"]
