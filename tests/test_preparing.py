"""Photos as a processor prepares them, to the bit, though it is not called."""

from io import BytesIO

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from tiny import tiny

from hf_fashion import backbones, examples, images, preparing

SIZES = [(32, 32), (33, 31), (90, 61), (61, 90), (200, 47), (10, 300), (300, 10), (5, 5), (1, 1), (128, 128), (65, 64)]


def encoded(seed, size):
    height, width = size
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 1 + seed % 8
    image = Image.fromarray(noise)
    (image.convert("RGBA") if seed % 4 == 3 else image).save(buffer, "PNG" if seed % 4 == 3 else "JPEG", exif=exif)
    return buffer.getvalue()


PHOTOS = [encoded(seed, size) for seed, size in enumerate(SIZES)]


def processors():
    made = {
        "ViT": transformers.ViTImageProcessor(size={"height": 32, "width": 48}),
        "DeiT": transformers.DeiTImageProcessor(
            size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}
        ),
        "CLIP": transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        "DINOv2": transformers.BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
        "SigLIP": transformers.SiglipImageProcessor(size={"height": 32, "width": 32}),
        "ConvNext": transformers.ConvNextImageProcessor(size={"shortest_edge": 32}),
        "neither scaled nor shifted twice": transformers.ViTImageProcessor(
            size={"height": 32, "width": 32}, image_mean=[0, 0, 0], image_std=[1, 1, 1]
        ),
    }
    # They do more than is known here, or otherwise: the processor itself is called.
    others = {
        "ConvNext, of another crop": transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.7),
        "padded": transformers.ViTImageProcessor(
            size={"max_height": 32, "max_width": 32}, do_pad=True, pad_size={"height": 32, "width": 32}
        ),
        "of proportions that stay": transformers.ViTImageProcessor(size={"shortest_edge": 32}),
    }
    return made, others


KNOWN, OTHERS = processors()


def of_processor(processor, photos=PHOTOS):
    return [processor(images.decode(one), return_tensors="pt")["pixel_values"][0] for one in photos]


@pytest.mark.parametrize("name", KNOWN)
def test_numbers_are_the_processors_to_the_bit(name):
    prepare = preparing.Preparer(KNOWN[name])
    assert prepare.way is not None
    expected = torch.stack(of_processor(KNOWN[name]))
    made = prepare(PHOTOS)
    assert torch.equal(made, expected) and made.dtype == torch.float32 and made.is_contiguous()
    kept = prepare.bytes(PHOTOS)
    assert kept.dtype == torch.uint8
    mean, std = KNOWN[name].image_mean, KNOWN[name].image_std
    assert torch.equal(preparing.numbers(prepare.way, kept, mean, std), expected)


@pytest.mark.parametrize("kind", ["timm", "vit", "resnet", "dinov2"])
def test_numbers_of_loaded_processors(kind, tmp_path):
    _, processor = backbones.load_classifier(tiny(kind, tmp_path), ["a", "b"])
    prepare = preparing.Preparer(processor)
    assert prepare.way is not None
    assert torch.equal(torch.as_tensor(prepare(PHOTOS)), torch.stack(of_processor(processor)))


@pytest.mark.parametrize("name", OTHERS)
def test_other_processors_are_called(name):
    prepare = preparing.Preparer(OTHERS[name])
    assert prepare.way is None
    for photo in PHOTOS[:3]:
        assert torch.equal(prepare([photo])[0], of_processor(OTHERS[name], [photo])[0])


def test_a_processor_that_changes_one_step_is_called(monkeypatch):
    class Brighter(transformers.ViTImageProcessor):
        def rescale_and_normalize(self, *args, **options):
            return super().rescale_and_normalize(*args, **options) * 1.0001

    processor = Brighter(size={"height": 32, "width": 32})
    prepare = preparing.Preparer(processor)
    assert prepare.way is None and torch.equal(prepare(PHOTOS[:1])[0], of_processor(processor, PHOTOS[:1])[0])


def test_a_photo_that_cannot_be_read_says_why():
    with pytest.raises(ValueError, match="empty"):
        preparing.Preparer(KNOWN["ViT"])([PHOTOS[0], b""])
    with pytest.raises(ValueError, match="too many pixels"):
        preparing.Preparer(KNOWN["ViT"])([PHOTOS[2]], limits=images.Limits(max_pixels=5000))


@pytest.mark.parametrize("name", ["ViT", "padded"])
def test_examples_go_this_way(name):
    processor = (KNOWN | OTHERS)[name]
    rows = Dataset.from_list(
        [{"image": {"bytes": one, "path": None}, "label": number} for number, one in enumerate(PHOTOS)],
        Features({"image": ImageFeature(), "label": Value("int64")}),
    )
    expected = of_processor(processor)
    shown = examples.of_evaluation(rows, processor, ["label"], lambda row: 10 * row["label"])
    fixed = examples.of_training(
        rows, processor, ["label"], lambda row: 10 * row["label"], seed=0, smallest_crop=1.0, flip=False
    )
    for number in range(len(rows)):
        for example in (shown[number], fixed[number]):
            assert torch.equal(example["pixel_values"], expected[number]) and example["labels"] == 10 * number
    assert torch.equal(torch.as_tensor(shown[:4]["pixel_values"]), torch.stack(expected[:4]))
