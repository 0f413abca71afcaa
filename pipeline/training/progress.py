"""One line a while on stderr: where the work is, how fast, how long yet."""

import sys
import time

from pipeline.content import processes

SECONDS = 10.0  # between two lines inside an epoch


class Progress:
    """Says what an epoch does, at most one line in some seconds."""

    def __init__(self, name: str, batch_users: int = 0) -> None:
        """Speak under this name; inside an epoch, of steps of so many users."""
        self.name, self.batch_users = name, batch_users
        self.said = time.monotonic()

    def step(self, epoch: int, step: int, steps: int, loss: float, pace: float) -> None:
        """Report inside an epoch: steps done of all, mean loss, steps a second."""
        if time.monotonic() - self.said >= SECONDS:
            self.say(
                f"epoch {epoch}, step {step} of {steps}, loss {loss:.4f}, "
                f"{pace * self.batch_users:,.0f} users/s, ETA {(steps - step) / pace:,.0f} s"
            )

    def say(self, text: str) -> None:
        """Write a line; of several processes the first one does."""
        self.said = time.monotonic()
        if not processes.is_first():
            return
        sys.stderr.write(f"{self.name}: {text}\n")
        sys.stderr.flush()
