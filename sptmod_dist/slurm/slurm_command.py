"""`slurm`: trainings, studies and TensorBoard as jobs of a cluster, and a check of the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from sptmod_dist.cli import PROGRAM
from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.errors import UserError
from sptmod_dist.slurm.site import Site, read_site, resolved
from sptmod_dist.slurm.submit import Job, command, shown, submit

ACTIONS = {
    "train": "submit a training: `slurm train OPTIONS -- OPTIONS OF train`",
    "study": "submit workers of a study as a job array",
    "tensorboard": "run TensorBoard on a compute node; says how a browser reaches it",
    "doctor": "try the cluster with a short job on its nodes, and say what to mend",
}


def parser() -> ArgumentParser:
    """Options of `slurm`, which are its actions': see `add_actions`."""
    return plain_parser("slurm")


def add_actions(parser: ArgumentParser) -> None:
    """The actions, for help and completion."""
    actions = parser.add_subcommands(required=False)
    for name, text in ACTIONS.items():
        actions.add_subcommand(name, _parser(name), help=text)


def run(argv: Sequence[str]) -> int:
    """Do one of the actions.

    Raises:
        UserError: options, site file or settings are wrong, or SLURM refuses the job.
    """
    if not argv or argv[0] in ("-h", "--help"):
        whole = parser()
        add_actions(whole)
        whole.print_help()
        return 0 if argv else 2
    name, *rest = argv
    if name not in ACTIONS:
        raise UserError(f"{PROGRAM} slurm: say {', '.join(ACTIONS)}; see `{PROGRAM} slurm --help`")
    ours, behind = _divided(rest) if name == "train" else (rest, [])
    options = parse(_parser(name), ours)
    for key, least in (("nodes", 1), ("gpus", 0), ("processes", 1), ("workers", 1), ("jobs", 1)):
        value = getattr(options, key, None)
        if value is not None and value < least:
            raise UserError(f"--{key} is {value}, but must be {least} or more")
    site = read_site(options.site)
    if name == "train":
        return _train(options, site, behind)
    return _ACT[name](options, site)


