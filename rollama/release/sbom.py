"""The software bill of materials of a release, as CycloneDX: packages, models and data sets, by hash."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from rollama import RESEARCH_ONLY, __version__
from rollama.core.errors import ConfigError
from rollama.release.verdict import Parts


def make_sbom(
    parts: Parts, manifests: Mapping[str, Mapping[str, Any]], hashes: Mapping[str, str], data: Mapping[str, str]
) -> bytes:
    """CycloneDX 1.6 as JSON.

    Args:
        parts: the release.
        manifests: of its models.
        hashes: model -> SHA-256 of its weights.
        data: content hash -> name of each data set that a model was trained on.

    Raises:
        ConfigError: the package cyclonedx-python-lib is missing.
    """
    try:
        from cyclonedx.model import HashAlgorithm, HashType, Property
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
        from packageurl import PackageURL
    except ImportError as error:
        raise ConfigError(
            "the package cyclonedx-python-lib is missing; install rollama with its extra 'release'"
        ) from error

    def digest(value: str) -> list[Any]:
        return [HashType(alg=HashAlgorithm.SHA_256, content=value)]

    bom = Bom()
    bom.metadata.component = root = Component(
        name="rollama-release", version=parts.release[:16], type=ComponentType.APPLICATION, bom_ref="release",
        description=RESEARCH_ONLY, properties=[Property(name="rollama:release", value=parts.release)],
    )  # fmt: skip
    found = [
        Component(
            name="rollama", version=__version__, type=ComponentType.LIBRARY, bom_ref=f"pkg:pypi/rollama@{__version__}"
        )
    ]
    for name, content in parts.digests.items():
        manifest = manifests[name]
        facts = {"digest": content, "config": str(manifest.get("config_hash")), "code": str(manifest.get("revision"))}
        base = manifest.get("base") or manifest.get("encoder")
        if isinstance(base, Mapping):
            facts |= {f"base.{key}": str(value) for key, value in base.items() if key != "remark"}
        found.append(
            Component(
                name=f"rollama-{name}",
                version=content[:16],
                type=ComponentType.MACHINE_LEARNING_MODEL,
                bom_ref=f"model:{name}",
                hashes=digest(hashes[name]),
                properties=[Property(name=f"rollama:{key}", value=value) for key, value in facts.items()],
            )
        )
    for content, label in data.items():
        found.append(
            Component(
                name=label,
                version=content[:16],
                type=ComponentType.DATA,
                bom_ref=f"data:{content}",
                hashes=digest(content),
            )
        )
    packages = {
        str(item.metadata["Name"]).lower(): str(item.version)
        for item in importlib.metadata.distributions()
        if item.metadata["Name"] and str(item.metadata["Name"]).lower() != "rollama"
    }
    for name, version in sorted(packages.items()):
        url = PackageURL("pypi", None, name, version)
        found.append(
            Component(name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=url.to_string())
        )
    for component in found:
        bom.components.add(component)
    bom.register_dependency(root, found)
    return JsonV1Dot6(bom).output_as_string(indent=1).encode()
