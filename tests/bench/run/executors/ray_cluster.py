"""A Ray cluster of several nodes on this machine, for tests: `python ray_cluster.py NODES` prints its address.

It ends when its input does; the line "kill I" ends node I and all that runs there, at once.
"""

from __future__ import annotations

import sys

STORE_BYTES = 100 * 2**20


def main(nodes: int) -> None:
    """Start nodes of one core each beside a head without any, and obey."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    running = [cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES) for _ in range(nodes)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        cluster.remove_node(running[int(line.split()[1])], allow_graceful=False)
        print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
