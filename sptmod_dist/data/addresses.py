"""From what users write to the place that it names; what cannot be one is refused.

No message holds a password. Opening anything is the matter of the places.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from sptmod_dist.data.command_place import Command
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.http_place import Server
from sptmod_dist.data.places import Place, is_pipe
from sptmod_dist.data.s3_place import Bucket

SCHEMES = ("http", "https", "s3")


def place_of(where: str) -> Place:
    """The place that a URL or a command names.

    Raises:
        ShardError: it cannot be one.
    """
    if is_pipe(where):
        return Command(where)
    shown = re.sub("(?<=://).*@", "", where).partition("?")[0]
    try:
        parts = urlsplit(where)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:  # whose words may hold a part of the password
        raise ShardError(
            f"{shown} is no good URL: correct it (in names and passwords, / is written as %2F)"
        ) from None
    if parts.scheme not in SCHEMES:
        raise ShardError(
            f"{shown}: shards are not read by {parts.scheme}://: give a folder, "
            f"{', '.join(f'{scheme}://…' for scheme in SCHEMES)} or pipe:COMMAND"
        )
    if not host:
        kind = "bucket" if parts.scheme == "s3" else "server"
        raise ShardError(f"{shown} names no {kind}: add it after ://")
    return Bucket(parts) if parts.scheme == "s3" else Server(parts)
