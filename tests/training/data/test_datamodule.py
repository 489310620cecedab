from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from contract.errors import DataError
from training.data.augment import AugmentConfig
from training.data.datamodule import DataConfig, SegmentationData
from training.data.folder import load_image, open_folder
from training.data.order import EpochOrder


def data_of(dataset, augment=None, **fields) -> SegmentationData:
    config = DataConfig(**{"workers": 0, "batch_size": 4, "patch": (32, 32), **fields})
    return SegmentationData(config, augment, dataset=dataset)


def epoch_of(loader, epoch: int) -> list[dict[str, torch.Tensor]]:
    loader.sampler.set_epoch(epoch)  # as Lightning does
    return list(loader)


def test_batches(phantom_set):
    data = data_of(phantom_set, patches_per_image=2)
    assert (data.channels, [c.name for c in data.classes]) == (1, ["background", "cell", "nucleus"])
    assert [len(p) for p in (data.split.train, data.split.val, data.split.test)] == [8, 2, 2]
    batches = epoch_of(data.train_dataloader(), 0)
    assert len(batches) == 4
    assert batches[0]["image"].shape == (4, 1, 32, 32)
    assert batches[0]["statistics"].shape == (4, 1, 2)
    assert batches[0]["mask"].shape == (4, 32, 32)
    (whole, _) = data.val_dataloader()
    assert whole["image"].shape == (1, 1, 72, 96)
    assert whole["stem"] == [data.split.val[0]]
    assert [b["stem"][0] for b in data.test_dataloader()] == list(data.split.test)


@pytest.mark.slow
def test_workers_change_nothing(phantom_set):
    alone, helped = (
        data_of(phantom_set, patches_per_image=2, workers=workers).train_dataloader()
        for workers in (0, 2)
    )
    for epoch in (0, 1, 5):  # the workers live on; a resumed training jumps
        for one, other in zip(epoch_of(alone, epoch), epoch_of(helped, epoch), strict=True):
            assert all(torch.equal(one[key], other[key]) for key in one)


def test_epochs_and_seeds_differ(phantom_set):
    loader = data_of(phantom_set).train_dataloader()
    first, second = epoch_of(loader, 0)[0], epoch_of(loader, 1)[0]
    assert not torch.equal(first["image"], second["image"])
    again = epoch_of(data_of(phantom_set).train_dataloader(), 0)[0]
    assert torch.equal(first["image"], again["image"])
    seeded = epoch_of(data_of(phantom_set, seed=1).train_dataloader(), 0)[0]
    assert not torch.equal(first["image"], seeded["image"])


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # Lightning on this torch
@pytest.mark.filterwarnings("ignore:.*(many workers|logging interval).*")
def test_lightning_tells_the_epoch(phantom_set):
    class Listener(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.sums: dict[int, float] = {}

        def training_step(self, batch, index):
            if index == 0:
                self.sums[self.current_epoch] = float(batch["image"].sum())
            return self.weight

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data, listener = data_of(phantom_set), Listener()
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(listener, train_dataloaders=data.train_dataloader())
    loader = data.train_dataloader()
    expected = {epoch: float(epoch_of(loader, epoch)[0]["image"].sum()) for epoch in (0, 1)}
    assert listener.sums == expected


def test_order_shows_every_sample_once():
    order = EpochOrder(50, seed=1)
    epochs = []
    for epoch in range(2):
        order.set_epoch(epoch)
        keys = list(order)
        assert {key.epoch for key in keys} == {epoch}
        assert sorted(key.sample for key in keys) == list(range(50))
        epochs.append([key.sample for key in keys])
    assert epochs[0] != epochs[1]


def test_processes_share_an_epoch(monkeypatch):
    shares = []
    for rank in range(3):
        monkeypatch.setattr("training.data.order._processes", lambda r=rank: (r, 3))
        order = EpochOrder(50, seed=1)
        shares.append([key.sample for key in order])
        assert len(order) == len(shares[-1]) == 16
    assert len({sample for share in shares for sample in share}) == 48


def test_class_weights_are_inverse_roots_of_mean_one(make_folder):
    image = np.random.default_rng(0).integers(0, 255, (10, 10), dtype=np.uint8)
    mask = np.zeros((10, 10), np.uint8)
    mask[0, :9] = 1  # 9 pixels of class 1
    mask[1:5] = 7  # 40 ignored, 51 of the background
    mask[9, 9] = 2  # 1 pixel of class 2; 50 of the background
    names = ["a.png", "b.png"]
    yaml = "ignore: 7\nclasses: [{name: b}, {name: c}, {name: d}, {name: never}]"
    root = make_folder(dict.fromkeys(names, image), dict.fromkeys(names, mask), yaml)
    dataset = open_folder(root, progress=False)
    weights = data_of(dataset, val_fraction=0.5, test_fraction=0.0).class_weights()
    roots = 1 / np.sqrt([50, 9, 1, 1])
    np.testing.assert_allclose(weights, roots / roots.mean(), rtol=1e-6)


def test_training_statistics_are_those_of_all_pixels(phantom_set):
    data = data_of(phantom_set)
    pixels = np.concatenate(
        [load_image(case, 1).ravel() for case in phantom_set.select(data.split.train)]
    ).astype(np.float64)
    (mean,), (std,) = data.training_statistics()
    assert mean == pytest.approx(pixels.mean(), rel=1e-6)
    assert std == pytest.approx(pixels.std(), rel=1e-6)


def test_patch_is_chosen_within_the_images(phantom_set):
    assert data_of(phantom_set, patch=None).patch == (64, 64)


def test_working_size_trains_whole_images_and_validates_at_their_own_size(phantom_set):
    data = data_of(phantom_set, patch=None, working_size=(48, 64))
    assert data.patch is None
    assert epoch_of(data.train_dataloader(), 0)[0]["image"].shape == (4, 1, 48, 64)
    assert next(iter(data.val_dataloader()))["image"].shape == (1, 1, 72, 96)


def test_working_size_without_augmentation_shows_the_whole(phantom_set):
    none = AugmentConfig(kind="none")
    data = data_of(phantom_set, none, patch=None, working_size=(72, 96))
    samples = data.train_samples()
    image = load_image(phantom_set.select(data.split.train)[0], 1)
    np.testing.assert_allclose(samples[0]["image"][0], image[..., 0], atol=1e-3)
    assert samples[0]["mask"].max() < 255


def test_split_file_is_written_and_reused(phantom_set, tmp_path):
    file = tmp_path / "split.json"
    first = data_of(phantom_set, split_file=str(file), seed=1)
    assert data_of(phantom_set, split_file=str(file), seed=2).split == first.split
    assert data_of(phantom_set, seed=2).split != first.split


def test_split_file_of_another_set_is_refused(phantom_set, tmp_path):
    file = tmp_path / "split.json"
    data_of(phantom_set, split_file=str(file))
    fewer = replace(phantom_set, cases=phantom_set.cases[:9])
    with pytest.raises(DataError, match="does not have"):
        data_of(fewer, split_file=str(file))


def test_too_few_samples_for_a_batch(phantom_set):
    with pytest.raises(DataError, match="do not fill one batch of 9"):
        data_of(phantom_set, batch_size=9).train_dataloader()


def test_a_bad_folder_stops_at_once(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        SegmentationData(DataConfig(root=str(tmp_path / "absent")), progress=False)
