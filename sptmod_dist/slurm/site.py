"""What differs from one cluster to the next: a small YAML file, read strictly.

It becomes options of sbatch and of the job scripts, each one word of an argument list, so nothing
in it needs quoting. What SLURM makes of them is not known here.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.names import advice
from sptmod_dist.yaml_files import read_mapping

FORMAT = "sptmod-site-1"
VARIABLE = "SPTMOD_SITE"
"""Names the site file where `--site` does not."""
_TIME = re.compile(r"\d+|\d+:\d+(:\d+)?|\d+-\d+(:\d+){0,2}|UNLIMITED|INFINITE")


@dataclass(frozen=True)
class Site:
    """Every field is a key of the file; none is needed."""

    account: str = ""
    """Who pays: sbatch's --account."""
    partition: str = ""
    qos: str = ""
    constraint: str = ""
    time: str = ""
    """Of a job, as sbatch takes it, in quotes: "24:00:00", "2-00:00:00"; else the partition's."""
    memory: str = ""
    """Of a node, such as 64G; else what the cluster gives by itself."""
    gpus_per_node: int = 0
    """Where a command does not say --gpus."""
    gpu_type: str = ""
    """Such as a100, where a cluster has several kinds."""
    cpus_per_process: int = 0
    """Cores for each training process; 0: what the cluster gives by itself."""
    modules: tuple[str, ...] = ()
    """For `module load`."""
    setup: tuple[str, ...] = ()
    """Lines of shell that a job runs before it starts, such as `export NCCL_SOCKET_IFNAME=ib0`."""
    container: tuple[str, ...] = ()
    """What stands before python, such as `apptainer exec --nv /images/sptmod.sif`."""
    python: str = sys.executable
    """The interpreter on the nodes; else the one that submits, which must be on a shared disk."""
    logs: str = "slurm-logs"
    """Folder for the jobs' logs, on a shared disk."""
    warning: int = 180
    """Seconds before the end of the time at which a training is asked to stop."""
    login: str = ""
    """USER@HOST by which the cluster is reached from outside, for TensorBoard's ssh line."""
    sbatch: tuple[str, ...] = ()
    """More options for sbatch; they come last and so win."""
    srun: tuple[str, ...] = ()
    """More options for srun, such as --mpi=none or pyxis' --container-image=…"""


def read_site(path: str | None) -> Site:
    """The site of `--site FILE`, else of $SPTMOD_SITE, else one that asks for nothing.

    Raises:
        UserError: missing, not YAML, an unknown key or a value that SLURM cannot take.
    """
    path = path or os.environ.get(VARIABLE) or None
    if path is None:
        return Site()
    values = read_mapping(path)
    if values.pop("format", None) != FORMAT:
        raise UserError(f"{path}: is no site file: its first line must be `format: {FORMAT}`")
    return site_of(values, path)


def site_of(values: Mapping[str, Any], path: str) -> Site:
    """A site from plain values.

    Raises:
        UserError: as `read_site`.
    """
    defaults = {field.name: field.default for field in fields(Site)}
    found = {}
    for key, value in values.items():
        if key not in defaults:
            raise UserError(f"{path}: there is no key {key}: {advice(str(key), defaults)}")
        if value is not None:
            found[key] = _value(f"{path}: {key}", value, defaults[key])
    site = Site(**found)
    check(site, path)
    return site


def _value(where: str, value: Any, default: Any) -> Any:
    """A value of the default's type, or a refusal."""
    if where.endswith(": time") and isinstance(value, int):
        # YAML reads 24:00:00 as a number of base 60.
        raise UserError(f'{where} must stand in quotes, such as time: "24:00:00"')
    if isinstance(default, tuple):
        return _words(where, value)
    if isinstance(default, int):
        if type(value) is not int or value < 0:
            raise UserError(f"{where} is {value!r}, but must be a whole number, 0 or more")
        return value
    return _text(where, value)


def _words(where: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and where.endswith(": setup"):
        return (_text(where, value),)
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise UserError(f"{where} is {value!r}: mend its quotes ({error})") from None
    if not isinstance(value, list):
        raise UserError(f"{where} is {value!r}, but must be a text or a list of texts")
    return tuple(_text(where, word) for word in value)


def _text(where: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or "\0" in str(value):
        raise UserError(f"{where} is {value!r}, but must be a text: put it in quotes")
    return str(value)


def check(site: Site, path: str) -> None:
    """Refuse what SLURM would not take, or what leaves no time to train.

    Raises:
        UserError: with `path`, the site file or an option, in front.
    """
    if site.time and not _TIME.fullmatch(site.time):
        raise UserError(
            f"{path}: time is {site.time!r}, but must be a time of SLURM such as "
            '"24:00:00" or "2-00:00:00"'
        )
    log_pattern(site, "", path)
    limit = seconds_of(site.time)
    if limit is not None and limit <= site.warning + 60:
        raise UserError(
            f"{path}: time is {site.time}, which leaves nothing before the warning of "
            f"{site.warning} s (SLURM may send it 60 s early): take more time, or a shorter warning"
        )


def log_pattern(site: Site, name: str, where: str = "site file") -> str:
    """A file in the folder of logs, as sbatch takes it.

    Raises:
        UserError: a folder that sbatch would take for a pattern of its own.
    """
    if "\\" in site.logs or "\n" in site.logs:
        raise UserError(
            f"{where}: logs is {site.logs!r}, but SLURM takes no backslash or new line in the name "
            "of a log: choose another folder"
        )
    return f"{os.path.abspath(site.logs)}/".replace("%", "%%") + name


def seconds_of(time: str) -> int | None:
    """A time of SLURM; None where it has no end, or nothing is said.

    `30` and `1:30` count minutes; `1:30:00` and `1-12` hours.
    """
    if not _TIME.fullmatch(time) or not time[0].isdigit():
        return None
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        units = [3600, 60, 1]
    else:
        units = {1: [60], 2: [60, 1], 3: [3600, 60, 1]}[len(parts)]
    return int(days or 0) * 86_400 + sum(u * p for u, p in zip(units, parts, strict=False))


def resolved(path: str) -> Path:
    """An absolute path, links and all left as they are; it never begins with a dash."""
    return Path(os.path.abspath(path))
