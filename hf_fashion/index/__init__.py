"""Vectors of photos, in a folder or on a server, to be searched: exact, LanceDB or Qdrant behind one form.

    target = index.create("garments", made_by=index.identify(encoder, "runs/retrieve-1"), dimension=512)
    index.build(dataset, encoder, target)                            # resumes where it was; new photos only
    target = index.open("garments")
    ids, scores, rows = target.search(queries, k=10, where="category=dress price<50 stock>0")
    target.upsert(["a1"], vectors, [{"category": "dress", "price": 39.9}]); target.delete(["a2"])

`hf-fashion index PHOTOS MODEL -o FOLDER` and `hf-fashion search FOLDER --image PHOTO` do it from the command line.
"""

from hf_fashion.index.about import identify
from hf_fashion.index.building import build
from hf_fashion.index.parquet import from_parquet
from hf_fashion.index.whole import BACKENDS, Found, Index, create, exists, open

__all__ = ["BACKENDS", "Found", "Index", "build", "create", "exists", "from_parquet", "identify", "open"]
