"""What we use of MONAI, imported here alone, because MONAI loads all of itself and its companions at the first import.

Without those companions it takes a quarter of the time (`benchmarks/imports.py`).
"""

from __future__ import annotations

from rollama.core.imports import not_installed

COMPANIONS = ("matplotlib", "mlflow", "pandas", "sklearn", "transformers", "transformers.models.bert.modeling_bert")

with not_installed(*COMPANIONS):
    from monai.data.utils import compute_importance_map
    from monai.losses.dice import DiceCELoss
    from monai.metrics.utils import get_mask_edges
    from monai.networks.blocks.dynunet_block import UnetResBlock
    from monai.networks.blocks.unetr_block import UnetrUpBlock
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.dictionary import (
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )
    from monai.transforms.transform import MapTransform, RandomizableTransform

__all__ = [
    "Compose",
    "DiceCELoss",
    "MapTransform",
    "RandGaussianNoised",
    "RandGaussianSmoothd",
    "RandScaleIntensityd",
    "RandShiftIntensityd",
    "RandomizableTransform",
    "UnetResBlock",
    "UnetrUpBlock",
    "compute_importance_map",
    "get_mask_edges",
]
