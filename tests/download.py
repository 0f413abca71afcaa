"""A small download of NineRec, and what is said to be published of it."""

from pipeline.download import release
from tests.data.drawn import halves

# Half shares Whole's covers; Plain has a behaviour file alone; Gone is not there.
PUBLISHED = {
    "Half": release.Published(3, 4, 12, release.SOURCES, covers="Whole"),
    "Whole": release.Published(4, 6, 24, release.SOURCES),
    "Plain": release.Published(2, 4, 8, release.TARGETS),
    "Gone": release.Published(2, 4, 8, release.TARGETS),
}


def write(root, name):
    """A data set as published: every user has every item, in the item table's order."""
    published = PUBLISHED[name]
    folder = root / published.folder / name
    folder.mkdir(parents=True)
    items = [f"v{i}" for i in range(1, published.items + 1)]
    users = [f"u{i}" for i in range(1, published.users + 1)]
    rows = "".join(f'{item},题,"a, {item}"\n' for item in items)
    (folder / f"{name}_item.csv").write_text(rows)
    if name == "Plain":
        rows = "".join(f"{user}\t{' '.join(items)}\n" for user in users)
        (folder / f"{name}_behaviour.tsv").write_text(rows)
    else:
        pairs = [f"{item},{user},{i}\n" for user in users for i, item in enumerate(items)]
        (folder / f"{name}_pair.csv").write_text("".join(pairs))
    if published.covers is None:
        covers = covers_of(folder) if name == "Whole" else folder / f"{name}_cover"
        covers.mkdir()
        for item in items:
            halves(size=(300, 200)).save(covers / f"{item}.jpg")
    return folder


def covers_of(whole):
    """Where a source's covers lie, as the authors call that folder: beside its own."""
    return whole.parent / "Source_Whole_cover"


def truncate_cover(folder):
    cover = covers_of(folder) / "v3.jpg"
    cover.write_bytes(cover.read_bytes()[:-400])
