"""Texts: tokenised once, encoded by a sentence-transformers model without any pad too many."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.content import text_models
from pipeline.content.blocks import HIDDEN, MASK, Block, Encoder
from pipeline.content.specification import Spec
from pipeline.data import files

# Where Hugging Face models keep their blocks, and what stands above these.
BLOCKS = ("encoder.layer", "transformer.layer", "encoder.block", "encoder.layers", "layers", "h")
ABOVE = ("norm", "final_norm", "encoder.final_layer_norm", "ln_f")
# Classes whose layers can be run one by one; MiniLM is a BertModel.
BERT_LIKE = ("BertModel", "RobertaModel", "XLMRobertaModel")

SHORTEST = 3  # tokens: two marks and one of the text
TOKENISE = 8192  # texts at a time: the lists of Python integers stay small


class SentenceEncoder(Encoder):
    """A sentence-transformers model, with its own pooling and normalisation."""

    modality = "text"
    model: Any  # a sentence_transformers.SentenceTransformer, which has no types

    def __init__(self, model: Any, spec: Spec) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model.float()
        self.tokenizer = text_models.tokenizer(model, spec)
        limit = text_models.limit(model, self.tokenizer)
        if spec.max_tokens is not None and not SHORTEST <= spec.max_tokens <= limit:
            raise files.Stop(
                f"encoders.text.max_tokens is {spec.max_tokens}, but {spec.model!r} reads "
                f"{SHORTEST} to {limit} tokens (the first and last are its own marks)."
            )
        tokens = spec.max_tokens or min(limit, text_models.own_limit(self.tokenizer))
        self.spec = spec.model_copy(update={"max_tokens": tokens})
        self.width = int(model.get_embedding_dimension())
        self._reads_first = text_models.reads_first(model)
        self.unfreeze(0)

    @classmethod
    def fetch(cls, spec: Spec) -> Self:
        """Get the model from a local folder, a package that carries it, or the hub.

        Raises:
            files.Stop: it is none of these.
        """
        model = text_models.read(
            text_models.source(spec.model), spec, local=Path(spec.model).is_dir()
        )
        if spec.pooling is not None:
            text_models.pool(model, spec)
        return cls(model, spec)

    @classmethod
    def open(cls, folder: Path, spec: Spec) -> Self:
        """Read what `write` wrote."""
        return cls(text_models.read(str(folder), spec, local=True), spec)

    def write(self, folder: Path) -> None:
        """Write the model in sentence-transformers' format, whatever was tokenised before."""
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        self.model.save_pretrained(str(folder), create_model_card=False)

    def blocks(self) -> list[nn.Module]:
        """List the transformer's layers from bottom to top."""
        for name in BLOCKS:
            found = text_models.submodule(self._transformer, name)
            if isinstance(found, nn.ModuleList):
                return list(found)
        return []

    def above(self) -> list[nn.Module | nn.Parameter]:
        """List the final norm, and the modules after the transformer (such as a dense layer)."""
        norms = [text_models.submodule(self._transformer, name) for name in ABOVE]
        return [*(norm for norm in norms if norm is not None), *list(self.model)[1:]]

    def encode(self, batch: dict[str, Tensor]) -> Tensor:
        """Encode {input_ids, attention_mask}: [n, T] int64 each -> [n, C]."""
        features = dict(batch)
        for module in self.model:
            features = module(features)
        return features["sentence_embedding"]

    @property
    def can_divide(self) -> bool:
        """Whether it is an encoder as BERT is: embeddings, then layers that read one mask."""
        net = self._transformer
        return type(net).__name__ in BERT_LIKE and not net.config.is_decoder

    def enter(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Embed tokens: {hidden: [n, T, width], attention_mask: [n, T]}."""
        embedded: Tensor = self._transformer.embeddings(input_ids=batch["input_ids"])
        return {HIDDEN: embedded, MASK: batch[MASK]}

    def through(self, blocks: Iterable[Block], state: dict[str, Tensor]) -> Tensor:
        """Run layers, one after another; all read the same mask."""
        hidden, config = state[HIDDEN], self._transformer.config
        if config._attn_implementation == "sdpa":
            mask = state[MASK][:, None, None].bool()  # the library's looks at it: a GPU would wait
        else:
            from transformers.masking_utils import create_bidirectional_mask

            mask = create_bidirectional_mask(config, hidden, state[MASK])
        for block in blocks:
            hidden = block(hidden, mask)
        return hidden

    @property
    def first(self) -> Block | None:
        """How a layer is run for [CLS] alone, if pooling reads no other token."""
        is_sdpa = self._transformer.config._attn_implementation == "sdpa"
        return first_token if self._reads_first and self.can_divide and is_sdpa else None

    def leave(self, state: dict[str, Tensor]) -> Tensor:
        """Pool, and what the model has behind it."""
        hidden = state[HIDDEN]
        features = {"token_embeddings": hidden, MASK: state[MASK][:, : hidden.shape[1]]}
        for module in list(self.model)[1:]:
            features = module(features)
        return features["sentence_embedding"]

    def order(self, batch: dict[str, Tensor]) -> Tensor:
        """Order texts by length, longest first."""
        if MASK not in batch:  # whole vectors, of an encoder of which nothing trains
            return super().order(batch)
        return torch.argsort(batch[MASK].sum(dim=1), descending=True, stable=True)

    def take(self, batch: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Take some texts, padded to the longest of these alone."""
        if MASK not in batch:
            return super().take(batch, rows)
        longest = int(batch[MASK][rows].sum(dim=1).max())
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
    def _transformer(self) -> Any:  # noqa: ANN401  # a transformers model, which has few types
        return self.model[0].auto_model


def first_token(layer: Any, hidden: Tensor, mask: Tensor) -> Tensor:  # noqa: ANN401
    """Run a BERT-like layer, as `BertLayer.forward` does, for the first token alone.

    Args:
        layer: of one of BERT_LIKE, adapters inside it or not.
        hidden: [n, T, width].
        mask: [n, 1, 1, T] bool, true for what is attended to.

    Returns:
        [n, 1, width].
    """
    attention, first = layer.attention.self, hidden[:, :1]

    def heads(x: Tensor) -> Tensor:  # [n, heads, ., width of a head]
        return x.view(*x.shape[:2], -1, attention.attention_head_size).transpose(1, 2)

    attended = F.scaled_dot_product_attention(
        heads(attention.query(first)),
        heads(attention.key(hidden)),
        heads(attention.value(hidden)),
        attn_mask=mask,
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    made = layer.attention.output(attended.transpose(1, 2).flatten(2), first)
    made = layer.feed_forward_chunk(made)
    assert isinstance(made, Tensor)
    return made


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
        """Hash what the encoder reads of each item, prompt and tokenizer's doing included."""
        digest = hashlib.sha256(self.lengths.tobytes())  # 0: no text
        digest.update(self.ids.tobytes())
        return digest.hexdigest()
