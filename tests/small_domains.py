"""Small domains with a known answer, and the settings that runs on them share."""

import numpy as np
import polars as pl

from pipeline.data import sequences, split, tables
from pipeline.models.sasrec import SasrecSettings
from pipeline.training import batches, schedule
from pipeline.training.negatives import Negatives
from pipeline.training.settings import ContentRun, EndToEndRun, IdRun

PROTOCOL = split.Protocol(
    min_items=5, window=9, train="window", mask="window", catalogue="all", select="hr@10"
)
LENGTH = PROTOCOL.history
SASREC = SasrecSettings(blocks=1, heads=2, norm="pre", activation="gelu", expansion=2, dropout=0.0)
OTHERS = {  # user encoders
    "bert4rec": SASREC.model_dump() | {"mask": {"share": 0.3, "last": 0.5}},
    "gru4rec": {"layers": 1, "dropout": 0.0},
    "nextitnet": {"dilations": [1, 2], "repeats": 1, "kernel": 3, "dropout": 0.0},
    "hstu": {"blocks": 1, "heads": 2, "dropout": 0.0},
}
NEGATIVES = Negatives(number=1, popularity=0.0, calibration=0.75)
PLAN = schedule.Plan(
    phase="probe",
    loss="in_batch",
    negatives=NEGATIVES,
    batch_users=32,
    learning_rate=1e-2,
    weight_decay=0.01,
    encoder_learning_rate=1e-3,
    encoder_weight_decay=0.0,
    warmup_steps=4,
    epochs=4,
    patience=4,
    decays=1,
    validate_every=1,
    select="hr@10",
)


def chain(n_users, n_items, seed, predictable=1.0, window=PROTOCOL.window):
    """Histories in which item i + 1 follows item i, or any item with chance 1 - predictable."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_users):
        row = [int(rng.integers(1, n_items + 1))]
        for _ in range(int(rng.integers(5, window + 2)) - 1):
            follows = rng.random() < predictable
            row.append(row[-1] % n_items + 1 if follows else int(rng.integers(1, n_items + 1)))
        rows.append(row)
    return sequences.from_rows(rows)


def divided(histories, n_items, **changes):
    return split.split(histories, n_items, PROTOCOL.model_copy(update=changes))


def feed(train, n_items, loss="in_batch", n_users=4, seed=0, masking=None, **negatives):
    """Batches over training windows given as rows, all items being candidates."""
    candidates, rows = np.arange(n_items + 1) > 0, sequences.from_rows(train)
    drawn = NEGATIVES.model_copy(update=negatives)
    return batches.Batches(rows, candidates, n_users, loss, drawn, seed, masking)


def prepare(folder, histories, texts):
    """Write a prepared domain whose item i says texts[i - 1]."""
    U, N = len(histories.offsets) - 1, len(texts)
    items = {"id": [f"i{n}" for n in range(1, N + 1)], "text": texts, "cover": [None] * N}
    held = {
        name: histories.items[histories.offsets[1:] - n] for name, n in [("valid", 2), ("test", 1)]
    }
    about = pl.DataFrame({"id": [f"u{n}" for n in range(U)], **held}, schema=tables.USERS)
    tables.save(folder, tables.Prepared(pl.DataFrame(items, schema=tables.ITEMS), about, histories))
    return folder


def settings(kind=EndToEndRun, **changes):
    """The sections of a run, small; `changes` replace values by section, section__key and so on."""
    sections = {
        "protocol": PROTOCOL.model_dump(),
        "model": {"width": 8},
        "user_encoders": {"sasrec": SASREC.model_dump(), **OTHERS},
        "training": {
            "loss": "in_batch",
            "negatives": NEGATIVES.model_dump(),
            "batch_users": 16,
            "learning_rate": 1e-2,
            "weight_decay": 0.01,
            "warmup_steps": 2,
            "epochs": 2,
            "patience": 2,
            "patience_steps": 0,
            "decays": 1,
            "validate_every": 1,
        },
        "search": {"learning_rate": [], "weight_decay": [], "encoder_learning_rate": []},
        "seeds": [0],
        "machine": {
            "device": "cpu",
            "threads": 1,
            "embed_batch": 16,
            "prefix_cache": "auto",
            "micro_batch_items": 0,
            "compile": False,
            "processes": 1,
            "checkpoint_seconds": 60,
        },
        "tower": {
            "head": {"standardise": "dimension", "layers": 2, "expansion": 2},
            "paper_head": {"standardise": "none", "layers": 1, "expansion": 1},
            "fusion": "sum",
            "modality_dropout": 0.1,
        },
        "end2end": {
            "trainable": {"layers": 1},
            "probe": True,
            "learning_rate": 1e-3,
            "encoder_learning_rate": 1e-3,
            "encoder_weight_decay": 0.0,
            "warmup_steps": 2,
            "epochs": 1,
            "patience": 1,
            "patience_steps": 0,
            "validate_every": 1,
        },
    }
    for name, value in changes.items():
        *above, key = name.split("__")
        owner = sections
        for part in above:
            owner[part] = dict(owner[part])
            owner = owner[part]
        owner[key] = value
    fields = set(kind.model_fields)
    return kind.model_validate({k: v for k, v in sections.items() if k in fields})


KINDS = {"id": IdRun, "frozen": ContentRun, "end2end": EndToEndRun}
