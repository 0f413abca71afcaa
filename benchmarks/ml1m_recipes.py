"""What is trained on MovieLens-1M, by name, and the sections of settings each recipe makes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks import ml1m_data as data
from pipeline.data import files, split
from pipeline.training.settings import IdRun

WIDTH = 64  # D
SASREC = {
    "blocks": 2, "heads": 1, "norm": "pre", "activation": "gelu", "expansion": 4, "dropout": 0.2,
}  # fmt: skip
# As the published runs learn: a constant rate, no decay of weights or rate, until validation ends
# it; the cap is there to be marked where it is met.
TRAINING = {
    "negatives": {"number": 1, "popularity": 0.0, "calibration": 0.0},
    "batch_users": 128,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "warmup_steps": 0,
    "epochs": 500,
    "patience": 15,
    "patience_steps": 0,
    "decays": 0,
    "validate_every": 1,
}
SEARCH: dict[str, list[float]] = {
    "learning_rate": [], "weight_decay": [], "encoder_learning_rate": [],
}  # fmt: skip
MACHINE = {
    "device": "auto",
    "embed_batch": 256,
    "prefix_cache": "off",
    "micro_batch_items": 0,
    "compile": False,
    "processes": 1,
    "checkpoint_seconds": 120,
}


class Recipe(NamedTuple):
    """A user encoder and how it learns."""

    model: str  # one of ml1m_published.MODELS: what it is compared with
    user: str  # one of models.users.USER_ENCODERS
    encoder: Mapping[str, Any]  # its section
    training: Mapping[str, Any]  # the loss, and what differs from TRAINING
    protocol: split.Protocol = data.PROTOCOL


RECIPES = {
    "sasrec-softmax": Recipe("sasrec-softmax", "sasrec", SASREC, {"loss": "full_softmax"}),
    # Items before a user's last 200 train too: a third of all, which published runs leave out.
    "sasrec-softmax-all": Recipe(
        "sasrec-softmax",
        "sasrec",
        SASREC,
        {"loss": "full_softmax"},
        data.PROTOCOL.model_copy(update={"train": "all"}),
    ),
    # At the plateau back to the best weights, at a fifth of the rate, as the shipped settings do.
    "sasrec-softmax-drop": Recipe(
        "sasrec-softmax", "sasrec", SASREC, {"loss": "full_softmax", "decays": 1}
    ),
    "sasrec-bce": Recipe("sasrec-bce", "sasrec", SASREC, {"loss": "bce"}),
    "gsasrec": Recipe(
        "gsasrec",
        "sasrec",
        SASREC,
        {
            "loss": "gbce",
            "negatives": {"number": 256, "popularity": 0.0, "calibration": 0.75},
        },
    ),
    "bert4rec": Recipe(
        "bert4rec",
        "bert4rec",
        {**SASREC, "mask": {"share": 0.2, "last": 0.1}},
        {"loss": "full_softmax", "patience": 30},
    ),
    "gru4rec": Recipe(
        "gru4rec", "gru4rec", {"layers": 1, "dropout": 0.2}, {"loss": "full_softmax"}
    ),
    "hstu": Recipe(
        "hstu", "hstu", {"blocks": 2, "heads": 1, "dropout": 0.2}, {"loss": "full_softmax"}
    ),
}


def named(name: str) -> Recipe:
    """Give a recipe by its name.

    Raises:
        Stop: there is none of this name.
    """
    if name not in RECIPES:
        raise files.Stop(f"recipe {name!r} is unknown; --recipe may name {', '.join(RECIPES)}")
    return RECIPES[name]


def settings(recipe: Recipe, seed: int, threads: int) -> IdRun:
    """Build the sections of a run.

    Args:
        recipe: what it trains.
        seed: its only one.
        threads: of torch and FAISS; 0 = the cores, or OMP_NUM_THREADS.

    Raises:
        ValidationError: a value of the recipe is missing, unknown or of another type.
    """
    return IdRun.model_validate(
        {
            "protocol": recipe.protocol.model_dump(),
            "model": {"width": WIDTH},
            "user_encoders": {recipe.user: dict(recipe.encoder)},
            "training": {**TRAINING, **recipe.training},
            "search": SEARCH,
            "seeds": [seed],
            "machine": {**MACHINE, "threads": threads},
        }
    )


def described(recipe: Recipe) -> dict[str, Any]:
    """Give all that shapes a recipe's result, as JSON can hold it."""
    return {
        "user": recipe.user,
        "encoder": dict(recipe.encoder),
        "width": WIDTH,
        "protocol": recipe.protocol.model_dump(),
        "training": {**TRAINING, **recipe.training},
    }
