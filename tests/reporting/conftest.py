"""Outputs of all stages as the report reads them, made up, without a training."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.data import files, lists, sequences, tables
from pipeline.retrieval import evaluation, ranking, significance
from stages import report

# run -> the share of users for whom it is good; `end2end` is clearly better than `frozen` on near
# and equal on far
QUALITY = {
    "near": {"id": 0.12, "frozen": 0.2, "end2end": 0.3, "frozen_transfer": 0.21},
    "far": {"id": 0.15, "frozen": 0.2, "end2end": 0.2, "frozen_transfer": 0.19},
}
MORE = {
    "tuned_transfer": 0.25,
    "end2end_transfer": 0.27,
    "frozen_zeroshot": 0.08,
    "tuned_zeroshot": 0.1,
    "popularity": 0.04,
    "itemknn": 0.09,
    "contentknn": 0.06,
}
USERS, ITEMS, CANDIDATES = 1500, 300, 290
ZEROSHOT = ("frozen_zeroshot", "tuned_zeroshot")
JOINT = ("end2end", "end2end_transfer")  # of two phases: 8 epochs of a probe, then 4
CUTOFFS = [5, 10]
PARAMS = """
domains:
  all: &all
    old: &raw {format: ninerec, folder: raw, covers: covers, language: en}
    near: *raw
    far: *raw
  text: *all
  image: {}
  both: {}
sources: [old]
targets: [near, far]
contents: [text]
users: [sasrec]
encoders: {text: {library: sentence-transformers, model: some/bert}, image: /a/folder}
seeds: SEEDS
runs:
  pretrain_frozen: [frozen]
  pretrain_end2end: [end2end]
  frozen: [frozen]
  end2end: [end2end]
  frozen_transfer: [frozen_transfer, frozen_zeroshot]
  tuned_transfer: [tuned_transfer, tuned_zeroshot]
  end2end_transfer: [end2end_transfer]
report:
  contrasts: CONTRASTS
"""
PAIRS = YAML(typ="safe").load(Path(__file__).parents[2] / "params.yaml")["report"]["contrasts"]


def ranks(share, rng):
    """Draw ranks of which about `share` are among the first ten."""
    better = np.where(rng.random(USERS) < share, rng.integers(0, 10, USERS), 10)
    return ranking.Ranks(better.astype(np.int32), (better < 10).astype(np.int32))


def shown(quality, seeds):
    """What the lists of a run show of the catalogue, a seed: the better, the more."""
    found = {f"coverage@{k}": quality * k / 20 for k in CUTOFFS}
    found |= {f"gini@{k}": 1 - quality for k in CUTOFFS}
    apart = 0.01 * (np.arange(seeds) - (seeds - 1) / 2)  # for three seeds, a deviation of 0.01
    return [{name: value + more for name, value in found.items()} for more in apart]


def rows(text, first):
    """The cells of the table rows that begin with a cell."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def rename(world, old, new):
    """Call a target something else, in params.yaml and wherever its outputs are."""
    text = params.FILE.read_text()
    params.FILE.write_text(text.replace(f"[{old}, ", f"[{new}, "))
    for folder in ("prepare", "cards", "evaluate", "runs", "costs"):
        for path in sorted((world.root / folder).glob(f"{old}*")):
            path.rename(path.with_name(path.name.replace(old, new)))


