"""Forwards Ethernet frames between network interfaces, as a switch does, each after a delay.

    python relay.py MICROSECONDS INTERFACE...

Does the work of `tc qdisc add ... netem delay`, which not every kernel has. Needs root, and Linux.
"""

import socket
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from select import select

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23  # linux/if_packet.h
HEADER = 10
"""Bytes of the virtio_net_hdr before each frame, which leaves checksums and segmentation to the kernel."""
LARGEST = HEADER + 14 + 65536


def open_port(interface: str) -> socket.socket:
    """Return a socket with all frames that arrive at an interface, and that sends there."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    port.bind((interface, 0))
    return port


def relay(ports: list[socket.socket], delay: float) -> None:
    """Forward frames, each ``delay`` seconds after it came, until this process is killed."""
    port_of: dict[bytes, socket.socket] = {}  # by the address of the interface behind it
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for port in select(ports, [], [], pause)[0]:
            frame = port.recv(LARGEST)
            port_of[frame[HEADER + 6 : HEADER + 12]] = port
            waiting.append((time.monotonic() + delay, port, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, source, frame = waiting.popleft()
            target = port_of.get(frame[HEADER : HEADER + 6])
            for port in ports if target is None else [target]:
                if port is not source:
                    with suppress(OSError):  # an interface that is down, or a full queue, loses the frame
                        port.send(frame)


def main(microseconds: str, *interfaces: str) -> None:
    """Relay as the arguments say."""
    Path("/proc/self/timerslack_ns").write_text("1", encoding="ascii")  # wake up within microseconds
    relay([open_port(interface) for interface in interfaces], 1e-6 * float(microseconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
