"""Figures of a search against hand-made truth, against a second plain implementation and against scikit-learn."""

import tracemalloc

import evaluate
import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from hf_fashion import metric_modules, metrics

FIGURES = ["recall_at_1", "recall_at_5", "recall_at_10", "map_at_r", "mrr", "ndcg_at_10"]


def unit(rng, n, d=8):
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def search(n=40, m=130, d=8, seed=0):
    """Queries of items, a gallery of theirs and others, and what is right and left out of each."""
    rng = np.random.default_rng(seed)
    item, of = rng.integers(0, 25, m), rng.integers(0, 20, n)
    centres = unit(rng, 25, d)
    gallery = (centres[item] + 0.4 * unit(rng, m, d)).astype(np.float32)
    queries = (centres[of] + 0.4 * unit(rng, n, d)).astype(np.float32)
    relevant = [np.flatnonzero(item == one) for one in of]
    ignored = [rng.choice(m, rng.integers(0, 4), replace=False) for _ in of]
    return queries, gallery, relevant, ignored


def plain_ranks(queries, gallery, relevant, ignored):
    """One query and one answer after the other, a wrong one first where scores are equal."""
    found = []
    for query, right, out in zip(queries, relevant, ignored, strict=True):
        scores = [np.float32(np.dot(query.astype(float), one.astype(float))) for one in gallery]
        left = [place for place in range(len(gallery)) if place not in out]
        order = sorted(left, key=lambda place: (-scores[place], place in right))
        found.append([rank for rank, place in enumerate(order, 1) if place in right])
    return found


def plain_map_at_r(ranks):
    size = len(ranks)
    return sum(sum(other <= rank for other in ranks) / rank for rank in ranks if rank <= size) / size


# --- ranks


def test_ranks_of_hand_made_scores():
    queries = np.array([[1.0, 0.0], [0.0, 1.0]])
    gallery = np.array([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3], [0.1, 0.9], [0.0, 0.8]])
    # the first query sees 0, 2, 1, 3, 4; the second 3, 4, 1, 2, 0
    ranks = metrics.rank_relevant(queries, gallery, [[2, 3], [0]])
    assert [one.tolist() for one in ranks] == [[2, 4], [5]]
    ranks = metrics.rank_relevant(queries, gallery, [[2, 3], [0]], ignored=[[0], [4, 1]])
    assert [one.tolist() for one in ranks] == [[1, 3], [3]]


@pytest.mark.parametrize("block", [1, 7, 300, 8_000_000])
def test_ranks_are_those_of_a_plain_implementation_in_blocks_of_any_size(block):
    queries, gallery, relevant, ignored = search()
    ranks = metrics.rank_relevant(queries, gallery, relevant, ignored, block=block)
    assert [one.tolist() for one in ranks] == plain_ranks(queries, gallery, relevant, ignored)


def test_a_wrong_answer_of_the_same_score_stands_first_wherever_it_lies():
    rng = np.random.default_rng(0)
    for width in (3, 64, 257, 512):
        one = unit(rng, 1, width)
        gallery = np.repeat(one, 101, axis=0)
        for place in (0, 50, 97, 100):
            [ranks] = metrics.rank_relevant(unit(rng, 1, width), gallery, [[place, (place + 3) % 101]])
            assert ranks.tolist() == [100, 101]


def test_an_answer_that_is_ignored_is_not_there_also_where_it_is_right():
    queries, gallery, relevant, _ = search()
    own = [places[:1] for places in relevant]
    ranks = metrics.rank_relevant(queries, gallery, relevant, own)
    assert [len(one) for one in ranks] == [len(places) - 1 for places in relevant]
    assert metrics.rank_relevant(queries[:1], gallery, [relevant[0][:1]], [relevant[0]])[0].tolist() == []


