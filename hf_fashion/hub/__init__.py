"""To the Hub and from it: one clean commit of a run, of photos or of a Space, and pulls that are checked.

    hub.push("runs/classify-2026-11-24-1", "me/dresses")     # a run's folder: model, card, figures
    hub.push_photos(dataset, report, "me/photos")            # photos with labels, as parquet with a dataset card
    hub.push_space("spaces/classify", "me/demo", model="me/dresses")
    hub.pull("me/dresses")                                   # the checked files, and the commit they are of

Private unless `public=True`. Nothing is sent before the token, the repo, the card and every file were looked at, and
what is sent was printed; `hf-fashion push` and `hf-fashion pull` do it from the command line.
"""

from hf_fashion.hub.client import HubError
from hf_fashion.hub.photos import push_photos
from hf_fashion.hub.pulling import Pulled, pull
from hf_fashion.hub.pushing import Pushed, preflight, push
from hf_fashion.hub.spaces import push_space
from hf_fashion.hub.target import Target
from hf_fashion.hub.trained import after_training, before_training

__all__ = [
    "HubError",
    "Pulled",
    "Pushed",
    "Target",
    "after_training",
    "before_training",
    "preflight",
    "pull",
    "push",
    "push_photos",
    "push_space",
]
