"""Kept activations that are cut off or stale are made anew; a disk without room stops."""

import errno
import io
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.content import prefix
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.conftest import TEXTS
from tests.content.families import CPU, ITEMS, made, reader
from tests.memory import out_of_memory


@pytest.mark.parametrize("broken", ["data", "no data", "about", "no about", "other about"])
def test_what_is_cut_off_is_made_anew_with_one_warning(broken, pack, request, tmp_path, capsys):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    before = prefix.keep(encoder, content, tmp_path, CPU, "auto").flat.clone()
    data, about = (next(tmp_path.rglob(name)) for name in (prefix.DATA, prefix.ABOUT))
    size = data.stat().st_size
    {
        "data": lambda: data.write_bytes(data.read_bytes()[:-8]),
        "no data": data.unlink,
        "about": lambda: about.write_text(about.read_text()[:-8]),
        "no about": about.unlink,  # as a killed process leaves it
        "other about": lambda: about.write_text("[]"),
    }[broken]()
    capsys.readouterr()
    after = prefix.keep(encoder, content, tmp_path, CPU, "auto").flat
    assert torch.equal(before, after)
    says = {"data": f"has {size - 8:,} of {size:,}", "no data": f"has 0 of {size:,}"}
    said = f"cut off, it {says.get(broken, f'has {size:,}')} bytes; it is made anew\n"
    found = capsys.readouterr().err
    assert found.startswith(f"prefix: {data} is ") and found.endswith(said)
    assert found.count("\n") == 1
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("stale", "said"),
    [
        ("weights", "weights"),
        ("layers", "weights, layers"),
        ("texts", "contents"),
        ("code", "code"),
    ],
)
def test_what_is_stale_is_dropped_with_one_warning(
    stale, said, pack, request, tmp_path, monkeypatch, capsys
):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    seeing, covers = made("timm ViT", pack, request)
    seeing.unfreeze(1)
    prefix.keep(seeing, covers, tmp_path, CPU, "auto")
    old = prefix.keep(encoder, content, tmp_path, CPU, "auto")
    was, before = next(tmp_path.glob("text-*")), old.flat.clone()
    if stale == "weights":
        with torch.no_grad():
            encoder.blocks()[0].output.dense.weight += 1
    if stale == "layers":
        encoder.unfreeze(2)
    if stale == "texts":
        content = TextContent([*TEXTS[:-1], "blue hat"], encoder)
    if stale == "code":
        real = prefix.scratch.key
        monkeypatch.setattr(prefix.scratch, "key", lambda *given: f"0{real(*given)[1:-1]}")
    capsys.readouterr()
    kept = prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert capsys.readouterr().err == f"prefix: {was} was made of other {said}; it is dropped\n"
    assert len([*tmp_path.glob("text-*")]) == len([*tmp_path.glob("image-*")]) == 1
    assert torch.equal(old.flat, before), "who still reads it may go on"
    items = ITEMS[content.present[ITEMS]]
    encoder.eval()
    torch.testing.assert_close(encoder(kept.batch(items)), encoder(content.batch(items)))


def test_a_disk_too_small_stops_with_the_bytes_and_leaves_what_was_there(
    pack, request, tmp_path, monkeypatch
):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    (tmp_path / "mine").write_text("kept")
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(prefix.shutil, "disk_usage", lambda _: usage)
    needed = int(content.lengths.sum()) * 16 * 8
    with pytest.raises(files.Stop, match=rf"need {needed:,} bytes in .*, where 100 are free"):
        prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert not list(tmp_path.rglob(prefix.DATA))
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("place", ["activations", "fsync", "about"])
def test_a_disk_that_fills_up_on_the_way_stops_as_well(
    place, code, pack, request, tmp_path, monkeypatch
):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    (tmp_path / "mine").write_text("kept")

    def full(*_):
        raise OSError(getattr(errno, code), "No room left")

    if place == "activations":
        monkeypatch.setattr(prefix.Path, "open", lambda *_: Full(full))
    if place == "fsync":
        monkeypatch.setattr(prefix.os, "fsync", full)
    if place == "about":
        monkeypatch.setattr(prefix.files, "write_json", full)
    needed = int(content.lengths.sum()) * 16 * 8
    with pytest.raises(files.Stop, match=rf"activations need {needed:,} bytes in .*, where [1-9]"):
        prefix.fill(encoder, content, tmp_path / "text", {})
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}


def test_too_little_memory_to_fill_names_what_to_do_without(pack, request, tmp_path, monkeypatch):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)

    monkeypatch.setattr(encoder, "prefix", out_of_memory)
    message = r"encode (\d+) items at once; .*prefix_cache to 'off' and .*micro_batch_items to \d+$"
    with pytest.raises(files.Stop, match=message):
        prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert not list(tmp_path.rglob(prefix.DATA))


def test_what_is_stale_and_cut_off_is_dropped_as_such(pack, request, tmp_path, capsys):
    encoder, content = made("bert", pack, request)
    encoder.unfreeze(1)
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    was = next(tmp_path.glob("text-*"))
    (was / prefix.ABOUT).unlink()
    encoder.unfreeze(2)
    capsys.readouterr()
    prefix.keep(encoder, content, tmp_path, CPU, "auto")
    assert capsys.readouterr().err == f"prefix: {was} was cut off; it is dropped\n"
    assert not was.exists()


class Full(io.BytesIO):
    """A file on a disk that has no room."""

    def __init__(self, write):
        super().__init__()
        self.write = write


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_without_room_stops_as_well(bert, tmp_path):
    """What a file says by itself, not as a test would have it."""
    encoder, _ = reader(bert)
    encoder.unfreeze(1)
    content = TextContent(["the old wool hat of the winter"] * 400, encoder)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / prefix.DATA).symlink_to("/dev/full")
    with pytest.raises(files.Stop, match=r"activations need [\d,]+ bytes in"):
        prefix.fill(encoder, content, tmp_path / "text", {})
    assert not [*tmp_path.iterdir()]
