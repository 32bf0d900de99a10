"""Sentences into which the name of a class is put, for `hf_fashion.zero_shot`: plain data, a tuple for each set.

That the mean over several sentences says more than one of them was shown for CLIP by Radford et al. (2021, arXiv
2103.00020, section 3.1.4); these sentences are of our own.
"""

SETS = {
    # The class and nothing else: for encoders that learned from short titles.
    "bare": ("{}",),
    "photo": ("a photo of a {}.",),
    # Kinds of garments, shoes and accessories, in the places where such photos are taken.
    "fashion": (
        "a photo of a {}.",
        "a product photo of a {}, clothing.",
        "a {} on a white background.",
        "a person wearing a {}.",
        "a {} laid flat on the floor.",
        "a {} on a hanger.",
        "a {} from the catalogue of a shop.",
        "a close-up of a {}.",
        "a second-hand {} for sale.",
        "a {}, an item of fashion.",
    ),
    # Words of any kind: a colour, a pattern, a material, a part.
    "attributes": (
        "a photo of clothing, {}.",
        "a product photo of a garment, {}.",
        "clothing, {}, on a white background.",
        "a person wearing clothing, {}.",
        "a garment from the catalogue of a shop, {}.",
    ),
}
