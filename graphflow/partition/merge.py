"""Small tensors that travel the same way at about the same time share one message.

A message between processes costs about a millisecond, however small it is.  Only sends with no
receive between them are joined: the sender then comes from the first to the last without
waiting for anybody, so that the joint message cannot close a circle of waits.  The first one
waits for the last one no longer than a message takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphflow.build.tensor import Operation, Tensor
from graphflow.partition.partitions import Transfer
from graphflow.partition.transfer import pair
from graphflow.place.placement import Placement

SMALL = 64 << 10  # bytes
MOST = 256  # tensors of a message


def merge_small(
    transfers: Sequence[Transfer],
    orders: Mapping[str, list[Operation]],
    placement: Placement,
    maker: Mapping[Tensor, Operation],
) -> list[Transfer]:
    """The transfers, some of which share their ends now.

    Args:
      transfers: in the order of their sends.
      orders: device -> its operations; changed in place.
      placement: tells sizes and times.
      maker: tensor -> the operation that gives it.
    """
    index = {o: i for i, o in enumerate(placement.subgraph.order)}
    # Signals of control edges are constants of their own: they travel alone.
    eligible = {
        t.send: t
        for t in transfers
        if not t.control and t.tensor in maker and _is_small(t, placement)
    }
    if len(eligible) < 2:
        return list(transfers)
    ends = placement.schedule.end
    ready = {send: ends[index[maker[t.tensor]]] for send, t in eligible.items()}
    replaced: dict[Operation, Transfer] = {}
    for order in list(orders.values()):
        for bundle in _bundles(order, eligible, ready, placement):
            first = bundle[0]
            send, recv = pair(first.source, first.destination, *[t.tensor for t in bundle])
            for transfer in bundle:
                replaced[transfer.send] = transfer._replace(send=send, recv=recv)
    _rewrite(orders, transfers, replaced)
    return [replaced.get(t.send, t) for t in transfers]


def _is_small(transfer: Transfer, placement: Placement) -> bool:
    topology = placement.topology
    source, target = topology[transfer.source], topology[transfer.destination]
    return source.process != target.process and placement.model.bytes(transfer.tensor) <= SMALL


def _bundles(
    order: Sequence[Operation],
    eligible: Mapping[Operation, Transfer],
    ready: Mapping[Operation, float],
    placement: Placement,
) -> list[list[Transfer]]:
    """Sends of one device that may be joined, two or more each."""
    done: list[list[Transfer]] = []
    open_: dict[str, list[Transfer]] = {}
    for operation in order:
        if operation.type == "Recv":
            done += open_.values()
            open_ = {}
        transfer = eligible.get(operation)
        if transfer is None:
            continue
        bundle = open_.setdefault(transfer.destination, [])
        patience = placement.topology.link(transfer.source, transfer.destination).alpha
        late = bundle and ready[operation] - ready[bundle[0].send] > patience
        if late or len(bundle) >= MOST:
            done.append(bundle)
            bundle = open_[transfer.destination] = []
        bundle.append(transfer)
    return [bundle for bundle in (*done, *open_.values()) if len(bundle) > 1]


def _rewrite(
    orders: Mapping[str, list[Operation]],
    transfers: Sequence[Transfer],
    replaced: Mapping[Operation, Transfer],
) -> None:
    """Joint sends stand where the last one stood, joint receives where the first one did."""
    now = {t.send: replaced[t.send].send for t in transfers if t.send in replaced}
    now |= {t.recv: replaced[t.send].recv for t in transfers if t.send in replaced}
    for order in orders.values():
        last = {now[o]: i for i, o in enumerate(order) if o in now}
        seen: set[Operation] = set()
        result = []
        for i, operation in enumerate(order):
            joint = now.get(operation)
            if joint is None:
                result.append(operation)
            elif joint.type == "Recv" and joint not in seen:
                seen.add(joint)
                result.append(joint)
            elif joint.type == "Send" and last[joint] == i:
                result.append(joint)
        order[:] = result
