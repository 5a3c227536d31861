"""`study`: plan, run, status, retry and report of many trainings that belong together."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from sptmod_dist.cli import PROGRAM
from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.errors import UserError

if TYPE_CHECKING:
    from sptmod_dist.study.grid import Training
    from sptmod_dist.study.study_file import StudyFile

ACTIONS = {
    "plan": "measure each shape briefly; say how many trainings, how much disk, memory and time",
    "run": "train all that is left, several at once, the longest first; then report",
    "status": "say how every configuration stands",
    "retry": "let failed trainings be tried again",
    "report": "make tables, heat maps and curves of what is finished",
}


def parser() -> ArgumentParser:
    """Options of `study`, which are its actions': see `add_actions`."""
    return plain_parser("study")


def add_actions(parser: ArgumentParser) -> None:
    """The actions, for help and completion."""
    actions = parser.add_subcommands(required=False)
    for name, text in ACTIONS.items():
        actions.add_subcommand(name, _parser(name), help=text)


def run(argv: Sequence[str]) -> int:
    """Do one of the actions.

    Raises:
        UserError: the study's file is faulty, or what it names is missing.
    """
    if not argv or argv[0] in ("-h", "--help"):
        whole = parser()
        add_actions(whole)
        whole.print_help()
        return 0 if argv else 2
    if argv[0] not in ACTIONS:
        raise UserError(f"{PROGRAM} study: say {', '.join(ACTIONS)}; see `{PROGRAM} study --help`")
    options = parse(_parser(argv[0]), argv[1:])
    jobs = getattr(options, "jobs", None)
    if jobs is not None and not 1 <= jobs <= 1024:
        raise UserError(f"--jobs is {jobs}, but must be 1 to 1024")
    # A process that asks CUDA itself cannot fork trainings that use it.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    from sptmod_dist.study.grid import trainings_of
    from sptmod_dist.study.study_file import read_study

    study = read_study(options.study)
    return _ACT[argv[0]](options, study, trainings_of(study))


def _parser(name: str) -> ArgumentParser:
    found = ArgumentParser(
        prog=f"{PROGRAM} study {name}",
        description=f"{ACTIONS[name][0].upper()}{ACTIONS[name][1:]}.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    found.add_argument("study", help="the study's YAML file")
    if name in ("plan", "run"):
        found.add_argument("--jobs", type=int, help="trainings at once at most; as many as fit")
    if name == "run":
        found.add_argument(
            "--worker",
            action="store_true",
            help="be one of many workers, as in a job array: one training at a time (--jobs more), "
            "no plan before and no report after",
        )
    if name == "status":
        found.add_argument("--all", action="store_true", help="a line a training")
        found.add_argument("--json", action="store_true", help="print JSON, a record a training")
    if name == "retry":
        found.add_argument("trainings", nargs="*", help="ids; all that failed")
    return found


def _plan(options: Namespace, study: StudyFile, trainings: list[Training]) -> int:
    from sptmod_dist.study.folder import StudyFolder
    from sptmod_dist.study.machine import this_machine
    from sptmod_dist.study.plan import in_words, make_plan, require_recordings

    require_recordings(trainings)
    StudyFolder(study).prepare(trainings)
    plan = make_plan(study, trainings, this_machine(), options.jobs, _say)
    print(in_words(trainings, plan))
    return 0


def _run(options: Namespace, study: StudyFile, trainings: list[Training]) -> int:
    from sptmod_dist.study.folder import StudyFolder
    from sptmod_dist.study.machine import this_machine
    from sptmod_dist.study.plan import in_words, make_plan, read_plan, require_recordings
    from sptmod_dist.study.scheduler import Worker

    require_recordings(trainings)
    folder = StudyFolder(study)
    folder.prepare(trainings)
    machine = this_machine()
    if options.worker:
        estimates, jobs = read_plan(folder), options.jobs or 1
    else:
        plan = make_plan(study, trainings, machine, options.jobs, _say)
        _say(in_words(trainings, plan))
        estimates, jobs = plan.estimates, plan.jobs
    _load()
    code = Worker(study, trainings, estimates, machine, jobs, not options.worker, _say).run()
    return code or _after(study, trainings, options.worker)


def _load() -> None:
    """What every training needs, once for all of them: torch's optimizers and the loudness bring
    modules along that take longer to load than a small training to train."""
    import pyloudnorm  # noqa: F401
    import torch._dynamo  # noqa: F401

    import sptmod_dist.infer.evaluate
    import sptmod_dist.study.calibrate
    import sptmod_dist.study.hyperparameters
    import sptmod_dist.train.main  # noqa: F401


def _after(study: StudyFile, trainings: list[Training], worker: bool) -> int:
    """Say how it ended; 1 where trainings failed."""
    from sptmod_dist.study.folder import StudyFolder
    from sptmod_dist.study.status import standing

    folder = StudyFolder(study)
    states = [standing(folder, training).state for training in trainings]
    failed, finished = states.count("failed"), states.count("finished")
    _say(f"{finished} of {len(states)} trainings are finished, {failed} failed")
    if finished and not worker:
        _make_report(study, trainings)
    if failed:
        _say(f"see `{PROGRAM} study status {study.path}`")
    return 1 if failed else 0


def _status(options: Namespace, study: StudyFile, trainings: list[Training]) -> int:
    from sptmod_dist.study.folder import StudyFolder
    from sptmod_dist.study.plan import read_plan
    from sptmod_dist.study.status import in_words, standing

    folder = StudyFolder(study)
    standings = [standing(folder, training) for training in trainings]
    if options.json:
        print(json.dumps([asdict(each) for each in standings], indent=1, allow_nan=False))
    else:
        print(in_words(standings, read_plan(folder), options.all))
    return 0


def _retry(options: Namespace, study: StudyFile, trainings: list[Training]) -> int:
    from sptmod_dist.names import advice
    from sptmod_dist.study.folder import StudyFolder

    folder, known = StudyFolder(study), [training.id for training in trainings]
    for name in options.trainings:
        if name not in known:
            remedy = advice(name, known, f"see `{PROGRAM} study status --all`")
            raise UserError(f"{study.path} has no training {name}: {remedy}")
    cleared = []
    for name in options.trainings or known:
        result = folder.result(name)
        if result is not None and result.state == "failed":
            folder.forget_result(name)
            cleared.append(name)
    print(f"{len(cleared)} trainings will be tried again by `{PROGRAM} study run {study.path}`")
    return 0


def _report(options: Namespace, study: StudyFile, trainings: list[Training]) -> int:
    _make_report(study, trainings)
    return 0


def _make_report(study: StudyFile, trainings: list[Training]) -> None:
    from sptmod_dist.study.report import make_report

    path = make_report(study, trainings)
    print(f"the report is {path}", flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_ACT = {"plan": _plan, "run": _run, "status": _status, "retry": _retry, "report": _report}
