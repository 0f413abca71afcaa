"""Covers of a domain: found, packed, or named with what is wrong with them."""

import hashlib
import os
import struct
import zlib

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipeline.data import covers, decoding, tables
from pipeline.data.files import Stop
from tests.data.drawn import halves


def blank_png(width, height):
    """A valid PNG with one bit a pixel: some kB that decode to hundreds of MB."""

    def chunk(kind, content):
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(height * (1 + -(-width // 8))), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_lack_of_memory_is_no_broken_cover(tmp_path, monkeypatch):
    halves().save(tmp_path / "x.jpg")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(MemoryError):
        covers.pack(tmp_path, ["x.jpg"], ["x.jpg"], 8, tmp_path / "out")


def test_the_room_for_all_covers_is_taken_before_the_first_is_decoded(tmp_path, monkeypatch):
    """Else a disk that gets full kills the process where it writes to the map."""
    halves().save(tmp_path / "x.jpg")
    taken = []

    def seen(*_):
        taken.append((tmp_path / "out/pixels.npy").stat().st_blocks * 512)
        return np.zeros((256, 256, 3), np.uint8)

    monkeypatch.setattr(decoding, "read", seen)
    covers.pack(tmp_path, ["x.jpg"] * 3, ["x.jpg"], 256, tmp_path / "out")
    assert len(taken) == 3
    assert min(taken) >= 3 * 256 * 256 * 3


@pytest.mark.parametrize(("cores", "threads"), [(None, 1), (2, 2), (64, 4)])
def test_few_covers_are_decoded_at_once(tmp_path, monkeypatch, cores, threads):
    halves().save(tmp_path / "x.jpg")
    asked = []
    pool = covers.ThreadPoolExecutor
    monkeypatch.setattr(covers, "ThreadPoolExecutor", lambda n: asked.append(n) or pool(n))
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    covers.pack(tmp_path, ["x.jpg"], ["x.jpg"], 8, tmp_path / "out")
    assert asked == [threads]


def folder_of_bad_covers(tmp_path):
    folder = tmp_path / "covers"
    folder.mkdir()
    halves().save(folder / "good.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "truncated.jpg")
    Image.fromarray(noise).save(folder / "png.png")
    whole = (folder / "truncated.jpg").read_bytes()
    png = (folder / "png.png").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "png.png").write_bytes(png[: len(png) // 2])
    (folder / "corrupt.png").write_bytes(png[:100] + bytes(1000) + png[1100:])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>404</html>")
    (folder / "bomb.png").write_bytes(blank_png(20_000, 20_000))
    (folder / "large.png").write_bytes(blank_png(10_000, 8_000))
    return folder


def test_bad_files_are_named_and_refused(tmp_path):
    folder = folder_of_bad_covers(tmp_path)
    (tmp_path / "outside.jpg").write_bytes((folder / "good.jpg").read_bytes())
    names = [
        "good.jpg", None, "truncated.jpg", "png.png", "corrupt.png", "empty.jpg", "text.jpg",
        "bomb.png", "large.png", "../outside.jpg", "gone.jpg", "good.jpg",
    ]  # fmt: skip
    broken, digests = covers.pack(folder, names, covers.listing(folder), 8, tmp_path / "out")
    packed = covers.load(tmp_path / "out")

    assert sorted(broken) == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert "'truncated.jpg': image file is truncated" in broken[3]
    assert "truncated" in broken[4]
    assert broken[5].startswith("'corrupt.png': ")
    assert broken[6] == "'empty.jpg': the file is empty (0 bytes)"
    assert broken[7] == "'text.jpg': not an image of a known format"
    assert broken[8] == "'bomb.png': more than 50,000,000 pixels: not decoded"
    assert broken[9] == ("'large.png': 10000 x 8000 pixels, more than 50,000,000: not decoded")
    assert broken[10] == f"'../outside.jpg' is not in {folder}"
    assert broken[11] == f"'gone.jpg' is not in {folder}"
    assert packed.rows.dtype == np.int32
    assert np.flatnonzero(packed.rows >= 0).tolist() == [1, 12]  # and never PAD
    assert isinstance(packed.pixels, np.memmap)
    good = hashlib.sha256((folder / "good.jpg").read_bytes()).hexdigest()
    assert digests["cover"].to_list() == [good] + [None] * 10 + [good]
    for item in (1, 12):
        expected = decoding.read(folder / "good.jpg", 8)
        np.testing.assert_array_equal(packed.pixels[packed.rows[item]], expected)


def test_same_files_same_bytes(tmp_path, slow, capsys):
    folder = folder_of_bad_covers(tmp_path)
    names = covers.listing(folder) * 3
    for out in ("a", "b"):
        covers.pack(folder, names, covers.listing(folder), 8, tmp_path / out)
    for file in ("pixels.npy", "rows.npy"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    last = capsys.readouterr().err.splitlines()[-1]  # broken ones are done too
    assert last.startswith(f"covers: {len(names)} of {len(names)}, ")


def test_listing_has_images_in_a_fixed_order(tmp_path):
    for name in ("b.png", "b.JPG", "a.jpeg", "d.webp", "c.gif", "notes.txt", "$(rm x).png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    names = covers.listing(tmp_path)
    assert names == ["b.JPG", "a.jpeg", "$(rm x).png", "b.png", "d.webp"]
    assert covers.by_id(names) == {
        "b": "b.JPG", "a": "a.jpeg", "$(rm x)": "$(rm x).png", "d": "d.webp"
    }  # fmt: skip


def test_names_that_are_no_text_are_skipped_and_counted(tmp_path, capsys):
    (tmp_path / "a.jpg").touch()
    for name in (b"caf\xe9.jpg", b"\xff.png"):
        (tmp_path / os.fsdecode(name)).touch()
    assert covers.listing(tmp_path) == ["a.jpg"]
    assert "2 file names that are not UTF-8 were skipped; no item can be called so" in (
        capsys.readouterr().err
    )


def test_covers_are_found_by_id_where_the_table_names_none():
    items = pl.DataFrame(
        {
            "id": ["1", "../1", "2", "3", "4", "5"],
            "text": [None] * 6,
            "cover": [None, None, None, "../x.png", "", "2.jpg"],
        },
        schema=tables.ITEMS,
    )
    listed = ["1.jpg", "2.jpg", "1.png", "4.png"]
    assert covers.names(items, listed) == ["1.jpg", None, "2.jpg", "../x.png", None, "2.jpg"]


def test_a_folder_without_covers_stops(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    advice = r"Name the right one\. A domain without .* text only"
    with pytest.raises(Stop, match=rf"not one cover .*\.jpg\|\.jpeg\|\.png\|\.webp\. {advice}"):
        covers.listing(tmp_path)
    with pytest.raises(
        Stop, match=r"gone: no such folder of covers\. Name the right one\. A domain"
    ):
        covers.listing(tmp_path / "gone")


def test_folders_of_covers_in_the_folder_are_said_not_to_be_searched(tmp_path):
    (tmp_path / "010").mkdir()
    (tmp_path / "010" / "0108.jpg").touch()
    with pytest.raises(Stop, match="folders in it, such as 010, are not searched: put all in one"):
        covers.listing(tmp_path)


def test_an_accent_may_be_a_letter_of_its_own(tmp_path):
    items = items_of(["a"]).with_columns(id=pl.Series(["caf\u00e9"]))
    assert covers.names(items, ["cafe\u0301.jpg"]) == ["cafe\u0301.jpg"]
    items = items.with_columns(id=pl.Series(["cafe\u0301"]))
    assert covers.names(items, ["caf\u00e9.jpg"]) == ["caf\u00e9.jpg"]
    items = items_of("ab").with_columns(id=pl.Series(["\u212b", "\u00c5"]))  # two of one look
    for both in (["\u212b.jpg", "\u00c5.jpg"], ["\u00c5.jpg", "\u212b.jpg"]):
        assert covers.names(items, both) == ["\u212b.jpg", "\u00c5.jpg"]


def test_digests_round_trip(tmp_path):
    digests = pl.DataFrame({"cover": ["ab", None]}, schema=covers.DIGESTS)
    covers.write_digests(tmp_path, digests)
    assert covers.read_digests(tmp_path).equals(digests)


LISTED = ["v1.jpg", "v3.jpg", "v4.jpg"]


def items_of(texts):
    ids = [f"v{i}" for i in range(1, len(texts) + 1)]
    return pl.DataFrame({"id": ids, "text": texts, "cover": [None] * len(ids)}, schema=tables.ITEMS)


def packed(digests, broken):
    return covers.Packed(broken, pl.DataFrame({"cover": digests}, schema=covers.DIGESTS))


def test_the_card_counts_absent_and_broken():
    found = packed(["1", None, None, "4"], {3: "'3': truncated"})
    settings = covers.Covers(pixels=8, max_missing=0.5)
    assert covers.card("films", items_of(["a", "b", "c", "d"]), found, LISTED, settings) == {
        "domain": "films",
        "pixels": 8,
        "items": 4,
        "missing": 2,
        "broken": {"v3": "'3': truncated"},
    }


def test_too_many_missing_covers_stop_with_the_list():
    found = packed(["1", None, None, "4"], {3: "'3': cut"})
    settings = covers.Covers(pixels=8, max_missing=0.4)
    with pytest.raises(Stop) as stop:
        covers.card("films", items_of(["a", "b", "c", "d"]), found, LISTED, settings)
    assert str(stop.value) == (
        "films: no readable cover for 2 of 4 items (50.00%), more than max_missing = 40.00% allows:"
        " 'v2', 'v3'. Bring the covers, or raise covers.max_missing in params.yaml. The first that "
        "is broken: '3': cut."
    )


def test_where_no_cover_is_found_both_names_are_shown():
    settings = covers.Covers(pixels=8, max_missing=1.0)
    expected = r"or both\. The first was looked for as 'v1\.jpg', and there are such as 'V1\.jpg'\."
    with pytest.raises(Stop, match=expected):
        covers.card("films", items_of(["a"]), packed([None], {}), ["V1.jpg"], settings)
    nameless = items_of(["a"]).with_columns(cover=pl.lit(""))
    with pytest.raises(
        Stop, match=r"or both\. The item table's column of covers .* names none\. T"
    ):
        covers.card("films", nameless, packed([None], {}), ["v1.jpg"], settings)


def test_a_folder_without_packed_covers_is_named(tmp_path):
    with pytest.raises(Stop, match="holds no packed covers: run the stage covers, or name another"):
        covers.load(tmp_path)


def test_a_cover_whose_name_spells_the_id_in_another_way_is_pointed_out():
    found = packed(["1", None, None, "4"], {3: "'3': cut"})
    settings = covers.Covers(pixels=8, max_missing=0.4)
    items = items_of(["a", "b", "c", "d"]).with_columns(id=pl.Series(["1", "2", "3", "4"]))
    listed = ["1.jpg", "002.jpg", "3.jpg", "4.jpg"]
    with pytest.raises(Stop, match=r"cut\. '2' is perhaps '002' of a cover; write ids alike"):
        covers.card("films", items, found, listed, settings)


@pytest.mark.parametrize(
    ("texts", "serves"),
    [(["a", None], "content text only"), ([None, None], "no content: it has no text either")],
)
def test_without_one_readable_cover_the_message_says_what_is_left(texts, serves):
    settings = covers.Covers(pixels=8, max_missing=1.0)
    with pytest.raises(Stop) as stop:
        found = packed([None, None], {2: "'x.jpg': cut"})
        covers.card("films", items_of(texts), found, ["x.jpg"], settings)
    assert (
        f"films: not one of its 2 items has a readable cover, so it can serve {serves}, not image "
        "or both. The first that is broken: 'x.jpg': cut. Take it out of domains.image"
    ) in str(stop.value)


@pytest.mark.parametrize("has_call", [True, False], ids=["linux", "macos"])
def test_room_is_taken_and_nothing_is_changed(tmp_path, monkeypatch, has_call):
    if not has_call:
        monkeypatch.delattr(os, "posix_fallocate")
        monkeypatch.setattr(covers, "BLOCK", 5000)
    file = tmp_path / "map"
    with file.open("wb") as opened:
        opened.write(b"head")
        opened.truncate(200_000)  # a hole, as a new map is
    assert file.stat().st_blocks * 512 < 200_000
    covers._take_room(file)
    assert file.stat().st_blocks * 512 >= 200_000
    assert file.read_bytes() == b"head" + bytes(199_996)
