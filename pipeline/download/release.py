"""NineRec's release: its data sets, where each lies, and the statistics that are published of it.

Users, items and interactions are those of the table that the authors show as a figure in their
repository westlake-repl/NineRec (arXiv 2309.07705).
"""

from pathlib import Path
from typing import NamedTuple

SOURCES, TARGETS = "Source_datasets", "Downstream_datasets"  # as the two archives unpack


class Published(NamedTuple):
    """What is published of a data set."""

    users: int
    items: int
    interactions: int
    folder: str  # that its own folder lies in
    covers: str | None = None  # the data set whose covers it shares


PUBLISHED = {
    "Bili_500K": Published(500_000, 138_033, 7_845_805, SOURCES, covers="Bili_2M"),
    "Bili_2M": Published(2_000_000, 144_146, 24_497_157, SOURCES),
    "Bili_Food": Published(6_549, 1_579, 39_740, TARGETS),
    "Bili_Dance": Published(10_715, 2_307, 83_392, TARGETS),
    "Bili_Movie": Published(16_525, 3_509, 115_576, TARGETS),
    "Bili_Cartoon": Published(30_300, 4_724, 215_443, TARGETS),
    "Bili_Music": Published(50_664, 6_038, 360_177, TARGETS),
    "KU": Published(2_034, 5_370, 18_519, TARGETS),
    "QB": Published(17_722, 6_121, 133_664, TARGETS),
    "TN": Published(20_211, 3_334, 122_576, TARGETS),
    "DY": Published(20_398, 8_299, 139_834, TARGETS),
}


def folder(root: Path, name: str) -> Path:
    """Name the folder of a data set, whether it is there or not."""
    return root / PUBLISHED[name].folder / name


def covers_folder(root: Path, name: str) -> Path:
    """Name the folder of a data set's covers, the first that is there; else the first of all."""
    places = covers_places(root, name)
    return next((place for place in places if place.is_dir()), places[0])


def covers_places(root: Path, name: str) -> list[Path]:
    """List where a data set's covers may be, first where presets have them.

    The authors say that both sources share a folder Source_Bili_2M_cover, not where it lies.
    """
    own = PUBLISHED[name].covers or name
    beside = folder(root, name).parent
    in_own = beside / own / f"{own}_cover"
    if PUBLISHED[name].folder != SOURCES:
        return [in_own]
    shared = f"Source_{own}_cover"
    return [beside / shared, beside / own / shared, in_own]


def without_covers(root: Path, name: str) -> str:
    """Say what to do where none of the places has covers."""
    places = ", ".join(map(str, covers_places(root, name)))
    return (
        f"Looked in {places}: unpack the archive of the covers there (files <id>.jpg, an lmdb is "
        "not read), or check texts alone by --covers none"
    )


def elsewhere(root: Path, name: str) -> list[str]:
    """Say where a data set's covers are, if presets look for them in another place."""
    found, expected = covers_folder(root, name), covers_places(root, name)[0]
    if found == expected:
        return []
    return [
        f"{name}: its covers are in {found}; a preset that names {expected} needs that as the "
        f"covers of domains.all.{name}"
    ]