def test_places_may_be_a_table_or_one_array_for_all():
    queries, gallery, relevant, _ = search()
    table = np.array([places[:2] for places in relevant])
    assert [one.tolist() for one in metrics.rank_relevant(queries, gallery, table)] == plain_ranks(
        queries, gallery, table, [[]] * len(queries)
    )
    shared = np.arange(100)
    ranks = metrics.rank_relevant(queries, gallery, [[129]] * len(queries), [shared] * len(queries))
    assert max(one[0] for one in ranks) <= 30


def test_memory_is_bounded_by_the_block_and_not_by_queries_times_gallery(tmp_path):
    rng = np.random.default_rng(0)
    queries, gallery = unit(rng, 300, 4), unit(rng, 30_000, 4)
    np.save(tmp_path / "gallery.npy", gallery)
    relevant = [[int(row)] for row in rng.integers(0, 30_000, 300)]

    def peak(call):
        tracemalloc.start()
        found = call(np.load(tmp_path / "gallery.npy", mmap_mode="r"))
        bytes_ = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, bytes_

    small, used = peak(lambda rows: metrics.rank_relevant(queries, rows, relevant, block=200_000))
    assert used < 6e6  # 9 million scores of 32 bits are 36 MB
    # the test can fail: a larger block takes more
    large, more = peak(lambda rows: metrics.rank_relevant(queries, rows, relevant, block=4_000_000))
    assert more > 3 * used and [one.tolist() for one in small] == [one.tolist() for one in large]
    (places, _), used = peak(lambda rows: metrics.top(queries, rows, 3, block=200_000))
    assert used < 6e6 and places.shape == (300, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"queries": np.ones((2, 3))}, r"\(n, d\) and \(m, d\), found \(2, 3\)"),
        ({"queries": np.empty((0, 2))}, "no vectors: 0 queries"),
        ({"gallery": np.array([[0.0, 1], [np.nan, 0], [1, 1]])}, "row 1 of the gallery"),
        ({"queries": np.array([[0.0, 1], [np.inf, 0]])}, "row 1 of queries"),
        ({"relevant": [[0]]}, "of 2 queries, found 1"),
        ({"relevant": [[0], [3]]}, "relevant of query 1 must be places from 0 to 2"),
        ({"ignored": [[], [-1]]}, "ignored of query 1"),
        ({"relevant": [[0], [1.5]]}, "relevant of query 1"),
        ({"block": 0}, "block must be 1"),
    ],
)
def test_refusals_of_ranks(change, reason):
    given = {"queries": np.eye(2), "gallery": np.ones((3, 2)), "relevant": [[0], [1]]} | change
    with pytest.raises(ValueError, match=reason):
        metrics.rank_relevant(**given)


# --- the first answers


@pytest.mark.parametrize("block", [1, 50, 8_000_000])
def test_the_first_answers_are_those_of_a_full_sort(block):
    queries, gallery, _, ignored = search()
    gallery[5] = gallery[77] = gallery[3]  # ties: the first place first
    scores = (queries.astype(float) @ gallery.astype(float).T).astype(np.float32)
    for row, out in enumerate(ignored):
        scores[row, out] = -np.inf
    places, best = metrics.top(queries, gallery, 9, ignored, block=block)
    assert (places == np.argsort(-scores, axis=1, kind="stable")[:, :9]).all()
    assert (best == np.take_along_axis(scores, places, axis=1)).all() and best.dtype == np.float32


def test_the_first_places_win_where_many_scores_are_equal():
    gallery = np.random.default_rng(0).integers(0, 3, (3000, 1)).astype(np.float32)
    places, scores = metrics.top(np.ones((1, 1)), gallery, 1200)
    assert (places[0] == np.argsort(-gallery[:, 0], kind="stable")[:1200]).all()
    assert scores[0, 0] == 2 and scores[0, -1] == 1  # a tie at the end


