"""Task vectors on any number of images. Every result says what it was made from, so that a run can be taken up again.

``sources`` says where images come from and ``sinks`` where results go, a directory or ``shards``; ``samples`` reads one
image and makes its result; ``planning`` finds out what is left to do, and ``running`` does it here, ``on_ray`` on Ray.
"""

from taskvec.application.planning import Plan, plan, reading_of
from taskvec.application.running import Engine, Here
from taskvec.application.samples import Making, Reading
from taskvec.application.sinks import SHARD, FolderSink, ShardSink, Sink, sink_of
from taskvec.application.sources import Source, source_of

__all__ = [
    "SHARD",
    "Engine",
    "FolderSink",
    "Here",
    "Making",
    "Plan",
    "Reading",
    "ShardSink",
    "Sink",
    "Source",
    "plan",
    "reading_of",
    "sink_of",
    "source_of",
]
