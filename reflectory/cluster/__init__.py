"""Loops on a Ray cluster: workers hold models, one process keeps what they said.

Importing this room loads no Ray; the first run on a cluster does.
"""

from reflectory.cluster.engine import ClusterRunner, map_on_ray

__all__ = ["ClusterRunner", "map_on_ray"]
