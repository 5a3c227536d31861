"""`python -m sptmod_dist.slurm.probe`: on each node, try what a training will need, and print what
was found as lines of JSON that the doctor reads.

It judges nothing, and whatever fails is a finding and no reason to end.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

MARK = "PROBE "
_LIMIT = 60.0  # seconds for the nodes to meet
_MEGABYTES = 4


def tell(kind: str, **facts: Any) -> None:
    """One line, whole, whatever the other nodes write."""
    about = {"kind": kind, "node": socket.gethostname(), "rank": _rank(), **facts}
    os.write(1, f"{MARK}{json.dumps(about)}\n".encode())


def look(head: str, folder: Path) -> None:
    """Versions, GPUs, the way to the other nodes, and the shared folder."""
    facts: dict[str, Any] = {"time": time.time(), "gpus_given": _given()}
    try:
        facts |= _installed()
    except Exception as error:  # also one of a GPU's driver
        tell("versions", **facts, fault=_words(error))
        return
    tell("versions", **facts)
    met = _attempt("network", lambda: _meet(head, int(facts["gpus"])))
    if met:
        _attempt("folder", lambda: _share(folder))


def listen(seconds: float = 30.0) -> None:
    """Whether the signal that a job gets before its end arrives here."""
    heard = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: heard.set())
    deadline = time.monotonic() + seconds
    while not heard.is_set() and time.monotonic() < deadline:
        time.sleep(0.1)
    tell("signal", heard=heard.is_set())


def _installed() -> dict[str, Any]:
    import torch

    import sptmod_dist

    return {
        "sptmod_dist": sptmod_dist.__version__,
        "torch": str(torch.__version__),
        "python": sys.version.split()[0],
        "cuda": torch.version.cuda,
        "gpus": torch.cuda.device_count(),
        "names": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
    }


def _meet(head: str, gpus: int) -> dict[str, Any]:
    """Every node's process adds its rank to a sum, and some megabytes are timed."""
    import torch
    import torch.distributed as dist

    address = _address(head)
    port = 10_000 + int(os.environ["SLURM_JOB_ID"]) % 20_000
    backend = "nccl" if gpus else "gloo"
    device = torch.device("cuda", 0) if gpus else torch.device("cpu")
    store = dist.TCPStore(address, port, _size(), _rank() == 0, timedelta(seconds=_LIMIT))
    dist.init_process_group(
        backend, store=store, rank=_rank(), world_size=_size(), timeout=timedelta(seconds=_LIMIT)
    )
    total = torch.tensor([_rank() + 1.0], device=device)
    dist.all_reduce(total)
    data = torch.ones(_MEGABYTES * 250_000, device=device)
    seconds = []
    for _ in range(4):  # the first connects
        begun = time.monotonic()
        dist.all_reduce(data)
        data[0].item()
        seconds.append(time.monotonic() - begun)
    return {
        "backend": backend,
        "sum": total.item(),
        "expected": _size() * (_size() + 1) / 2,
        "seconds": min(seconds[1:]),
        "megabytes": _MEGABYTES,
    }


def _address(head: str) -> str:
    try:
        socket.getaddrinfo(head, None)
    except OSError as error:
        raise OSError(f"the name {head} is not known here ({error.strerror})") from None
    return head


def _share(folder: Path) -> dict[str, Any]:
    """Rank 0 writes and locks a file; the others must see both."""
    import torch.distributed as dist

    path = folder / f".sptmod-doctor-{os.environ['SLURM_JOB_ID']}"
    found: dict[str, Any] = {"folder": str(folder)}
    if _rank() == 0:
        return found | _write(path)
    dist.barrier()
    try:
        found |= _as_seen(path)
    except OSError as error:
        found["fault"] = _words(error)
    dist.barrier()
    return found


def _write(path: Path) -> dict[str, Any]:
    """Hold a locked file there while the others look; they are met in any case."""
    import torch.distributed as dist

    found: dict[str, Any] = {"seen": True, "locked": True}
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "w"))
            stack.callback(path.unlink)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            found["fault"] = _words(error)
        dist.barrier()
        dist.barrier()
    return found


def _as_seen(path: Path) -> dict[str, Any]:
    deadline = time.monotonic() + 10  # a network's file system may show it later
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    if not path.exists():
        return {"seen": False}
    with open(path, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return {"seen": True, "locked": True}
    return {"seen": True, "locked": False}


def _attempt(kind: str, action: Callable[[], dict[str, Any]]) -> bool:
    try:
        tell(kind, **action())
        return True
    except Exception as error:
        tell(kind, fault=_words(error))
        return False


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


def _given() -> int:
    return int(os.environ.get("SLURM_GPUS_ON_NODE") or 0)


def _rank() -> int:
    return int(os.environ["SLURM_PROCID"])


def _size() -> int:
    return int(os.environ["SLURM_STEP_NUM_TASKS"])


def main(words: Sequence[str]) -> int:
    """`listen`, or `look --head HEAD -- FOLDER`."""
    if words[0] == "listen":
        listen()
    else:
        look(words[2], Path(words[-1]))
    sys.stdout.flush()
    os._exit(0)  # taking a group of processes down can abort


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
