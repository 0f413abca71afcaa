"""How far a long computation is: one line a while on stderr, with rate and time to go."""

import sys
import time

from pipeline.data import launch

QUIET = 2.0  # seconds: what takes less says nothing
TERMINAL, FILE = 0.5, 10.0  # seconds between two lines, on a terminal and elsewhere


class Progress:
    """Says how many of `total` items are done; of several processes the first one does."""

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        """Begin, with `done` items from an earlier run, which the rate leaves out."""
        self.name, self.total, self.done, self.earlier = name, total, done, done
        self.speaks, self.is_terminal = launch.is_first(), sys.stderr.isatty()
        self.is_open = False  # a line on a terminal, that the next one takes the place of
        self.began = time.monotonic()
        self.said = self.began - (TERMINAL if self.is_terminal else FILE) + QUIET

    def advance(self, items: int) -> None:
        """Count items as done, and say so if the last line is old enough, or to be closed."""
        self.done += items
        now = time.monotonic()
        is_last = self.done >= self.total
        is_young = now - self.said < (TERMINAL if self.is_terminal else FILE)
        if not self.speaks or (is_young and not (is_last and self.is_open)):
            return
        self.said = now
        rate = (self.done - self.earlier) / (now - self.began)
        left = (self.total - self.done) / rate if rate else 0.0
        pace = f"{1 / rate:,.1f} s each" if 0 < rate < 1 else f"{rate:,.0f}/s"
        line = f"{self.name}: {self.done:,} of {self.total:,}, {pace}, ETA {left:,.0f} s"
        self.is_open = self.is_terminal and not is_last
        sys.stderr.write(f"\r{line}\033[K" if self.is_terminal else line)
        sys.stderr.write("" if self.is_open else "\n")
        sys.stderr.flush()
