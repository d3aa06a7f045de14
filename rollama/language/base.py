"""One way to get a base language model, whatever its name, with a hash that says which it is.

S, P and the text encoder of SEG all stand on a LLaMA-type base. An adapter trained on one base gives nonsense on
another, so every loaded base carries the hash of its weights and of its tokenizer, and artefacts record both.

Nothing is downloaded unless `allow_download` is set: `smollm2` comes from an installed package (see `bundled`),
`tiny` is built from configuration, any other name is a local folder, a reference into a store that this machine reaches
(`rollama push base`), or an already cached hub id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rollama.core.cache import cache_folder
from rollama.core.config import hash_json
from rollama.core.errors import ConfigError
from rollama.core.files import hash_file, read_json, write_json
from rollama.core.registry import BUNDLED_BASES
from rollama.data.store import is_reference, resolve
from rollama.language.prepared import RECORD

WRITER = ("transformers_version", "_name_or_path")
"""Entries of config.json that say who wrote it and from where, not what the model is."""


@dataclass(frozen=True)
class BaseInfo:
    """Which base a model stands on: asked-for name, SHA-256 of weights and of tokenizer, and a remark.

    `former_hash` is the weights' as it was reckoned until November 2026, from config.json to the byte: it changed with
    the version of Transformers that had written the file, although the weights were the same. Artefacts may hold it.
    """

    name: str
    weights_hash: str
    tokenizer_hash: str
    remark: str = ""
    former_hash: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain values for a manifest."""
        return {
            "name": self.name,
            "weights_hash": self.weights_hash,
            "tokenizer_hash": self.tokenizer_hash,
            "remark": self.remark,
        }

    def other(self, recorded: Mapping[str, str]) -> str | None:
        """The first of `weights_hash` and `tokenizer_hash` that an artefact's record has otherwise; None: the same."""
        if recorded.get("weights_hash") not in {self.weights_hash, self.former_hash or self.weights_hash}:
            return "weights_hash"
        return None if recorded.get("tokenizer_hash") == self.tokenizer_hash else "tokenizer_hash"


def base_folder(name: str, allow_download: bool = False) -> Path:
    """The folder with the base's `config.json`, safetensors and tokenizer; bundled bases are prepared on first use.

    Raises:
        ConfigError: no such base here, and downloading was not asked for.
        DataError, ClusterError: a reference that cannot be pulled.
    """
    from rollama.language import bundled, tiny

    if name == "smollm2":
        return bundled.prepare_smollm2()
    if name == "tiny":
        return tiny.prepare_tiny()
    folder = resolve(name) if is_reference(name) else Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"base model {name!r}: the folder has no config.json; give a saved Transformers model")
        return folder
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        patterns = ["*.json", "*.jinja", "*.safetensors", "tokenizer*"]
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=not allow_download))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        bundled_names = ", ".join(BUNDLED_BASES)
        raise ConfigError(
            f"base model {name!r}: neither one of {bundled_names}, nor a folder, nor a reference as 'rollama push "
            "base' prints it, nor in the local hub cache; downloading happens only with allow_download=true"
        ) from error


def base_info(name: str, allow_download: bool = False) -> BaseInfo:
    """Name and hashes of a base without loading it. Hashes of large folders are cached by file size and time."""
    folder = base_folder(name, allow_download)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ConfigError(f"base model {name!r}: {folder} holds no *.safetensors; other weight formats are not loaded")
    tokenizer = sorted(path for path in folder.glob("*token*.json"))
    remark_file = folder / RECORD
    remark = read_json(remark_file)["remark"] if remark_file.is_file() else ""
    config = folder / "config.json"
    values = {key: value for key, value in read_json(config).items() if key not in WRITER}
    hashes = {config.name: hash_json(values)} | {path.name: _cached_hash(path) for path in weights}
    return BaseInfo(name, hash_json(hashes), _hash_files(tokenizer), remark, _hash_files([config, *weights]))


def load_tokenizer(name: str, allow_download: bool = False) -> Any:
    """The base's tokenizer, padding on the left (for generation)."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_folder(name, allow_download), padding_side="left")


def load_base(name: str, dtype: torch.dtype = torch.float32, allow_download: bool = False) -> tuple[Any, Any, BaseInfo]:
    """Load a base: (model in eval mode, tokenizer, info). The model's weights are of `dtype`, on the CPU.

    Raises:
        ConfigError: the base is not here, or is not of the LLaMA architecture.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()  # our own progress bars say what is being done
    folder = base_folder(name, allow_download)
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "llama":
        raise ConfigError(f"base model {name!r}: model_type is {kind!r}; accepted: 'llama'")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa", local_files_only=True)
    model.eval()
    return model, load_tokenizer(name, allow_download), base_info(name, allow_download)


def seg_token_id(tokenizer: Any) -> int:
    """Id of the reserved token that stands for `<SEG>`.

    A token named `<SEG>` if the tokenizer has one, else the first reserved one that clinical text never contains.

    Raises:
        ConfigError: the tokenizer reserves none; name a base whose tokenizer does.
    """
    vocabulary = tokenizer.get_vocab()
    for token in ("<SEG>", "<empty_output>", "<|reserved_special_token_0|>", "<unk>"):
        if token in vocabulary:
            return int(vocabulary[token])
    raise ConfigError("the base's tokenizer has no reserved token for <SEG>; add '<SEG>' to it and save it again")


def _hash_files(paths: list[Path]) -> str:
    return hash_json({path.name: _cached_hash(path) for path in paths if path.is_file()})


def _cached_hash(path: Path) -> str:
    status = path.stat()
    if status.st_size < 1 << 20:
        return hash_file(path)
    key = hash_json([str(path.resolve()), status.st_size, status.st_mtime_ns])
    record = cache_folder() / "hashes" / f"{key}.json"
    if record.is_file():
        return str(read_json(record))
    value = hash_file(path)
    write_json(record, value)
    return value
