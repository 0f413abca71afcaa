"""One line a while on stderr: where the work is, how fast, how long yet."""

import sys
import time

SECONDS = 10.0  # between two lines inside an epoch


class Progress:
    """Says what an epoch does, at most one line in some seconds."""

    def __init__(self, name: str) -> None:
        """Speak under this name."""
        self.name = name
        self.said = time.monotonic()

    def step(self, epoch: int, share: float, loss: float, rate: float, eta: float) -> None:
        """Report inside an epoch: share done, mean loss, users/s, seconds to its end."""
        if time.monotonic() - self.said >= SECONDS:
            text = (
                f"epoch {epoch} {share:4.0%}, loss {loss:.4f}, {rate:,.0f} users/s, ETA {eta:.0f} s"
            )
            self.say(text)

    def say(self, text: str) -> None:
        """Write a line."""
        self.said = time.monotonic()
        sys.stderr.write(f"{self.name}: {text}\n")
        sys.stderr.flush()
