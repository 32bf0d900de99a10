"""Each protocol of retrieval against a tiny truth made by hand."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

from hf_fashion import metrics, protocols
from hf_fashion.errors import InputError


def rows(text):
    """A table: the first line names the columns, `-` is an empty cell."""
    names, *lines = [line.split("|") for line in text.strip().splitlines()]
    names = [name.strip() for name in names]
    cells = [[None if cell.strip() == "-" else cell.strip() for cell in line] for line in lines]
    return Dataset.from_dict({name: [line[n] for line in cells] for n, name in enumerate(names)})


def lists(arrays):
    return [one.tolist() for one in arrays]


SHOP = rows("""
    item_id | role
    a | query
    a | gallery
    b | query
    c | gallery
    a | query
    a | gallery
    c | query
""")
MORE = rows("""
    item_id
    x
    c
    -
""")


@pytest.mark.parametrize(
    ("protocol", "who", "what"),
    [
        (protocols.in_shop, "query photos", "gallery photos"),
        (protocols.consumer_to_shop, "consumer photos", "shop photos"),
    ],
)
def test_queries_ask_the_gallery_and_every_photo_of_the_item_is_right(protocol, who, what):
    found = protocol(SHOP)
    assert found.query_kind == "image" and found.texts is found.gallery_texts is found.ignored is None
    assert found.queries.tolist() == [0, 4, 6] and found.gallery.tolist() == [1, 3, 5]
    assert lists(found.relevant) == [[0, 2], [0, 2], [1]]
    assert found.groups == ["a", "a", "c"]
    assert found.left_out == {"no photo of the item in the gallery": 1}  # b
    assert f": 3 {who} against 3 {what}; every photo of the same item is right; 1 left out: no photo" in found.line


def test_distractors_stand_behind_and_are_right_only_where_a_query_is_of_their_item():
    found = protocols.in_shop(SHOP, MORE)
    assert found.gallery.tolist() == [1, 3, 5, 7, 8, 9]
    assert lists(found.relevant) == [[0, 2], [0, 2], [1, 4]]
    assert "against 3 gallery photos and 3 distractors;" in found.line
    bare = protocols.in_shop(SHOP, MORE.rename_column("item_id", "source_row"))
    assert lists(bare.relevant) == [[0, 2], [0, 2], [1]] and len(bare.gallery) == 6


def test_a_photo_that_asks_is_not_searched():
    asked = protocols.in_shop(SHOP)
    assert not set(asked.queries.tolist()) & set(asked.gallery.tolist())


PHOTOS = rows("""
    item_id
    a
    b
    a
    c
    a
    c
""")


def test_each_photo_asks_all_others():
    found = protocols.leave_one_out(PHOTOS)
    assert found.queries.tolist() == [0, 2, 3, 4, 5] and found.gallery.tolist() == [0, 1, 2, 3, 4, 5]
    assert lists(found.relevant) == [[2, 4], [0, 4], [5], [0, 2], [3]]
    assert lists(found.ignored) == [[0], [2], [3], [4], [5]]
    assert found.groups == ["a", "a", "c", "a", "c"]
    assert found.left_out == {"the only photo of its item": 1}
    assert found.line == (
        "Leave one out: 5 photos each against the other 5 photos of the split; the other photos of its item are right;"
        " 1 left out: the only photo of its item."
    )
    assert "none left out" in protocols.leave_one_out(PHOTOS.select([0, 2])).line
    # a distractor of the item gives a photo that was alone something to find
    more = rows("""
        item_id
        b
        z
    """)
    assert lists(protocols.leave_one_out(PHOTOS, more).relevant) == [[2, 4], [6], [0, 4], [5], [0, 2], [3]]


TITLES = rows("""
    item_id | text
    a | Red dress
    a | -
    b | red  DRESS
    b | Long red dress
    c | Blue coat
    d | -
