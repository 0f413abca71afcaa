"""NineRec's training step as its released code does it: what our step is measured against.

The same encoders, head and user encoder as ours, computed in that way: a user is 21 items, padded
on the left, and as many negatives; each of these 42 slots, padding too, goes through the whole
encoder and the head; texts are padded to one length; histories are dense rows with a mask; the loss
is binary cross-entropy with one negative an item. Written from what is known of it, not from its
code, which has no licence.

It has it easier here: the attention kernels are ours, AdamW is fused as ours is, frozen blocks have
no dropout, and tokens and pixels lie in memory.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.content import device
from pipeline.content.blocks import Content, Encoder
from pipeline.data import sequences
from pipeline.data.sequences import PAD, Lists
from pipeline.models.attention import Block
from pipeline.models.items import Fusion
from pipeline.models.sasrec import Sasrec

FORBIDDEN = -1e9  # added to the attention score of what an item may not see
GREY = 128  # of a padding item's pixels: an image of zeros, once normalised


class Slots(NamedTuple):
    """Users' training windows as rows of one length, and what stands against each item."""

    positives: np.ndarray  # [B, S] int64, oldest first, PAD on the left
    negatives: np.ndarray  # [B, S] int64, below each item that is predicted, PAD elsewhere


def lay_out(windows: Lists, drawn: np.ndarray, slots: int) -> Slots:
    """Lay windows of 1..S items out as rows of S.

    Args:
        windows: the users' training windows, oldest item first.
        drawn: [P] int64, a negative for each item but a user's first, user by user.
        slots: S, one more than the longest history.
    """
    first = slots - sequences.lengths(windows)[:, None]
    column = np.arange(slots)
    positives, negatives = np.full((2, len(first), slots), PAD, np.int64)
    positives[column >= first] = windows.items
    negatives[column > first] = drawn
    return Slots(positives, negatives)


class Model(nn.Module):
    """Encoders, head and user encoder: slots -> loss."""

    def __init__(
        self,
        encoders: nn.ModuleDict,
        contents: Mapping[str, Content],
        tokens: int,
        head: Fusion,
        users: Sasrec,
    ) -> None:
        """Join the parts.

        Args:
            encoders: an `Encoder` a modality, with what trains of them unfrozen.
            contents: what they read, by modality; every item has each.
            tokens: that every text is padded to.
            head: over the encoders' vectors.
            users: SASRec in its post-norm form.
        """
        super().__init__()
        assert not users.is_pre, "NineRec's SASRec normalises after each sum"
        self.encoders, self.head, self.users = encoders, head, users
        self.contents, self.tokens = contents, tokens

    def forward(self, slots: Slots) -> Tensor:
        """Give the loss: means over the predicted items, of positives and of negatives."""
        positives, negatives = self.slot_vectors(np.stack(slots))  # [B, S, D] each
        # An item with a successor: padding stands on the left, so every item but the last slot's.
        is_input = torch.from_numpy(slots.positives[:, :-1] != PAD).to(positives.device)
        queries = self.queries(positives[:, :-1], is_input)
        positive = (queries * positives[:, 1:]).sum(-1)[is_input]
        negative = (queries * negatives[:, 1:]).sum(-1)[is_input]
        return F.softplus(-positive).mean() + F.softplus(negative).mean()

    def slot_vectors(self, items: np.ndarray) -> Tensor:
        """Encode what stands in each slot [..., S], padding and repeated items too: [..., S, D]."""
        return self.item_vectors(items.ravel()).view(*items.shape, -1)

    def item_vectors(self, items: np.ndarray) -> Tensor:
        """Encode items [n], which may be PAD, in one pass: [n, D]."""
        content = {}
        for modality, encoder in self.encoders.items():
            assert isinstance(encoder, Encoder)
            batch = padded(self.contents[modality], items, self.tokens)
            content[modality] = encoder.encode({k: v.to(encoder.device) for k, v in batch.items()})
        every = torch.arange(len(items), device=next(self.head.parameters()).device)
        vectors: Tensor = self.head(len(items), dict.fromkeys(content, every), content)
        return vectors

    def queries(self, histories: Tensor, is_item: Tensor) -> Tensor:
        """Encode dense histories [B, L, D], whose items `is_item` [B, L] marks: [B, L, D]."""
        users = self.users
        L = histories.shape[1]
        is_seen = is_item[:, None, :] & torch.ones_like(is_item[0]).expand(L, L).tril()
        mask = torch.where(is_seen, 0.0, FORBIDDEN).to(histories.dtype)[:, None]  # [B, 1, L, L]
        x = users.dropout(users.norm(histories + users.positions.weight))
        for block in users.blocks:
            assert isinstance(block, Block)
            first, second = block.norms
            x = first(x + attend(block, x, mask))
            x = second(x + block.feed(x))
        encoded: Tensor = x
        return encoded


def attend(block: Block, x: Tensor, mask: Tensor) -> Tensor:
    """Apply a block's attention to dense rows.

    Args:
        block: its weights.
        x: [B, L, D].
        mask: [B, 1, L, L], added to the scores.
    """
    q, k, v = block.qkv(x).unflatten(-1, (3, block.settings.heads, -1)).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + mask  # [B, H, L, L]
    mixed = block.dropout(scores.softmax(-1)) @ v
    attended: Tensor = block.dropout(block.out(mixed.transpose(1, 2).flatten(2)))
    return attended


def padded(content: Content, items: np.ndarray, tokens: int) -> dict[str, Tensor]:
    """Give the encoder's input for items [n]: texts padded to `tokens`, PAD without any token.

    The image of PAD is grey.
    """
    places = torch.from_numpy(np.flatnonzero(items != PAD))
    batch = {}
    for name, real in content.batch(items[places.numpy()]).items():
        is_text = name != "pixels"
        shape = (len(items), tokens) if is_text else (len(items), *real.shape[1:])
        whole = torch.full(shape, 0 if is_text else GREY, dtype=real.dtype, device=real.device)
        whole[places.to(real.device), : real.shape[1]] = real
        batch[name] = whole
    return batch


class Step:
    """A model and its optimizer, with the released rates: encoder and head apart from users."""

    def __init__(self, model: Model, where: torch.device) -> None:
        self.model, self.where = model.to(where).train(), where
        users = [*model.users.parameters()]
        others = [*model.encoders.parameters(), *model.head.parameters()]
        groups = [
            {"params": users, "lr": 5e-5, "weight_decay": 0.1},
            {"params": [p for p in others if p.requires_grad], "lr": 1e-5, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, fused=True)

    def gradients(self, slots: Slots) -> float:
        """Compute loss and gradients, and give the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with device.autocast(self.where):
            loss: Tensor = self.model(slots)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def update(self) -> None:
        """Apply the gradients: the part of a step whose cost does not grow with its users."""
        self.optimizer.step()