def _parser(name: str) -> ArgumentParser:
    found = ArgumentParser(
        prog=f"{PROGRAM} slurm {name}",
        description=f"{ACTIONS[name][0].upper()}{ACTIONS[name][1:]}.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    if name == "study":
        found.add_argument("study", help="the study's YAML file")
        found.add_argument("--workers", type=int, default=4, help="tasks of the array; 4")
        found.add_argument("--at-once", type=int, help="tasks that run at once, at most; all")
        found.add_argument("--jobs", type=int, help="trainings that a worker runs at once; 1")
    if name == "tensorboard":
        found.add_argument("folder", help="of the runs, such as runs")
    if name == "doctor":
        found.add_argument("--folder", default=".", help="where runs will be; this folder")
        found.add_argument("--wait", type=int, default=900, help="seconds for its job; 900")
    if name in ("train", "doctor"):
        nodes = 2 if name == "doctor" else 1
        found.add_argument("--nodes", type=int, default=nodes, help=f"how many; {nodes}")
    if name == "train":
        found.add_argument("--processes", type=int, help="a node; one a GPU, without GPUs one")
    if name != "tensorboard":
        found.add_argument("--gpus", type=int, help="on each node; gpus_per_node of the site file")
    found.add_argument("--site", metavar="FILE", help="the cluster's settings; else $SPTMOD_SITE")
    found.add_argument("--time", help="of the job, such as 24:00:00; the site file's")
    if name != "doctor":
        found.add_argument("--dry-run", action="store_true", help="print what would be submitted")
    return found


def _divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our options, and those behind the first `--`."""
    words = list(words)
    if "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    if {"-h", "--help"} & set(words):
        return words, []
    raise UserError(
        f"{PROGRAM} slurm train: put the training's own options behind --, such as "
        f"`{PROGRAM} slurm train --nodes 2 --gpus 4 -- --config mine.yaml`"
    )


def _train(options: Namespace, site: Site, arguments: list[str]) -> int:
    gpus = site.gpus_per_node if options.gpus is None else options.gpus
    processes = options.processes or max(1, gpus)
    if gpus and processes > gpus:
        raise UserError(f"--processes is {processes}, but a node has {gpus} GPUs: one each")
    _check_training(arguments, options.nodes * processes)
    job = Job("train", options.nodes, gpus, processes, time=_time(options, site))
    return _submit(options, site, job, arguments)


def _check_training(arguments: Sequence[str], processes: int) -> None:
    """Refuse here what a job would refuse after hours in the queue."""
    from sptmod_dist.train.options import parse_train

    asked = parse_train(arguments, f"{PROGRAM} train")
    if asked.overwrite:
        raise UserError(
            "--overwrite would replace the run at every start of its job: give the run another "
            "--name, or remove its folder yourself"
        )
    config = asked.config
    if config.batch_size % processes:
        raise UserError(
            f"batch_size is {config.batch_size}, which {processes} processes (nodes × GPUs) do "
            "not divide: change one of them"
        )
    wanted = config.distributed.processes
    if wanted not in (None, processes):
        raise UserError(
            f"distributed.processes asks for {wanted} processes, but nodes × GPUs are {processes}: "
            "change one of them"
        )


def _study(options: Namespace, site: Site) -> int:
    path = resolved(options.study)
    if not path.is_file():
        raise UserError(f"{options.study} is no file: give the study's YAML file")
    gpus = options.gpus if options.gpus is not None else min(1, site.gpus_per_node)
    jobs = options.jobs or 1
    if options.at_once is not None and options.at_once < 1:
        raise UserError(f"--at-once is {options.at_once}, but must be 1 or more")
    array = f"1-{options.workers}" + (f"%{options.at_once}" if options.at_once else "")
    job = Job("study", 1, gpus, jobs, array, _time(options, site))
    return _submit(options, site, job, [f"--jobs={jobs}", str(path)])


def _tensorboard(options: Namespace, site: Site) -> int:
    folder = resolved(options.folder)
    if not folder.is_dir():
        raise UserError(f"{options.folder} is no folder: give the one that holds the runs")
    job = Job("tensorboard", time=_time(options, site))
    if options.dry_run:
        return _submit(options, site, job, [str(folder)])
    from sptmod_dist.slurm.tensorboard import wait_for_line

    number = submit(site, command(site, job, [str(folder)]))
    print(wait_for_line(site, number))
    return 0


def _doctor(options: Namespace, site: Site) -> int:
    from sptmod_dist.slurm.doctor import examine

    gpus = site.gpus_per_node if options.gpus is None else options.gpus
    job = Job("doctor", options.nodes, gpus, max(1, gpus), time=_time(options, site) or "10")
    folder = resolved(options.folder)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{options.folder} is no folder to write to: give the one for the runs")
    findings = examine(site, job, folder, options.wait)
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'MEND'}  {finding.sentence}")
    return 0 if all(finding.ok for finding in findings) else 1


def _time(options: Namespace, site: Site) -> str:
    """The time of `--time`, by the site file's rules."""
    if options.time is None:
        return site.time
    from dataclasses import replace

    from sptmod_dist.slurm.site import check

    check(replace(site, time=options.time), "--time")
    return str(options.time)


def _submit(options: Namespace, site: Site, job: Job, arguments: Sequence[str]) -> int:
    words = command(site, job, arguments)
    if options.dry_run:
        print(shown(words, job.kind), end="")
        return 0
    number = submit(site, words)
    log = job.log.replace("%x", f"sptmod-{job.kind}").replace("%j", number).replace("%A", number)
    print(f"job {number}: `squeue -j {number}` shows how it stands, `scancel {number}` ends it")
    print(f"its log: {Path(resolved(site.logs)) / log.replace('%a', '*')}")
    return 0


_ACT: dict[str, Callable[[Namespace, Site], int]] = {
    "study": _study,
    "tensorboard": _tensorboard,
    "doctor": _doctor,
}
