"""A training split that is read while it is learned from: for datasets that are too large for the disk.

The source is parquet with the pictures inside, in a folder or on the Hub. Of the training split only the column of
labels is read beforehand, so that classes are known and counted; its pictures are read a row group at a time, and only
where the process and the worker need them. Validation and test are read whole, as ever: each is measured several
times, and every row of theirs counts once.

Why not `datasets.IterableDataset`: it cannot say in which file a row lies, gives processes unequal numbers of rows
where files are of unequal length (several processes would wait for each other for ever), and has every process read
everything where files are fewer than processes. Which rows a row group holds stands in each file's footer, and from
that all shares of all epochs follow.
"""

from hf_fashion.streaming.examples import StreamedExamples
from hf_fashion.streaming.loading import LEFT_OUT, load, refuse
from hf_fashion.streaming.source import RowError, Stream

__all__ = ["LEFT_OUT", "RowError", "Stream", "StreamedExamples", "load", "refuse"]
