"""A tower and a user encoder together: vectors of items and users; save and load of a model."""

from pathlib import Path

import numpy as np
import torch
from pydantic import PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.content import device, feed, processes
from pipeline.data import files
from pipeline.data.progress import Progress
from pipeline.data.sequences import Lists, lengths, take
from pipeline.models.items import ContentTower, EndToEndTower
from pipeline.models.rows import Rows, UserEncoder
from pipeline.params import Section

USERS_A_PASS = 512  # users of like lengths, a forward pass of the user encoder outside training
USERS_A_COPY = 64 * USERS_A_PASS  # whose query vectors come back together
ITEMS_A_PASS = 16_384  # items a forward pass of a tower that encodes nothing


class ModelSettings(Section):
    """The one width of item and query vectors, whatever makes them: they meet in a product."""

    width: PositiveInt  # D


class Recommender(nn.Module):
    """Predict the next item by the inner product of a query vector with item vectors."""

    def __init__(self, tower: nn.Module, users: UserEncoder) -> None:
        super().__init__()
        self.tower = tower
        self.users = users

    def slots(
        self, vectors: Tensor, inputs: Tensor, rows: Rows, asked: Tensor | None = None
    ) -> Tensor:
        """Encode histories.

        Args:
            vectors: [M, D], vectors of the items at hand.
            inputs: [P] int64, places in `vectors`, history by history; M is [MASK].
            rows: whose they are.
            asked: [Q] int64, which of P are wanted; none: all.

        Returns:
            [Q, D], a query vector after each item that is asked for, or at it where it is hidden.
        """
        if self.users.mask is not None:
            vectors = torch.cat([vectors, self.users.mask[None].to(vectors.dtype)])
        # Not vectors[inputs]: on several threads its gradient depends on who adds first.
        encoded: Tensor = self.users(F.embedding(inputs, vectors), rows)
        return encoded if asked is None else F.embedding(asked, encoded)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.users.parameters()).device

    @torch.no_grad()
    def item_vectors(self, wanted: np.ndarray, batch: int) -> np.ndarray:
        """Encode items in evaluation mode, like lengths together.

        Args:
            wanted: [N + 1] bool, the items to encode.
            batch: items a forward pass of an encoder.

        Returns:
            [N + 1, D] float32; rows of items that are not wanted are 0.

        Raises:
            Stop: the device's memory is too small.
        """
        self.eval()
        where = self.device
        items = np.flatnonzero(wanted)[processes.rank() :: processes.size()]
        advice = ""
        if isinstance(self.tower, EndToEndTower):
            cost = np.sum([content.lengths for content in self.tower.contents.values()], axis=0)
            items = items[np.argsort(cost[items], kind="stable")]
        else:
            batch, advice = max(batch, ITEMS_A_PASS), device.TO_CPU
        made: feed.Vectors | None = None
        progress = Progress("item vectors", len(items))
        # One pass at least, which tells how wide vectors are: a process may have no item.
        for start in range(0, max(1, len(items)), batch):
            some = torch.from_numpy(items[start : start + batch])
            with device.autocast(where), device.enough_memory(where, len(some), advice):
                found = self.tower(some)
                made = made or feed.Vectors(len(items), found.shape[1], where)
                made.put(found)
            progress.advance(len(some))
        assert made is not None, "there is one pass at least"
        vectors = np.zeros((len(wanted), made.rows.shape[1]), np.float32)
        vectors[items] = made.arrived()
        return processes.summed(torch.from_numpy(vectors)).numpy()

    @torch.no_grad()
    def queries(self, histories: Lists, items: np.ndarray) -> np.ndarray:
        """Make the query vectors of users from their histories.

        Args:
            histories: each user's items, oldest first, 1..L of them.
            items: [N + 1, D] float32, item vectors.

        Returns:
            [U, D] float32.
        """
        self.eval()
        parameter = next(self.users.parameters())
        where = parameter.device
        vectors = device.move(torch.from_numpy(items).to(parameter.dtype), where)
        n = lengths(histories)
        order = np.argsort(n, kind="stable")
        queries = np.empty((len(n), items.shape[1]), np.float32)
        progress = Progress("query vectors, users", len(n))
        for first in range(0, len(n), USERS_A_COPY):
            some = order[first : first + USERS_A_COPY]
            made = feed.Vectors(len(some), items.shape[1], where)
            for start in range(0, len(some), USERS_A_PASS):
                users = some[start : start + USERS_A_PASS]
                inputs = device.move(torch.from_numpy(take(histories, users).items), where)
                rows = Rows.of(n[users]).to(where)
                with device.autocast(where):
                    made.put(self.users.last(F.embedding(inputs, vectors), rows))
            queries[some] = made.arrived()
            progress.advance(len(some))
        return queries

    def own_state(self) -> dict[str, Tensor]:
        """Everything saved beside encoders: the id table or the head, and the user encoder."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("tower.encoders.")}


def save(folder: Path, model: Recommender, described: dict[str, object]) -> None:
    """Write a model's weights (encoders apart) and what shaped them."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.own_state().items()}
    save_file(state, folder / "model.safetensors")
    files.write_json(folder / "model.json", described)


def load_start(folder: Path, model: Recommender) -> None:
    """Start a model from a pre-trained one: head and user encoder, with positions.

    The standardisation stays that of the model's own catalogue: its statistics are the starting
    encoder's over the contents at hand, and belong to the domain, not to what was learned.

    Raises:
        Stop: the pre-trained model has other parts or widths.
    """
    state = load_file(folder / "model.safetensors")
    own = model.own_state()
    if isinstance(model.tower, ContentTower):
        for name, _ in model.tower.head.named_buffers():
            state[f"tower.head.{name}"] = own[f"tower.head.{name}"].cpu()
    differing = sorted(
        name
        for name in state.keys() | own.keys()
        if name not in state or name not in own or state[name].shape != own[name].shape
    )
    if differing:
        raise files.Stop(
            f"the pre-trained model in {folder} does not fit this run: {differing[:5]} differ; "
            "pre-train again with the same model, tower and user_encoders sections (dvc repro)"
        )
    model.load_state_dict(state, strict=False)
