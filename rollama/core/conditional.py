"""Create a file in a bucket only if it is not there yet: the one thing that pyarrow's S3 client cannot ask for.

`If-None-Match: *` makes the server decide which of several writers is first. Leases and idempotency rest on it, so a
server that does not know the condition (and would let both win) has to be found out before anything relies on it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from rollama.core.errors import ClusterError, ConfigError


def create_object(bucket: str, key: str, data: bytes) -> bool:
    """Write an object unless it exists; whether this call wrote it.

    Endpoint, region and credentials come from the environment as for `core.storage`.

    Raises:
        ClusterError: the server does not answer, refuses, or does not know the condition.
        ConfigError: the package obstore is missing.
    """
    try:
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError
    except ImportError as error:
        raise ConfigError("the package obstore is missing; install rollama with its extra 'serve'") from error
    try:
        obstore.put(_bucket(bucket, *s3_environment()), key, data, mode="create")
    except AlreadyExistsError:
        return False
    except BaseError as error:
        raise ClusterError(
            f"cannot create s3://{bucket}/{key} ({type(error).__name__}); check that the S3 server runs, that its "
            "credentials are right and that it knows conditional writes (If-None-Match)"
        ) from None
    return True


def s3_environment() -> tuple[str | None, str | None]:
    """Endpoint and region as the environment says.

    Without a region an SDK asks the machine's metadata service; another server than Amazon's ignores the region.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return endpoint, region or ("us-east-1" if endpoint else None)


@lru_cache(maxsize=8)
def _bucket(bucket: str, endpoint: str | None, region: str | None) -> Any:
    from obstore.store import S3Store

    settings: dict[str, Any] = {"client_options": {"allow_http": True, "timeout": "20s"}}
    if endpoint:
        settings["endpoint"] = endpoint
    if region:
        settings["region"] = region
    return S3Store(bucket, **settings)
