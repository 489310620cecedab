from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from contract.errors import DataError, RequestInvalid
from contract.spec import Tiles
from training.data.folder import FolderDataset
from training.probe import probed as probed_module
from training.probe.probed import Probed, open_beside, open_probed, seen_in_training, unlike

Look = Callable[..., Probed]


def test_an_answer_is_what_the_graph_answers_at_odd_sizes(look_at: Look) -> None:
    probed = look_at()
    image = np.random.default_rng(0).integers(0, 4000, (1, 37, 51)).astype(np.float32)
    with torch.no_grad():
        expected = probed.graph(torch.from_numpy(image)[None])[0][0].numpy()
    assert probed.answer(image).shape == (37, 51)
    np.testing.assert_array_equal(probed.answer(image), expected)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_an_image_past_the_memory_is_answered_in_tiles(
    look_at: Look, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = look_at(task=task)
    noise = np.random.default_rng(1).normal(2000, 900, (1, 192, 144)).astype(np.float32)
    image = gaussian_filter(noise, (0, 4, 4)) * 8
    whole = probed.answer(image)
    tiles = Tiles(patch=(96, 96), overlap=0.5)
    monkeypatch.setattr(probed_module, "tiles_where_too_large", lambda *a, **k: tiles)
    tiled = probed.answer(image)
    assert tiled.shape == whole.shape
    assert np.mean(tiled != whole) < 0.02  # only the context at a tile's border differs


def test_a_net_and_images_that_do_not_belong_together_are_refused(
    look_at: Look, small_sets: Callable[[str], FolderDataset]
) -> None:
    probed = look_at()
    with pytest.raises(DataError, match=r"2 classes.*multilabel.*the net net has 3"):
        replace(probed, dataset=small_sets("multilabel"))
    with pytest.raises(DataError, match="no image to look at"):
        replace(probed, stems=())
    with pytest.raises(DataError, match="i9"):
        replace(probed, stems=("i9",))
    graph = probed.description.build_graph().train()
    with pytest.raises(ValueError, match="training mode"):
        replace(probed, graph=graph)


def test_what_a_net_was_trained_on_is_said(look_at: Look) -> None:
    probed = look_at()
    assert seen_in_training(probed) is None
    warning = seen_in_training(replace(probed, trained_on=frozenset({"i2", "elsewhere"})))
    assert warning is not None
    assert "1 of the 4 images (i2)" in warning


def test_nets_are_compared_on_the_same_images_under_different_names(look_at: Look) -> None:
    one, two = look_at(name="one"), look_at(name="two")
    assert unlike([one, two]) is None
    assert "one name" in str(unlike([one, one]))
    assert "same images" in str(unlike([one, replace(two, stems=("i1",))]))


@pytest.mark.slow
def test_a_run_or_a_checkpoint_opens_with_its_images(run_folder: Path, phantoms: Path) -> None:
    probed = open_probed(run_folder, device="cpu")
    assert len(probed.stems) == 3  # of 20 images
    assert not probed.graph.training
    assert not set(probed.stems) & probed.trained_on
    best = run_folder / "checkpoints/best.ckpt"
    other = open_beside(probed, best)
    assert other.stems == probed.stems
    assert unlike([probed, other]) is None
    limited = [open_probed(best, part="train", limit=5, seed=s, device="cpu") for s in (0, 0, 1)]
    assert limited[0].stems == limited[1].stems != limited[2].stems
    assert len(limited[0].stems) == 5
    assert "5 of the 5" in str(seen_in_training(limited[0]))


@pytest.mark.slow
def test_a_checkpoint_by_itself_needs_a_folder_and_takes_all_of_it(
    run_folder: Path, phantoms: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "weights.ckpt"
    alone.write_bytes((run_folder / "checkpoints/best.ckpt").read_bytes())
    with pytest.raises(RequestInvalid, match=r"--data\.root"):
        open_probed(alone)
    probed = open_probed(alone, root=phantoms, device="cpu")
    assert (len(probed.stems), probed.name) == (20, "weights")
    with pytest.raises(RequestInvalid, match="--part val needs"):
        open_probed(alone, root=phantoms, part="val")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/best.ckpt").write_bytes(b"")
    with pytest.raises(RequestInvalid, match=r"lacks config\.yaml"):
        open_probed(tmp_path, root=phantoms)
