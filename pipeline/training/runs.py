"""Runs: which tower starts where, what of it trains, and how one trial of it is done."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.content import blocks, device, embed, encoders, prefix, processes, store
from pipeline.content.blocks import Content
from pipeline.content.image import ImageContent
from pipeline.data import kinds, scratch, split, tables
from pipeline.models import items, recommender, users
from pipeline.retrieval import index
from pipeline.training import grid, inputs, loop, objective, schedule
from pipeline.training.checkpoint import Keeper
from pipeline.training.inputs import Inputs
from pipeline.training.settings import ContentRun, EndToEndRun, IdRun

# What runs are made by: a checkpoint is of one state of it.
CODE = [
    Path(__file__).parents[1] / part
    for part in ("params.py", "machine.py", "data", "retrieval", "content", "models", "training")
]
SETTINGS: dict[str, type[IdRun]] = {  # by where the item vectors come from
    "id": IdRun,
    "frozen": ContentRun,
    "tuned": ContentRun,
    "end2end": EndToEndRun,
}


def load_settings(run: str) -> IdRun:
    """Read the sections of params.yaml that a run needs."""
    return SETTINGS[kinds.RUNS[run].vectors].load()


class Name(NamedTuple):
    """Whose run it is; empty where it has none."""

    run: str  # one of kinds.RUNS
    domain: str
    content: str
    user: str  # the user encoder


class Trained(NamedTuple):
    """A trained model, at its best epoch, and the phases that made it."""

    model: recommender.Recommender
    phases: dict[str, schedule.Fitted]  # by the name of their scratch folder, in their order

    @property
    def best_epoch(self) -> int:
        """The best epoch, counted over all phases as their curve is."""
        before = [*self.phases.values()][:-1]
        return self.last.best.epoch + sum(phase.epochs for phase in before)

    def score(self, select: str) -> float:
        """Give the validation metric that chooses among trials."""
        return self.last.best.selected(select)

    @property
    def last(self) -> schedule.Fitted:
        """The phase that ended with this model."""
        return list(self.phases.values())[-1]


class Work:
    """One run on one domain: what all its trials and seeds share, read once."""

    def __init__(self, name: Name, paths: Inputs, settings: IdRun, is_source: bool = False) -> None:
        """Read the domain and its embeddings.

        Args:
            name: whose run it is.
            paths: where it finds what it reads.
            settings: the sections of params.yaml that its tower needs.
            is_source: others start from the model; nothing is retrieved by it itself.

        Raises:
            Stop: the loss does not fit the tower, there is no such user encoder, or embeddings
                are not those of the content and the domain.
        """
        self.name, self.inputs, self.settings, self.is_source = name, paths, settings, is_source
        self.machine = settings.machine
        self.tower = settings.tower if isinstance(settings, ContentRun) else None
        self.end2end = settings.end2end if isinstance(settings, EndToEndRun) else None
        self.kind = kinds.RUNS[name.run]
        users.settings_of(name.user, settings.user_encoders)
        kinds.check_loss(settings.training.loss, encodes=self.end2end is not None)
        device.set_threads(self.machine.threads)
        index.set_up(self.machine.device, self.machine.threads)  # of validation
        self.device = device.pick(self.machine.device)
        self.prepared = tables.load(paths.prepared)
        self.split = split.split(
            self.prepared.sequences, len(self.prepared.items), settings.protocol
        )
        self.embedded = store.load(paths.embeddings) if paths.embeddings else {}
        inputs.check_embeddings(paths, self.embedded, name.content, len(self.prepared.items))
        self.contents: dict[str, Content] = {}  # what encoders read that train, opened once

    @functools.cached_property
    def state(self) -> str:
        """The state of code and inputs, hashed once: they may be large."""
        return scratch.state(self.inputs.decisive(), CODE)

    def decisive_settings(self, *left_out: str) -> dict[str, Any]:
        """Give the settings that the result depends on, and no other user encoder's."""
        found = self.settings.model_dump(exclude={"machine", *left_out})
        own = users.settings_of(self.name.user, self.settings.user_encoders)
        found |= {"user_encoders": {self.name.user: own.model_dump()}}
        return found | ({"tower": self.decisive_tower()} if self.tower else {})

    def decisive_tower(self) -> dict[str, Any] | None:
        """Give the tower's settings, without the head that the run has not."""
        unread = "head" if self.kind.paper_head else "paper_head"
        return None if self.tower is None else self.tower.model_dump(exclude={unread})

    @property
    def length(self) -> int:
        """L, the longest history: the window less its two held-out items and the last target."""
        return self.settings.protocol.history

    def start(self, seed: int) -> recommender.Recommender:
        """Build the model as training finds it, on an id table or precomputed embeddings."""
        torch.manual_seed(seed)
        s, tower = self.settings, self.tower
        made: torch.nn.Module
        if tower is None:
            made = items.IdTower(len(self.prepared.items), s.model.width)
        else:
            head = tower.paper_head if self.kind.paper_head else tower.head
            fusion = items.Fusion(self.embedded, s.model.width, head, tower.fusion)
            made = items.FrozenTower(self.embedded, fusion, tower.modality_dropout)
        user_encoder = users.build(self.name.user, s.model.width, self.length, s.user_encoders)
        model = recommender.Recommender(made, user_encoder)
        if self.inputs.pretrained is not None:
            inputs.check_start(self.inputs.pretrained, self.shape())
            recommender.load_start(self.inputs.pretrained, model)
        return model.to(self.device)

    def shape(self) -> dict[str, Any]:
        """Say what shapes the model, as JSON can hold it."""
        return {
            "user_encoder": self.name.user,
            "user_encoders": self.decisive_settings()["user_encoders"],
            "head": self.decisive_tower(),
        }

    def unfrozen(self, seed: int) -> dict[str, blocks.Encoder]:
        """Load the starting encoders, with what trains of them unfrozen.

        Raises:
            Stop: an encoder has fewer blocks than shall train, did not make the embeddings, or has
                no prefix that could be kept where that is required.
        """
        assert self.end2end and self.inputs.encoders, "what an end2end run reads"
        found = {m: encoders.load(self.inputs.encoders / m) for m in self.embedded}
        inputs.check_encoders(self.inputs, found)
        for encoder in found.values():
            self.end2end.trainable.unfreeze(encoder, seed)
            prefix.check(encoder, self.machine.prefix_cache)
        return found

    def join(
        self, model: recommender.Recommender, found: dict[str, blocks.Encoder], root: Path
    ) -> recommender.Recommender:
        """Let encoders join a model: the same head and user encoder over the encoders.

        What of them stays frozen is run once an item and kept under `root`, by domain.
        """
        kept_in = root / f"prefix-{self.name.domain}"
        assert self.tower and isinstance(model.tower, items.ContentTower)
        for modality in sorted(found.keys() - self.contents.keys()):  # all processes alike
            encoder, cache = found[modality], self.machine.prefix_cache
            packed = self.inputs.covers if modality == "image" else None
            whole = embed.content(encoder, self.inputs.prepared, packed)
            self.contents[modality] = prefix.keep(encoder, whole, kept_in, self.device, cache)
            if isinstance(whole, ImageContent) and self.contents[modality] is whole:
                whole.stay(self.device)
        head, dropout = model.tower.head, self.tower.modality_dropout
        micro_batch = self.machine.micro_batch_items
        joined = items.EndToEndTower(found, self.contents, head, dropout, micro_batch)
        return recommender.Recommender(joined, model.users).to(self.device)

    @property
    def prefix_seconds(self) -> float:
        """What it took to fill what is kept, here or in another run."""
        return sum(c.seconds for c in self.contents.values() if isinstance(c, prefix.Kept))

    def plan(self, point: grid.Point, joint: bool) -> schedule.Plan:
        """Plan a phase at a point of the grid: the probe, or the encoder's with all the rest.

        The point's learning rate is that of the first phase.
        """
        t, e = self.settings.training, self.end2end
        own = e if joint and e else t
        return schedule.Plan(
            phase="joint" if joint else "probe",
            loss=t.loss,
            negatives=t.negatives,
            batch_users=t.batch_users,
            learning_rate=own.learning_rate if joint and self.has_probe else point.learning_rate,
            weight_decay=point.weight_decay,
            encoder_learning_rate=point.encoder_learning_rate,
            encoder_weight_decay=e.encoder_weight_decay if e else 0.0,
            warmup_steps=own.warmup_steps,
            epochs=own.epochs,
            patience=own.patience,
            decays=t.decays,
            validate_every=own.validate_every,
            select=self.settings.protocol.select,
            patience_steps=own.patience_steps,
        )

    def train(self, point: grid.Point, seed: int, folder: Path) -> Trained:
        """Train one trial, going on from `folder` where it was killed or already finished."""
        if self.end2end is None:
            return self.probe(point, seed, folder)
        found = self.unfrozen(seed)  # before hours of a first phase
        start = self.probe(point, seed, folder) if self.has_probe else Trained(self.start(seed), {})
        model, phases = self.join(start.model, found, folder.parent), start.phases
        del start  # with its tower, which holds all embeddings
        name = "-".join(["joint", str(seed), *map(repr, point)])
        fitted = self.fit(model, self.plan(point, joint=True), seed, folder / name)
        return Trained(model, {**phases, name: fitted})

    def probe(self, point: grid.Point, seed: int, folder: Path) -> Trained:
        """Train the phase without encoders alone: all of a run on ids or frozen embeddings."""
        model = self.start(seed)
        name = f"probe-{seed}-{point.learning_rate!r}-{point.weight_decay!r}"
        own = self.probes(folder) / name
        with processes.alone(own):
            fitted = self.fit(model, self.plan(point, joint=False), seed, own)
        return Trained(model, {name: fitted})

    def probes(self, folder: Path) -> Path:
        """Name the folder of first phases: a frozen run and an end2end run train the same one.

        Whichever comes second finds it finished; so it outlives the run, until `scratch.sweep`.
        Others keep theirs in their own folder, which goes when they are done.
        """
        if self.tower is None or self.kind.paper_head:
            return folder
        shared = self.decisive_settings("search", "seeds", "end2end")
        return folder.parent / scratch.key([self.name[1:], shared], self.state)

    def fit(
        self, model: recommender.Recommender, plan: schedule.Plan, seed: int, folder: Path
    ) -> schedule.Fitted:
        """Fit one phase."""
        if self.machine.compile and self.device.type == "cuda":
            objective.compile_parts(model)
        keeper = Keeper(folder, self.machine.checkpoint_seconds)
        return loop.fit(model, self.split, plan, seed, keeper, self.machine.embed_batch)

    def take(self) -> Trained:
        """Take the model as it comes from the source, and see how it does."""
        model = self.start(self.settings.seeds[0])
        hr, ndcg = objective.validate(model, self.split, self.machine.embed_batch)
        row = schedule.Row(0, "zeroshot", 0.0, hr, ndcg, 0.0)
        peak = device.peak_memory(self.device)
        return Trained(model, {"zeroshot": schedule.Fitted(row, [row], 0, False, 0.0, peak, 0.0)})

    @property
    def has_probe(self) -> bool:
        """Tell whether encoders join after a phase without them."""
        return self.end2end is not None and self.end2end.probe

    @property
    def default_point(self) -> grid.Point:
        """What an axis of the search without values takes."""
        t, e = self.settings.training, self.end2end
        first = t if e is None or e.probe else e
        rate = e.encoder_learning_rate if e else 0.0
        return grid.Point(first.learning_rate, t.weight_decay, rate)

    def points(self) -> list[grid.Point]:
        """List the points that the first phase tries."""
        encoder_trains = self.end2end is not None and not self.has_probe
        return grid.points(self.settings.search, self.default_point, encoder_trains)

    def joint_points(self, best: grid.Point) -> list[grid.Point]:
        """List the points that are tried from the best probe."""
        return grid.joint_points(self.settings.search, best, self.default_point)
