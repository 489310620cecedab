import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contract.statistics import image_statistics
from imaging.channels import to_chw_float32
from training.data.augment import AugmentConfig, build_augment
from training.data.cache import CaseCache, load_case
from training.data.draws import Draws
from training.data.folder import load_image, load_mask, open_folder
from training.data.samples import PatchSamples, SampleKey, WholeImages

PLENTY = 1 << 30


def cache_of(dataset, max_bytes=PLENTY, **options) -> CaseCache:
    return CaseCache(dataset.cases, dataset.spec, dataset.channels, max_bytes=max_bytes, **options)


def samples_of(dataset, *, kind="microscopy", patch=(48, 48), max_bytes=PLENTY, **options):
    augment = build_augment(AugmentConfig(kind=kind), patch, channels=dataset.channels)
    return PatchSamples(cache_of(dataset, max_bytes), augment, seed=3, **options)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else True


def test_shapes_and_types(phantom_set):
    sample = samples_of(phantom_set)[0]
    assert sample["image"].shape == (1, 48, 48)
    assert sample["statistics"].shape == (1, 2)
    assert sample["mask"].shape == (48, 48)
    assert (sample["image"].dtype, sample["statistics"].dtype) == (torch.float32, torch.float32)
    assert sample["mask"].dtype == torch.uint8


def test_a_key_names_its_sample_for_good(phantom_set):
    one = samples_of(phantom_set, patches_per_image=2, foreground_fraction=0.5)
    two = samples_of(phantom_set, patches_per_image=2, foreground_fraction=0.5, max_bytes=0)
    two.set_epoch(7)
    for index in range(len(two)):  # another order, nothing kept, the epoch set instead of sent
        assert_same(two[len(two) - 1 - index], one[SampleKey(7, len(two) - 1 - index)])
    assert not torch.equal(one[0]["image"], one[SampleKey(1, 0)]["image"])


def test_draws_decide_whose_patch_a_key_names(phantom_set):
    draws = Draws(np.array([9.0] + [1.0] * 11), samples=12, seed=3)
    samples = samples_of(phantom_set, kind="none", draws=draws)
    for epoch in (0, 5):
        for index in range(12):
            case = phantom_set.cases[draws.image_of(epoch, index)]
            own = image_statistics(to_chw_float32(load_image(case, 1)))
            np.testing.assert_array_equal(samples[SampleKey(epoch, index)]["statistics"], own)


def test_patches_of_one_image_differ(phantom_set):
    samples = samples_of(phantom_set, patches_per_image=3)
    assert len(samples) == 36
    assert not torch.equal(samples[0]["image"], samples[1]["image"])
    with pytest.raises(IndexError):
        samples[36]


def test_unaltered_patches_carry_the_whole_images_statistics(phantom_set):
    samples = samples_of(phantom_set, kind="none")
    for index, case in enumerate(phantom_set.cases):
        image = to_chw_float32(load_image(case, 1))
        np.testing.assert_array_equal(samples[index]["statistics"], image_statistics(image))


def test_foreground_is_oversampled(make_folder):
    image = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    mask = np.zeros((200, 200), np.uint8)
    mask[150:154, 20:24] = 1
    mask[100:110, 150:160] = 2
    dataset = open_folder(make_folder({"a.png": image}, {"a.png": mask}), progress=False)
    hits = {}
    for fraction in (0.0, 1.0):
        samples = samples_of(
            dataset, kind="none", patch=(24, 24), foreground_fraction=fraction, patches_per_image=60
        )
        classes = [set(samples[i]["mask"].unique().tolist()) for i in range(60)]
        hits[fraction] = [sum(k in seen for seen in classes) for k in (1, 2)]
    assert sum(hits[0.0]) < 20
    assert sum(hits[1.0]) == 60
    assert min(hits[1.0]) > 15  # classes in turn, whatever their size


def test_an_image_without_foreground_is_sampled_anyway(make_folder):
    image = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    masks = {"a.png": np.zeros((40, 40), np.uint8), "b.png": np.ones((40, 40), np.uint8)}
    dataset = open_folder(make_folder(dict.fromkeys(masks, image), masks), progress=False)
    samples = samples_of(dataset, kind="none", foreground_fraction=1.0, patch=(16, 16))
    assert samples[0]["mask"].max() == 0


def test_whole_images_come_as_they_are(phantom_set):
    samples = WholeImages(cache_of(phantom_set))
    for index, case in enumerate(phantom_set.cases):
        sample = samples[index]
        assert sample["stem"] == case.stem
        image = to_chw_float32(load_image(case, 1))
        np.testing.assert_array_equal(sample["image"], image)
        np.testing.assert_array_equal(sample["mask"], load_mask(case, phantom_set.spec))
        np.testing.assert_array_equal(sample["statistics"], image_statistics(image))


def test_samples_do_not_share_memory_with_the_cache(phantom_set):
    samples = WholeImages(cache_of(phantom_set))
    samples[0]["image"].zero_()
    samples[0]["mask"].fill_(9)
    samples[0]["statistics"].zero_()
    assert samples[0]["image"].max() > 0
    assert samples[0]["mask"].max() < 9
    assert samples[0]["statistics"].min() > 0


def test_working_size_is_what_the_graph_resamples_to(phantom_set):
    case = phantom_set.cases[0]
    loaded = load_case(case, phantom_set.spec, 1, working_size=(40, 50))
    image = to_chw_float32(load_image(case, 1))
    batch = torch.from_numpy(image)[None]
    graph = F.interpolate(batch, (40, 50), mode="bilinear", align_corners=False, antialias=True)
    np.testing.assert_array_equal(loaded.image_hwc[..., 0], graph[0, 0])
    assert loaded.mask.shape == (40, 50)
    np.testing.assert_array_equal(loaded.overview.statistics, image_statistics(image))


def test_the_cache_keeps_to_its_bound(phantom_set):
    one = cache_of(phantom_set)[0].size_bytes
    cache = cache_of(phantom_set, max_bytes=int(2.5 * one))
    for index in range(12):
        cache[index]
    assert 0 < cache.held_bytes <= 2.5 * one
    assert cache[0] is cache[0]
    assert cache[11] is not cache[11]


def test_multilabel_masks_come_channels_first(make_folder):
    image = np.random.default_rng(0).integers(0, 255, (30, 40), dtype=np.uint8)
    masks = {"a/x.png": image % 2, "a/y.png": (image > 9).astype(np.uint8)}
    root = make_folder({"a.png": image}, masks, "task: multilabel")
    dataset = open_folder(root, progress=False)
    whole = WholeImages(cache_of(dataset))[0]
    np.testing.assert_array_equal(whole["mask"], [image % 2, image > 9])
    assert samples_of(dataset, foreground_fraction=1.0)[0]["mask"].shape == (2, 48, 48)
