"""The two sides of a difference, as `report.contrasts` writes them: [run, the one it is less]."""

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.data.lists import MODALITIES

WITHOUT = {  # what does not depend on a content or a user encoder
    "id": ("content",),
    "popularity": ("content", "user"),
    "itemknn": ("content", "user"),
    "contentknn": ("user",),
}


class Side(NamedTuple):
    """A run, of one content and user encoder or of each in turn."""

    content: str  # "": each
    user: str  # "": each
    run: str

    def essence(self) -> "Side":
        """Leave out what the recommender does not depend on: two that are left alike are one."""
        without = WITHOUT.get(self.run, ())
        return Side(
            "" if "content" in without else self.content,
            "" if "user" in without else self.user,
            self.run,
        )

    def filled(self, other: "Side") -> "Side":
        """Take from the other side what this one does not name."""
        return Side(self.content or other.content, self.user or other.user, self.run)


def read(pair: Sequence[str]) -> tuple[Side, Side]:
    """Read a pair: what one side does not name is as in the other.

    Args:
        pair: `run`, `content/run`, `user/run` or `content/user/run`, twice.
    """
    run, base = map(_side, pair)
    return run.filled(base), base.filled(run)


def _side(written: str) -> Side:
    """Read one side; whatever stands where a user encoder may is taken for one."""
    *places, run = written.split("/")
    content = places.pop(0) if places and places[0] in MODALITIES else ""
    return Side(content, "/".join(places), run)
