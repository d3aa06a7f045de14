"""Every tensor in a capture, as `name sha256`; runs in Flower's environment, whose messages these are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.supercore.inflatable.inflatable_object import get_object_type_from_object_content
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from rollama.centres.federation.weights import digest


def main(folder: Path) -> None:
    """Put the pushed objects together again and print what tensors they hold."""
    objects: dict[str, bytes] = {}
    for path in sorted(folder.glob("*-push-object")):
        request: Any = PushObjectRequest.FromString(path.read_bytes())
        objects[request.object_id] = request.object_content
    for name, content in objects.items():
        if get_object_type_from_object_content(content) == "ArrayRecord":
            record: Any = inflate_object_from_contents(name, dict(objects), keep_object_contents=True)
            assert isinstance(record, ArrayRecord)
            for tensor, value in record.items():
                print(tensor, digest({tensor: value.numpy()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
