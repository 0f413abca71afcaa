"""Checkpoints: the state of one piece of work, whole on disk at any moment."""

import os
import time
from pathlib import Path
from typing import Any

import torch


class Keeper:
    """Keeps the state of one piece of work in a folder; a reader finds a whole state or none."""

    def __init__(self, folder: Path, every: float) -> None:
        """Keep states in `folder`; `due` once `every` seconds have passed since the last save."""
        self.file = folder / "state.pt"
        self.every = every
        self.saved = time.monotonic()

    def due(self) -> bool:
        """Say whether it is time for another state."""
        return time.monotonic() - self.saved >= self.every

    def save(self, state: dict[str, Any]) -> None:
        """Write the state over the former one, in one step."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        with part.open("wb") as opened:
            torch.save(state, opened)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(self.file)
        self.saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Read the last state, if there is one; only tensors and plain values are accepted."""
        if not self.file.exists():
            return None
        state: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        return state