class World:
    """A folder of artifacts, to be changed before the report is made."""

    def __init__(self, root, monkeypatch, seeds=(7,)):
        self.root, self.rng, self.seeds = root, np.random.default_rng(0), list(seeds)
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(significance, "RESAMPLES", 2000)
        (root / "params.yaml").write_text(
            PARAMS.replace("SEEDS", str(self.seeds)).replace("CONTRASTS", str(PAIRS))
        )
        monkeypatch.setattr(params, "FILE", root / "params.yaml")
        for domain in ("old", *QUALITY):
            self.prepare(domain)
        for target in QUALITY:
            self.evaluate(target)
        self.cost("pretrain/old-text-frozen-sasrec", seconds=100.0)
        self.cost("pretrain/old-text-end2end-sasrec", seconds=1000.0)

    def prepare(self, domain):
        """Half of a target's items say what items of the source say."""
        first = {"old": 0, "near": ITEMS // 2, "far": ITEMS}[domain]
        ids = [f"{domain}{i}" for i in range(ITEMS)]
        texts = [f"Text {first + i}" for i in range(ITEMS)]
        held = self.rng.integers(1, ITEMS + 1, USERS)
        prepared = tables.Prepared(
            items=pl.DataFrame(
                {"id": ids, "text": texts, "cover": [None] * ITEMS}, schema=tables.ITEMS
            ),
            users=pl.DataFrame(
                {"id": [f"{domain}{u}" for u in range(USERS)], "valid": held, "test": held},
                schema=tables.USERS,
            ),
            sequences=sequences.from_rows([[1, 2, 3]] * USERS),
        )
        tables.save(self.root / "prepare" / domain, prepared)
        described = {
            "domain": domain,
            "source": f"{domain}_pair.csv",
            "users": USERS,
            "items": ITEMS,
            "sparsity": 0.99,
            "share_without": {"text": 0.25, "history": 0.5},
            "warnings": [f"{domain}: <b>odd</b> | rows"],
        }
        files.write_json(self.root / "cards" / domain / "prepare" / "card.json", described)

    def evaluate(self, target, capped=()):
        qualities = QUALITY[target] | MORE
        about, rows = {"capped": {}, "catalogue": {}}, []
        for run, quality in qualities.items():
            trains = run not in lists.SANITY
            for seed in self.seeds if trains and run not in ZEROSHOT else self.seeds[:1]:
                for part in evaluation.PARTS:
                    drawn = ranks(quality, self.rng)
                    rows.append(evaluation.table(run, seed if trains else None, part, drawn))
            seeds = len(self.seeds) if trains and run not in ZEROSHOT else 1
            about["catalogue"][run] = shown(quality, seeds)
            if trains:
                about["capped"][run] = run in capped
                self.trained(target, run)
        folder = self.root / "evaluate" / f"{target}-text-sasrec"
        counts = {"users": USERS, "candidates": CANDIDATES}
        counts |= {"unreachable_valid": 0, "unreachable_test": 3}
        about |= {"cutoffs": CUTOFFS, "counts": counts}
        files.write_json(folder / "evaluation.json", about)
        pl.concat(rows).write_parquet(folder / "ranks.parquet")
        self.users(target, self.rng.integers(0, 60, USERS), self.rng.integers(4, 21, USERS))

    def users(self, target, occurrences, history):
        """Say of a target's users how often their test item occurs and how long they are."""
        columns = {"user": np.arange(USERS), "occurrences": occurrences, "history": history}
        columns["candidates"] = np.full(USERS, CANDIDATES)
        path = self.root / "evaluate" / f"{target}-text-sasrec" / "users.parquet"
        pl.DataFrame(columns).cast(evaluation.USERS).write_parquet(path)

    def trained(self, target, run):
        trains = run not in ZEROSHOT
        probe, joint = (8 if run in JOINT else 12) if trains else 1, 5 if run in JOINT else 0
        epochs = np.array([*range(probe), *range(probe - 1, probe - 1 + joint)])
        curve = pl.DataFrame(
            {
                "epoch": epochs,
                "phase": ["probe"] * probe + ["joint"] * joint,
                "loss": 5 - epochs / 10,
                "hr@10": (QUALITY[target] | MORE)[run] * (1 - np.exp(-0.4 - epochs / 3)),
                "ndcg@10": epochs / 200,
                "learning_rate": [1e-3] * len(epochs),
            }
        )
        content = "id" if run == "id" else "text"
        several = len(self.seeds) > 1 and trains
        for seed in self.seeds:
            below = f"{run}/{seed}" if several else run
            folder = self.root / "runs" / f"{target}-{content}-sasrec" / below
            folder.mkdir(parents=True, exist_ok=True)
            curve.write_csv(folder / "curve.csv")
            described = {"seed": seed, "capped": False, "best_epoch": int(epochs[-2:][0])}
            described |= {"best_phase": "joint" if joint else "probe"}
            files.write_json(folder / "run.json", described)
        name = f"{target}-{content}-sasrec/{run}"
        if trains:
            self.cost(name, 400.0 if run in JOINT else 30.0)
        else:
            self.cost(name, 0.0, users_per_second=0.0, trials=0, epochs=0, trained_parameters=0)

    def cost(self, name, seconds, capped=False, **more):
        spent = {"seconds": seconds, "users_per_second": 120.0, "peak_memory_bytes": 2_500_000_000}
        spent |= {"parameters": 23_000_000, "trained_parameters": 1_000_000, "device": "2 cores"}
        spent |= {"epochs": 12, "trials": 2, "key": "abc", "capped": capped, **more}
        files.write_json(self.root / "costs" / f"{name}.json", spent)

    def covers(self, domain, digests):
        """Give a domain covers, some of them missing, and their digests."""
        sections = YAML(typ="safe").load(params.FILE)
        sections["domains"]["image"][domain] = sections["domains"]["all"][domain]
        YAML(typ="safe").dump(sections, params.FILE)
        folder = self.root / "cards" / domain / "covers"
        missing = sum(one is None for one in digests)
        described = {"domain": domain, "pixels": 64, "items": len(digests), "missing": missing}
        files.write_json(folder / "card.json", described)
        pl.DataFrame({"cover": digests}, schema={"cover": pl.String}).write_parquet(
            folder / "digests.parquet"
        )

    def report(self, is_drawn=False):
        """Make the report, with figures if they are what is tested, and return its text."""
        if not is_drawn:
            nothing = {"text-sasrec": []}
            self.monkeypatch.setattr(report.gallery, "draw", lambda *args: nothing)
        parts = ("prepare", "cards", "evaluate", "runs", "costs", "report")
        report.main(*(self.root / part for part in parts))
        return (self.root / "report" / "report.md").read_text()


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


@pytest.fixture
def make_world():
    return World
