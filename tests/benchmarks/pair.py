"""Our model and NineRec's step over the same parts, users and negatives."""

import copy

import numpy as np
import torch

from benchmarks import ninerec_step
from pipeline.content import prefix
from pipeline.data import lists, sequences
from pipeline.models import items, recommender
from pipeline.models.sasrec import Sasrec, SasrecSettings
from pipeline.training import batches, losses
from tests.small_content import World
from tests.small_domains import NEGATIVES

CPU = torch.device("cpu")
WIDTH, LENGTH = 8, 5
SLOTS = LENGTH + 1
TOKENS = 20  # more than any of the texts has
# Items that have a text and a cover, by the modalities that are read.
FULL = {"text": [1, 2, 4, 6, 7], "image": [1, 2, 4, 5, 7], "both": [1, 2, 4, 7]}
HEAD = items.HeadSettings(standardise="dimension", layers=2, expansion=2)
SASREC = SasrecSettings(blocks=2, heads=2, norm="post", activation="relu", expansion=4, dropout=0.0)


def windows(content):
    """Training windows of 2 to 6 items; with 6, no slot is padding. Items come twice and more."""
    rng = np.random.default_rng(0)
    return sequences.from_rows([rng.choice(FULL[content], n) for n in (6, 2, 3, 5)])


class Pair:
    """Our model and NineRec's over copies of the same parts, all in float64."""

    def __init__(self, public, pack, content, layers, scratch, kind=ninerec_step.Model):
        torch.manual_seed(0)
        world = World(public, pack)
        modalities = lists.MODALITIES[content]
        encoders = {m: world.encoders[m] for m in modalities}
        for encoder in encoders.values():
            encoder.unfreeze(layers)
        head = items.Fusion({m: world.embedded[m] for m in modalities}, WIDTH, HEAD, "sum").double()
        sasrec = Sasrec(WIDTH, LENGTH, SASREC).double()
        contents = {m: world.contents[m] for m in modalities}
        parts = copy.deepcopy((encoders, head, sasrec))
        self.theirs = kind(
            torch.nn.ModuleDict(parts[0]), contents, TOKENS, parts[1], parts[2]
        ).train()
        kept = {m: prefix.keep(encoders[m], contents[m], scratch, CPU, "auto") for m in modalities}
        tower = items.EndToEndTower(encoders, kept, head, 0.0)
        self.ours = recommender.Recommender(tower, sasrec).train()
        self.kept = kept

    def losses(self, batch, slots):
        """Both losses, with the gradients left in the parts."""
        made = self.ours.tower(batch.items, batch.draws)
        queries = self.ours.slots(made, batch.inputs, batch.rows)
        ours, theirs = losses.bce(queries, made, batch), self.theirs(slots)
        ours.backward()
        theirs.backward()
        return ours.item(), theirs.item()

    def gradients(self):
        """The gradients of both sides by parameter."""
        sides = (
            (self.ours.tower.encoders, self.ours.tower.head, self.ours.users),
            (self.theirs.encoders, self.theirs.head, self.theirs.users),
        )
        return [
            {
                f"{part} {name}": parameter.grad
                for part, module in zip(("encoders", "head", "users"), side, strict=True)
                for name, parameter in module.named_parameters()
                if parameter.grad is not None
            }
            for side in sides
        ]


def same_users(content):
    """A batch of ours and slots of theirs: the same users with the same negatives."""
    train = windows(content)
    candidates = np.isin(np.arange(8), [1, 2, 3, 4, 5, 6, 7])
    feed = batches.Batches(train, candidates, 4, "bce", NEGATIVES, seed=0)
    drawn = np.random.default_rng(1).choice(FULL[content], len(train.items) - 4)
    # Those of a user's own window too: the sums are the same.
    feed.negatives = lambda *_: drawn[:, None]
    order = feed.order(0)
    return feed.batch(0, 0), ninerec_step.lay_out(sequences.take(train, order), drawn, SLOTS)