""")


def test_each_distinct_text_asks_and_equal_titles_and_same_items_are_right():
    found = protocols.text_to_image(TITLES)
    assert found.query_kind == "text" and found.texts == ["Red dress", "Long red dress", "Blue coat"]
    assert found.queries.tolist() == [0, 3, 4] and found.gallery.tolist() == list(range(6))
    # photos 0 and 2 have the title, 1 is of the same item as 0, 3 of the same item as 2
    assert lists(found.relevant) == [[0, 1, 2, 3], [2, 3], [4]]
    assert found.ignored is None and found.left_out == {} and found.groups == ["a", "b", "c"]
    assert found.line.startswith("Text to image: 3 distinct texts against 6 photos; every photo of that text, or")


def test_a_distractor_of_the_same_title_or_item_is_right():
    more = rows("""
        item_id | text
        x | blue coat
        a | Green hat
        y | Green hat
    """)
    found = protocols.text_to_image(TITLES, more)
    assert found.texts == ["Red dress", "Long red dress", "Blue coat"]  # distractors do not ask
    assert lists(found.relevant) == [[0, 1, 2, 3, 7], [2, 3], [4, 6]]
    assert lists(protocols.text_to_image(TITLES, MORE).relevant) == [[0, 1, 2, 3], [2, 3], [4, 7]]


def test_each_photo_asks_for_the_texts_of_its_item():
    more = rows("""
        item_id | text
        x | green hat
        y | RED dress
    """)
    found = protocols.image_to_text(TITLES, more)
    assert found.gallery_texts == ["Red dress", "Long red dress", "Blue coat", "green hat"]
    assert found.gallery.tolist() == [0, 3, 4, 6] and found.texts is None
    assert found.queries.tolist() == [0, 1, 2, 3, 4]
    assert lists(found.relevant) == [[0], [0], [0, 1], [0, 1], [2]]
    assert found.left_out == {"no text of the item": 1} and "5 photos against 4 distinct texts" in found.line


def changed():
    """Two categories of Fashion IQ; the dress r0 asks twice, once for a target that is not there."""
    ids = ["r0", "t0", "t1", "s0", "s1"]
    asks = {
        "r0": [
            {"target": "t1", "captions": [" is longer. ", "and in red?"]},
            {"target": "gone", "captions": ["x", "y"]},
        ],
        "t0": [{"target": "r0", "captions": ["shorter"]}],
        "s1": [{"target": "s0", "captions": ["has stripes", "darker"]}],
    }
    return Dataset.from_dict(
        {
            "item_id": ids,
            "category": ["dress", "dress", "dress", "shirt", "shirt"],
            "relative_captions": [asks.get(one, []) for one in ids],
        }
    )


def test_a_reference_and_words_ask_within_their_category():
    found = protocols.composed(changed())
    assert list(found) == ["dress", "shirt"]
    dress, shirt = found.values()
    assert dress.query_kind == "composed" and dress.queries.tolist() == [0, 1]
    assert dress.texts == ["is longer and and in red", "shorter"]
    assert dress.gallery.tolist() == [0, 1, 2] and lists(dress.relevant) == [[2], [0]]
    assert dress.left_out == {"the target is not in the gallery": 1} and dress.groups == ["r0", "t0"]
    assert shirt.queries.tolist() == [4] and shirt.gallery.tolist() == [3, 4] and lists(shirt.relevant) == [[0]]
    assert dress.ignored is None and "the reference is searched, too" in dress.line


def changing(*cells, **columns):
    """Photos a, b, 7, ... of which each has a cell of changes."""
    ids = ["a", "b", "7", "c"][: len(cells)]
    return Dataset.from_dict({"item_id": ids, "relative_captions": list(cells), **columns})


def test_changes_are_read_as_tables_hold_them():
    """Targets that are numbers, captions that are missing or blank, nobody who asks, lists of their own."""
    cells = [
        [{"target": 7, "captions": [None, "Ärmel länger. ", " "]}, {"target": 7, "captions": ["  "]}], None, [],
    ]  # fmt: skip
    assert protocols.changes_of(changing(*cells)) == [[("7", "Ärmel länger"), ("7", "")], [], []]
    [found] = protocols.composed(changing(*cells)).values()
    assert found.texts == ["Ärmel länger"] and lists(found.relevant) == [[2]] and found.left_out == {"no words": 1}
    cells = ['[{"target": 7, "captions": ["Ärmel länger"]}]', "", None]
    assert protocols.changes_of(changing(*cells)) == [[("7", "Ärmel länger")], [], []]
    cells = [['{"target": "b", "captions": ["red"]}'], [], None]  # a line of JSON, of which columns are texts
    assert protocols.changes_of(changing(*cells)) == [[("b", "red")], [], []]
    kind = Features({"item_id": Value("string"), "relative_captions": {"target": List(Value("string")),
                     "captions": List(List(Value("string")))}})  # fmt: skip
    parted = [{"target": ["b"], "captions": [["red", "long"]]}, {"target": [], "captions": []}]
    table = Dataset.from_dict({"item_id": ["a", "b"], "relative_captions": parted}, features=kind)
    assert protocols.changes_of(table) == [[("b", "red and long")], []]


def test_a_category_in_which_nobody_asks_has_no_search():
    cells = [[{"target": "b", "captions": ["red"]}], [], []]
    found = protocols.composed(changing(*cells, category=["dress", "dress", "shoe"]))
    assert list(found) == ["dress"]
    with pytest.raises(InputError, match="no row has a change"):
        protocols.composed(changing([], None))


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("the same in red", "the same in red"),
        ([None], "None"),
        (["red"], "'red'"),
        ([{"target": None, "captions": ["red"]}], "'target': None"),
        ([{"target": "b", "captions": "red"}], "'captions': 'red'"),
        ([{"target": "b", "captions": None}], "'captions': None"),
        ([{"target": "b", "captions": [1]}], r"'captions': \[1\]"),
        ([{"target": "b"}], "'target': 'b'"),
    ],
)
def test_what_is_no_change_is_refused_by_its_row(cell, found):
    with pytest.raises(InputError, match=f"column relative_captions, row 1\n.*list of texts.*\n.*{found}"):
        protocols.composed(changing(None, cell))


def test_a_reference_can_be_left_out_of_its_own_gallery():
    dress, shirt = protocols.composed(changed(), ignore_reference=True).values()
    assert lists(dress.ignored) == [[0], [1]] and lists(shirt.ignored) == [[1]]
    assert "the reference is not searched" in dress.line
    own = changing([{"target": "a", "captions": ["x"]}, {"target": "b", "captions": ["y"]}], [])
    [found] = protocols.composed(own, ignore_reference=True).values()
    assert found.texts == ["y"] and found.left_out == {"the target is the reference": 1}
    assert protocols.composed(own)["all"].texts == ["x", "y"]
    # an encoder that answers with the reference itself and sees no difference in the rest
    vectors, target = np.eye(3), [[1]]
    assert metrics.rank_relevant(vectors[[0]], vectors, target)[0].tolist() == [3]
    assert metrics.rank_relevant(vectors[[0]], vectors, target, dress.ignored[:1])[0].tolist() == [2]


def test_distractors_of_a_category_join_its_gallery():
    more = Dataset.from_dict({"item_id": ["gone", "x", "t1"], "category": ["dress", "shirt", "dress"]})
    dress, shirt = protocols.composed(changed(), more).values()
    assert dress.gallery.tolist() == [0, 1, 2, 5, 7] and shirt.gallery.tolist() == [3, 4, 6]
    assert lists(dress.relevant) == [[2, 4], [3], [0]] and dress.left_out == {}
    assert "3 photos and 2 distractors" in dress.line and "2 photos and 1 distractors" in shirt.line


def test_classes_may_be_numbered_and_no_picture_is_read():
    features = Features({"image": Image(), "item_id": Value("string"), "role": ClassLabel(names=["gallery", "query"])})
    split = Dataset.from_dict(
        {"image": ["/nowhere/1.jpg", "/nowhere/2.jpg"], "item_id": ["a", "a"], "role": [1, 0]}, features=features
    ).with_transform(lambda _: 1 / 0)
    assert protocols.in_shop(split).queries.tolist() == [0]
    assert len(protocols.leave_one_out(split, split).queries) == 2


def test_ranks_and_figures_come_from_a_protocol():
    """Vectors that are one-hot by item find everything, those of another item nothing."""
    found = protocols.leave_one_out(PHOTOS)
    items = sorted(set(PHOTOS["item_id"]))
    vectors = np.eye(3)[[items.index(item) for item in PHOTOS["item_id"]]]
    ranks = metrics.rank_relevant(vectors[found.queries], vectors[found.gallery], found.relevant, found.ignored)
    figures = metrics.retrieval(ranks, groups=found.groups)
    assert figures["recall_at_1"] == figures["map_at_r"] == 1.0 and figures["n"] == 5
    ranks = metrics.rank_relevant(-vectors[found.queries], vectors[found.gallery], found.relevant, found.ignored)
    assert metrics.retrieval(ranks, groups=found.groups)["recall_at_1"] == 0.0


# --- what cannot be


@pytest.mark.parametrize(
    ("protocol", "split", "message"),
    [
        (protocols.in_shop, PHOTOS, "column role\n.*\n.*found:    item_id"),
        (protocols.in_shop, SHOP.rename_column("item_id", "id"), "column item_id"),
        (protocols.text_to_image, PHOTOS, "column text"),
        (protocols.composed, PHOTOS, "column relative_captions"),
        (protocols.in_shop, rows("item_id|role\na|query\n-|gallery"), "column item_id, row 1"),
        (protocols.in_shop, rows("item_id|role\na|query\nb|-"), "column role, row 1"),
        (protocols.in_shop, rows("item_id|role\na|query\nb|shop"), "column role, row 1\n.*query or gallery\n.*'shop'"),
        (protocols.in_shop, rows("item_id|role\na|gallery\nb|gallery"), "0 rows with the role query"),
        (protocols.in_shop, rows("item_id|role\na|query\nb|gallery"), "1 rows.*1 left out: no photo of the item"),
        (protocols.leave_one_out, rows("item_id\na\nb"), "no item has two photos; 2 left out"),
        (protocols.text_to_image, rows("item_id|text\na|-"), "no row has a text"),
        (protocols.image_to_text, rows("item_id|text\na|-"), "no row has a text"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(protocol, split, message):
    with pytest.raises(InputError, match=message):
        protocol(split)


def test_no_query_with_its_target_in_the_gallery_is_refused():
    split = changed().select([0, 3, 4])
    with pytest.raises(InputError, match="category dress: no query has its target.*2 left out"):
        protocols.composed(split)


# --- leaks


def splits(**items):
    return DatasetDict({name: Dataset.from_dict({"item_id": list(text)}) for name, text in items.items()})


@pytest.mark.parametrize("pair", [("train", "test"), ("train", "validation"), ("validation", "test")])
def test_an_item_in_two_splits_stops_the_run(pair):
    with pytest.raises(InputError, match="a leak of 1 item in two splits: c ") as caught:
        protocols.refuse_leaks(splits(**{pair[0]: "abcc", pair[1]: "dc"}))
    assert f"({pair[0]}: 2, 3; {pair[1]}: 1)" in str(caught.value) and "--split_by item_id" in caught.value.fix


def test_rows_of_leaks_are_named_by_their_source_and_many_are_counted():
    leaky = splits(train="abcdefg", test="gfedcbaz")
    leaky["train"] = leaky["train"].add_column("source_row", [f"photos/{n}.jpg" for n in range(7)])
    with pytest.raises(InputError, match="7 items") as caught:
        protocols.refuse_leaks(leaky)
    assert "a (train: photos/0.jpg; test: 6)" in str(caught.value) and "and 2 more" in str(caught.value)
    with pytest.raises(InputError, match="train: 0, 1 and 8 more"):
        protocols.refuse_leaks(splits(train="a" * 10, test="a"))


def test_items_of_one_split_or_of_the_gallery_are_no_leak():
    protocols.refuse_leaks(splits(train="aab", validation="cc", test="d", gallery="abcd"))
    protocols.refuse_leaks(splits(test="aa"))
