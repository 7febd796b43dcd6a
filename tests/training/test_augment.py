"""Changed copies of images: the same for the same seed, epoch and position, and nothing else."""

import torch

from local_backend.engine.classify.augment import Augmentation

PIXELS = torch.rand(6, 3, 28, 28, generator=torch.Generator().manual_seed(0))
TARGETS = torch.eye(6, 4)


def changed(options, *, seed=7, epoch=0, positions=range(6), pixels=PIXELS):
    augmentation = Augmentation.of(options)
    return augmentation.apply(pixels, TARGETS[: len(pixels)], seed=seed, epoch=epoch, positions=positions)


def test_nothing_is_changed_unless_asked():
    assert Augmentation.of(None) is None
    assert Augmentation.of({"flip": False, "crop": 0.0, "mixup": 0.0}) is None


def test_a_copy_depends_on_seed_epoch_and_position_alone():
    options = {"flip": True, "crop": 0.3}
    whole, _ = changed(options)
    assert torch.equal(whole, changed(options)[0])
    assert torch.equal(whole[4:], changed(options, positions=(4, 5), pixels=PIXELS[4:])[0])
    assert not torch.equal(whole, changed(options, epoch=1)[0])
    assert not torch.equal(whole, changed(options, seed=8)[0])


def test_flipping_mirrors_about_half_of_the_images_and_changes_no_others():
    many = PIXELS[:1].expand(200, -1, -1, -1)
    copies, _ = Augmentation(flip=True).apply(many, torch.ones(200, 1), seed=1, epoch=0, positions=range(200))
    is_mirrored = [torch.equal(copy, PIXELS[0].flip(-1)) for copy in copies]
    assert all(mirrored or torch.equal(copy, PIXELS[0]) for copy, mirrored in zip(copies, is_mirrored, strict=True))
    assert 70 < sum(is_mirrored) < 130


def test_a_cut_shows_a_part_at_the_old_size():
    ramp = torch.linspace(0, 1, 28).expand(1, 3, 28, 28)
    copies, _ = Augmentation(crop=0.5).apply(
        ramp.expand(50, -1, -1, -1), torch.ones(50, 1), seed=1, epoch=0, positions=range(50)
    )
    assert copies.shape == (50, 3, 28, 28)
    spans = copies[:, 0, 0, -1] - copies[:, 0, 0, 0]
    assert spans.min() >= 0.45
    assert spans.max() <= 1.0
    assert spans.std() > 0.05


def test_mixing_keeps_the_sum_of_labels_and_the_larger_share_is_the_images_own():
    copies, targets = changed({"mixup": 0.4})
    own = targets[torch.arange(4), torch.arange(4)]
    assert torch.allclose(targets[:3].sum(1), torch.ones(3))
    assert (own[:3] >= 0.5).all()
    assert torch.allclose(copies[0], own[0] * PIXELS[0] + (1 - own[0]) * PIXELS[1], atol=1e-6)
