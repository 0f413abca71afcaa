import open_clip
import pytest
import torch
from PIL import Image

from pipeline.data import decoding, demo, files
from pipeline.training import clip

SMALL = demo.Size(users=10, items=48, mean_length=6.0)
TINY = clip.DemoEncoder(
    seed=0, pixels=32, patch=16, width=32, layers=1, epochs=4, batch=16, learning_rate=3e-3,
    weight_decay=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "raw"
    demo.write(demo.DemoData(seed=0, harbor=SMALL, near=SMALL, far=SMALL, cold=SMALL), out)
    return out / "Source_datasets" / "harbor"


def test_pairs_leave_out_what_has_no_title_or_no_cover(raw):
    pairs = clip.read_pairs(raw, 32)
    assert pairs.pixels.shape == (48 - 3, 3, 32, 32)
    assert pairs.tokens.shape == (48 - 3, clip.WORDS)
    assert pairs.pixels.abs().max() <= 1


def test_training_lowers_the_contrast_and_repeats_itself(raw):
    pairs = clip.read_pairs(raw, 32)

    def loss(model):
        with torch.no_grad():
            return open_clip.ClipLoss()(*model(*pairs)).item()

    torch.manual_seed(0)
    untrained = open_clip.CLIP(**clip.configuration(TINY)["model_cfg"]).eval()
    once, twice = clip.train(TINY, pairs), clip.train(TINY, pairs)
    assert loss(once) < loss(untrained)
    for one, other in zip(once.state_dict().values(), twice.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_rate_falls_to_zero_over_all_steps(raw, monkeypatch):
    made, real = [], torch.optim.lr_scheduler.CosineAnnealingLR

    def noted(*args):
        made.append(real(*args))
        return made[-1]

    monkeypatch.setattr(torch.optim.lr_scheduler, "CosineAnnealingLR", noted)
    clip.train(TINY.model_copy(update={"epochs": 2}), clip.read_pairs(raw, 32))
    # 45 pairs by 16 are three steps, twice.
    assert made[0].last_epoch == 6
    assert made[0].get_last_lr() == pytest.approx([0.0])


def test_open_clip_loads_the_folder(raw, tmp_path):
    pairs = clip.read_pairs(raw, 32)
    model = clip.train(TINY.model_copy(update={"epochs": 1}), pairs)
    clip.save(model, TINY, tmp_path / "encoder")
    loaded, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{tmp_path / 'encoder'}"
    )
    loaded.eval()
    assert "32" in str(preprocess.transforms[0])
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.encode_image(pairs.pixels), model.encode_image(pairs.pixels)
        )


def own_domain(tmp_path):
    """Three items: one with a cover, one whose id leads elsewhere, one with a cover as PNG."""
    folder = tmp_path / "x"
    (folder / "x_cover").mkdir(parents=True)
    (folder / "x_item.csv").write_text("a,,one\n../../out,,two\nc,,three\nd,,four\n")
    red = Image.new("RGB", (9, 9), "red")
    for name in ("x_cover/a.jpg", "../out.jpg", "x_cover/c.png"):
        red.save(folder / name)
    (folder / "x_cover/d.jpg").write_bytes(b"")
    return folder


def test_covers_are_looked_up_in_the_listing_and_never_opened_by_an_id(tmp_path):
    pairs = clip.read_pairs(own_domain(tmp_path), 8)
    assert pairs.pixels.shape == (2, 3, 8, 8)
    # Red is (1, 0, 0); less 0.5, over 0.5.
    assert (pairs.pixels[1] == torch.tensor([1.0, -1.0, -1.0]).view(3, 1, 1)).all()
    assert torch.equal(
        pairs.tokens, open_clip.SimpleTokenizer(context_length=clip.WORDS)(["one", "three"])
    )


def test_a_cover_that_is_too_large_is_left_out_undecoded(tmp_path, monkeypatch):
    folder = own_domain(tmp_path)
    Image.new("RGB", (40, 40), "red").save(folder / "x_cover/a.jpg")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    assert len(clip.read_pairs(folder, 8).tokens) == 1


def test_a_folder_without_covers_stops(tmp_path):
    folder = own_domain(tmp_path)
    (folder / "x_cover").rename(folder / "elsewhere")
    with pytest.raises(files.Stop, match=r"x_cover: no such folder of covers"):
        clip.read_pairs(folder, 8)


def test_a_folder_without_items_stops(tmp_path):
    with pytest.raises(files.Stop, match=r"x: no such folder; x_item\.csv is read from it"):
        clip.read_pairs(tmp_path / "x", 32)
