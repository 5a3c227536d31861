"""A folder of an S3 bucket, opened by fsspec; see `places`."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult

from sptmod_dist.data import places
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.places import Opened, Passing, Staying, in_words


class Bucket:
    """A folder of an S3 bucket, by fsspec; keys and endpoint come from the environment as usual."""

    def __init__(self, parts: SplitResult) -> None:
        if "@" in parts.netloc:
            raise ShardError(
                f"s3://{parts.netloc.rpartition('@')[2]}{parts.path} has keys before the bucket: "
                "remove them, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        self.shown = f"s3://{parts.netloc}{parts.path}".rstrip("/")
        if parts.query or parts.fragment:
            raise ShardError(f"{self.shown} goes on with ? or #: give a bucket and a folder alone")
        limits = {"connect_timeout": places.TIMEOUT, "read_timeout": places.TIMEOUT}
        config = {**limits, "retries": {"max_attempts": 0}}  # that is our own matter
        try:
            import fsspec

            self._files = fsspec.filesystem("s3", config_kwargs=config, skip_instance_cache=True)
        except ImportError:
            raise ShardError(
                f"{self.shown} needs s3fs: pip install -c constraints.txt 'sptmod-dist[remote]'"
            ) from None
        self._files.retries = 1

    def open(self, name: str, start: int) -> Opened:
        """See `Place`."""
        try:
            # What was listed before may have changed since.
            self._files.invalidate_cache()
            file = self._files.open(f"{self.shown}/{name}", block_size=2**24)
            file.seek(start)
        except FileNotFoundError:
            raise Staying("there is no such object or bucket") from None
        except PermissionError as error:
            raise Staying(f"permission denied, {in_words(error)}") from None
        except Exception as error:  # botocore has errors of many kinds
            kind = Staying if "Credentials" in type(error).__name__ else Passing
            raise kind(in_words(error)) from None
        return Opened(_Object(file), file.size - start)


class _Object:
    """An object that is being read, whose faults are ours."""

    def __init__(self, file: Any) -> None:
        self._file, self.close = file, file.close

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._file.read(size))
        except Exception as error:
            raise Passing(in_words(error)) from None
