"""Small raw folders to read, and the settings to read them with."""

import polars as pl

from pipeline.data import ids, prepare, split, table

TABLE = table.Table(
    interactions="events.csv",
    items="goods.csv",
    user="who",
    item="what",
    timestamp="when",
    id="sku",
    text=["name", "blurb"],
    cover="",
)
SETTINGS = prepare.Prepare(
    max_users=0, seed=0, max_unknown=0.0, max_missing=1.0, duplicates="keep", table=TABLE
)
PROTOCOL = split.Protocol(
    min_items=5, window=23, train="window", mask="window", catalogue="window", select="hr@10"
)

ITEMS = "".join(f'v{i},题{i},"title, {i}"\n' for i in range(1, 13))
# u1 has v1..v6, u2 v7..v12, at rising times; item, user, time
EVENTS = [(f"v{i}", "u1" if i < 7 else "u2", 100 + i) for i in range(1, 13)]
PAIRS = "".join(f"{item},{user},{time}\n" for item, user, time in EVENTS)


def settings(**changes):
    return prepare.Prepare(**(SETTINGS.model_dump() | changes))


def encoded(rows):
    """The interactions of a `raw.Raw` from (user, item, time) rows."""
    frame = pl.DataFrame(rows, ["user", "item", "timestamp"], orient="row")
    frame = frame.with_row_index("line", offset=1)
    return frame.with_columns(ids.encode(frame[name]) for name in ("user", "item"))


def written(folder, files):
    """Make a folder of files, texts or bytes by name; of those that are None there is none."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        if text is not None:
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def ninerec_folder(root, items=ITEMS, pairs=PAIRS, behaviour=None, name="D"):
    files = {"item.csv": items, "pair.csv": pairs, "behaviour.tsv": behaviour}
    return written(root / name, {f"{name}_{end}": text for end, text in files.items()})