def test_fewer_answers_than_asked_for_are_told_apart():
    places, scores = metrics.top(np.eye(2), np.eye(2), 2, ignored=[[0], []])
    assert places.tolist() == [[1, -1], [1, 0]] and scores[0, 1] == -np.inf
    assert metrics.top(np.ones((1, 2)), np.ones((50, 2)), 4)[0].tolist() == [[0, 1, 2, 3]]
    for k in (0, 3):
        with pytest.raises(ValueError, match="1 to 2"):
            metrics.top(np.eye(2), np.eye(2), k)


# --- figures


def test_hand_made_truth():
    figures = metrics.retrieval([[1, 3, 4], [6], [2, 30]], n_resamples=0)
    assert figures["n"] == 3
    assert [figures[f"recall_at_{k}"] for k in (1, 5, 10)] == pytest.approx([1 / 3, 2 / 3, 1])
    # the first: R is 3, right at 1 and 3: (1/1 + 2/3) / 3; the second: R is 1; the third: R is 2, right at 2: 1/2 / 2
    assert figures["map_at_r"] == pytest.approx(((1 + 2 / 3) / 3 + 0 + 1 / 4) / 3)
    assert figures["mrr"] == pytest.approx((1 + 1 / 6 + 1 / 2) / 3)
    ideal = [1 + 1 / np.log2(3) + 1 / 2, 1, 1 + 1 / np.log2(3)]
    gained = [1 + 1 / 2 + 1 / np.log2(5), 1 / np.log2(7), 1 / np.log2(3)]
    assert figures["ndcg_at_10"] == pytest.approx(np.mean(np.divide(gained, ideal)))
    assert not [name for name in figures if "_low" in name]


def test_figures_are_those_of_scikit_learn_and_of_a_plain_implementation():
    queries, gallery, relevant, _ = search(m=200)
    ranks = metrics.rank_relevant(queries, gallery, relevant)
    by_query = metrics.query_figures(ranks, ks=(1, 3))
    scores = queries.astype(float) @ gallery.astype(float).T
    for row, places in enumerate(relevant):
        truth = np.zeros(len(gallery))
        truth[places] = 1
        assert by_query["ndcg_at_10"][row] == pytest.approx(ndcg_score([truth], [scores[row]], k=10))
        assert by_query["map_at_r"][row] == pytest.approx(plain_map_at_r(ranks[row].tolist()))
        assert by_query["recall_at_3"][row] == truth[np.argsort(-scores[row])[:3]].any()
        assert by_query["mrr"][row] == pytest.approx(1 / ranks[row].min())
    assert len(set(by_query["map_at_r"])) > 5 and len(relevant[0]) > 3


def test_more_than_ten_right_answers_can_be_perfect():
    figures = metrics.retrieval([list(range(1, 31))], n_resamples=0)
    assert [figures[name] for name in FIGURES] == pytest.approx([1.0] * 6)


def test_the_order_in_which_ranks_are_given_does_not_matter():
    assert metrics.retrieval([[7, 1, 4], [9, 2]]) == metrics.retrieval([[1, 4, 7], [2, 9]])


def test_every_figure_has_an_interval_around_it():
    ranks = metrics.rank_relevant(*search(n=120)[:3])
    figures = metrics.retrieval(ranks)
    for name in FIGURES:
        assert figures[f"{name}_low"] < figures[name] <= figures[f"{name}_high"]
        assert figures[name] == 1 or figures[name] < figures[f"{name}_high"]
    assert metrics.retrieval(ranks) == figures != metrics.retrieval(ranks, seed=1)


def test_queries_of_one_item_are_drawn_together():
    # 20 items of 50 queries, all found or none
    ranks = [[1] if item % 2 else [500] for item in range(20) for _ in range(50)]
    items = [f"item {item}" for item in range(20) for _ in range(50)]
    width = {
        together: metrics.retrieval(ranks, groups=items if together else None)["recall_at_1_high"] - 0.5
        for together in (True, False)
    }
    assert width[False] < 0.04 and 0.15 < width[True] < 0.25  # 1.96 sqrt(1/4 n): 0.031 of 1,000 and 0.22 of 20
    assert 0.75 < metrics.retrieval([[1]] * 1000, groups=items)["recall_at_1_low"] < 0.9  # Wilson of 20, not of 1,000


