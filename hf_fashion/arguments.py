"""Settings that several tasks have: which photos, how splits are cut off, what goes on the card."""

from dataclasses import dataclass, field
from typing import Literal

from hf_fashion import boxes, cards, images
from hf_fashion.errors import InputError, in_range


@dataclass
class DatasetArguments:
    """Settings that say which photos, and how to read them."""

    _argument_group_name = "photos"

    dataset: str = field(default="sample", metadata={"help": "The photos; see the README."})
    dataset_config: str | None = field(
        default=None, metadata={"help": "Which configuration (subset) of a Hub dataset."}
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub dataset."})
    image_column: str | None = field(
        default=None, metadata={"help": "Column of the photos, where it is not found by itself."}
    )
    on_bad_image: Literal["stop", "drop"] = field(
        default="stop",
        metadata={"help": "On photos that cannot be read: stop, or drop them and go on; run.json names them."},
    )
    max_pixels: int = field(
        default=images.LIMITS.max_pixels,
        metadata={
            "help": "A photo of more pixels (width x height) cannot be read: it is refused by its header. 25 million "
            "take up to 500 MB of memory."
        },
    )
    max_bytes: int = field(
        default=images.LIMITS.max_bytes, metadata={"help": "A photo whose file has more bytes cannot be read."}
    )
    min_side: int = field(
        default=images.LIMITS.min_side, metadata={"help": "Warn of photos whose shorter side has fewer pixels."}
    )
    max_aspect: float = field(
        default=images.LIMITS.max_aspect,
        metadata={"help": "Warn of photos whose longer side is more than so many times the shorter."},
    )

    @property
    def limits(self) -> images.Limits:
        """What a photo may be, for all that decodes one."""
        return images.Limits(self.max_pixels, self.max_bytes, self.min_side, self.max_aspect)

    def __post_init__(self) -> None:
        _ = self.limits  # refuses values that make no sense


@dataclass
class BoxArguments:
    """Settings that say what the boxes of the photos are."""

    objects_column: str | None = field(
        default=None, metadata={"help": "Column of the boxes, where it is not called objects."}
    )
    box_format: Literal[boxes.FORMATS] | None = field(  # type: ignore[valid-type]
        default=None,
        metadata={"help": "What the four numbers of a box are, where they are not x, y, width, height in pixels."},
    )
    on_bad_box: Literal["stop", "clip", "drop"] = field(
        default="stop",
        metadata={
            "help": "On boxes that cannot be right: stop; clip those that are partly outside their photo; or drop, "
            "besides, those that cannot be mended. run.json says how many."
        },
    )


@dataclass
class SplitArguments:
    """Settings that say how missing splits are cut off."""

    split_by: str | None = field(
        default=None,
        metadata={
            "help": "Column (seller, product, ...): photos with the same value in it go to the same split, where "
            "splits are cut off."
        },
    )
    validation_share: float = field(
        default=0.15,
        metadata={"help": "Share of the photos that is cut off for validation, where the dataset has no such split."},
    )
    test_share: float = field(
        default=0.15,
        metadata={"help": "Share of the photos that is cut off for the test, where the dataset has no such split."},
    )
    split_seed: int | None = field(
        default=None, metadata={"help": "Decides which photos are cut off for validation and test. Default: --seed."}
    )

    def refuse_splits(self) -> None:
        """Raises InputError for values out of their range."""
        for name in ("validation_share", "test_share"):
            in_range(name, getattr(self, name), 0.0, 0.9)
        if self.split_seed is not None:
            in_range("split_seed", self.split_seed, 0, 2**32 - 1)


@dataclass
class CardArguments:
    """Settings of the model card."""

    card_prose: str | None = field(
        default=None, metadata={"help": "Markdown file with intended use and limits, for the card."}
    )
    card_photos: bool = field(
        default=True,
        metadata={"help": "Put three photos of the test split beside the card, as examples; --no_card_photos: none."},
    )
    license: str | None = field(
        default=None, metadata={"help": "Licence of the trained model, for the card, as apache-2.0."}
    )
    license_name: str | None = field(
        default=None, metadata={"help": "With --license other: its name, as my-license-1.0."}
    )
    license_link: str | None = field(
        default=None, metadata={"help": "With --license other: LICENSE, a file beside the model, or a URL."}
    )
    benchmark_id: str | None = field(
        default=None,
        metadata={
            "help": "DATASET or DATASET:TASK, a benchmark on the Hub that the photos are: writes .eval_results, which "
            "its leaderboard reads."
        },
    )

    def refuse_card(self, dataset: str) -> None:
        """Raises InputError for a card that the Hub would refuse, or a text that is not there."""
        cards.refuse_prose(self.card_prose)
        cards.refuse_license(self.license)
        cards.refuse_benchmark(self.benchmark_id, dataset)
        if (self.license_name or self.license_link) and self.license != "other":
            raise InputError(
                "--license_name, --license_link", expected="--license other", found=f"--license {self.license}",
                fix="--license other, or leave them out",
            )  # fmt: skip
