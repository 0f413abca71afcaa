"""What a prepared domain takes in memory before training: its tables, its split, its batches.

python -m benchmarks.prepare_load FOLDER       writes JSON
"""

import json
import resource
import time
from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

from benchmarks import prepare_data
from pipeline.data import split, tables
from pipeline.training import batches
from pipeline.training.negatives import Negatives

USERS = 64  # a batch


def main(folder: Annotated[Path, typer.Argument(help="the prepared domain")]) -> None:
    """Load a domain as a run does: after each step, the peak of memory and the CPU seconds."""
    protocol = split.Protocol.model_validate(YAML(typ="safe").load(prepare_data.PRESET)["protocol"])
    steps = {"libraries": (peak(), 0.0)}
    began = time.process_time()
    domain = tables.load(folder)
    steps["load"] = (peak(), time.process_time() - began)
    divided = split.split(domain.sequences, len(domain.items), protocol)
    steps["split"] = (peak(), time.process_time() - began)
    none = Negatives(number=1, popularity=0.0, calibration=0.0)  # in_batch draws none
    feed = batches.Batches(divided.train, divided.candidates, USERS, "in_batch", none, seed=0)
    feed.batch(0, 0)
    steps["batches"] = (peak(), time.process_time() - began)
    typer.echo(json.dumps(steps))


def peak() -> int:
    """Give the most memory that this process has had, bytes; mapped files count as far as read."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * prepare_data.UNIT


if __name__ == "__main__":
    typer.run(main)