def test_a_draw_is_a_share_of_the_queries_that_it_holds():
    figures = metrics.retrieval([[1]] * 98 + [[9]] * 2, groups=[0] * 98 + [1, 2])
    assert figures["recall_at_1_low"] == 0.0 and figures["recall_at_1_high"] == 1.0  # the large group thrice, or never


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        found = np.random.default_rng(seed).random(150) < 0.3
        figures = metrics.retrieval([[1] if one else [9] for one in found], n_resamples=200, seed=seed)
        covered += figures["recall_at_1_low"] <= 0.3 <= figures["recall_at_1_high"]
    assert 88 <= covered <= 100


def test_parts_count_alike_in_their_mean():
    parts = {"dress": [[1], [20]], "shirt": [[2]] * 30}
    figures = metrics.retrieval_macro(parts, ks=(1, 10))
    assert figures["n"] == 32 and figures["n/shirt"] == 30
    assert (figures["recall_at_1/dress"], figures["recall_at_1/shirt"], figures["recall_at_1"]) == (0.5, 0.0, 0.25)
    assert figures["recall_at_10"] == pytest.approx(0.75)
    alone = metrics.retrieval(parts["dress"], ks=(1, 10), n_resamples=0)
    assert all(figures[f"{name}/dress"] == value for name, value in alone.items())
    assert figures["recall_at_1_low"] < 0.25 < figures["recall_at_1_high"] <= 0.5
    assert figures["mrr_low/dress"] < figures["mrr/dress"] < figures["mrr_high/dress"]


def test_the_interval_of_a_mean_of_parts_is_narrower_than_theirs():
    rng = np.random.default_rng(0)
    parts = {name: [[1 if rng.random() < 0.5 else 9] for _ in range(100)] for name in ("a", "b", "c", "d")}
    figures = metrics.retrieval_macro(parts)
    width = {name: figures[f"recall_at_1_high{name}"] - figures[f"recall_at_1_low{name}"] for name in ("", "/a")}
    assert 0.4 < width[""] / width["/a"] < 0.6  # a half, of four parts
    groups = {name: np.repeat(np.arange(10), 10) for name in parts}
    assert metrics.retrieval_macro(parts, groups=groups)["recall_at_1_low"] != figures["recall_at_1_low"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"ranks": []}, "no queries"),
        ({"ranks": [[1], [], []]}, r"query 1 has no right answer in the gallery \(2 of 3"),
        ({"ranks": [[1], [0]]}, "whole numbers from 1 on"),
        ({"ranks": [[1.5]]}, "whole numbers"),
        ({"ranks": [[2, 2]]}, "each once"),
        ({"ranks": [[1]], "ks": (0,)}, "ks must be"),
        ({"ranks": [[1]], "ks": (1, 1)}, "ks must be"),
        ({"ranks": [[1], [2]], "groups": ["a"]}, "the same 2 queries, found 1"),
    ],
)
def test_refusals_of_figures(given, reason):
    with pytest.raises(ValueError, match=reason):
        metrics.retrieval(**given)


def test_a_part_that_cannot_be_evaluated_is_named():
    with pytest.raises(ValueError, match="shirt: query 0 has no right answer"):
        metrics.retrieval_macro({"dress": [[1]], "shirt": [[]]})
    with pytest.raises(ValueError, match="no part"):
        metrics.retrieval_macro({})


def test_the_module_loads_by_path_and_computes_the_same():
    ranks = metrics.rank_relevant(*search()[:3])
    module = evaluate.load(metric_modules.path("fashion_retrieval"))
    groups = [row // 2 for row in range(len(ranks))]
    got = module.compute(predictions=[one.tolist() for one in ranks], ks=[1, 2], groups=groups, seed=3)
    assert got == metrics.retrieval(ranks, (1, 2), groups=groups, seed=3)
