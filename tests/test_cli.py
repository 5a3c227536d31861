"""The command line: quick answers, one sentence and code 2 for what the user can mend."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Sequence

import pytest

from sptmod_dist import __version__, cli, commands
from sptmod_dist.errors import UserError


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """`python -m sptmod_dist`, as a process of its own."""
    command = [sys.executable, "-m", "sptmod_dist", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_python_dash_m_prints_the_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"sptmod-dist {__version__}\n")


def test_help_names_every_command_and_needs_no_torch() -> None:
    code = (
        "import sys; from sptmod_dist.cli import main; main(['--help']); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in commands.RUN)


def test_every_command_is_in_the_overview_and_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(commands.RUN) == set(cli.COMMANDS)
    for name in commands.RUN:
        try:
            code = cli.main([name, "--help"])
        except SystemExit as stop:  # argparse leaves this way
            code = 0 if stop.code is None else int(stop.code)
        assert code == 0
        assert f"sptmod-dist {name}" in capsys.readouterr().out


def test_no_command_shows_the_overview_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_env_tells_versions_and_no_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["env"]) == 0
    text = capsys.readouterr().out
    for word in ("sptmod-dist", "python", "torch", "cuda", "accelerate", "cores"):
        assert word in text
    assert sys.prefix not in text and "/" not in text


WRONG = {
    ("trian",): "there is no command trian: did you mean train?",
    ("--config",): "there is no command --config: see `sptmod-dist --help`",
    ("env", "x"): "sptmod-dist env: unrecognized arguments: x",
    ("render", "a"): "sptmod-dist render: the following arguments are required: input, output",
    ("render", "a", "b", "c", "--control", "ratio"): "--control ratio: give NAME=VALUE",
    ("render", "a", "b", "c", "--control", "r=1", "--control", "r=2"): "r is given twice",
    ("render", "a", "b", "c", "--checkpoint", "first"): "invalid choice: 'first'",
    ("shards",): "say build, convert, verify or info",
    ("shards", "make"): "say build, convert, verify or info",
    ("shards", "build"): "--manifest is missing",
    ("shards", "build", "--manifest", "missing.yaml", "--out", "x"): "missing.yaml",
    ("shards", "build", "--lengths", "[100]"): "lengths[0] is 100",
    ("shards", "build", "--manifest", "a", "--out", "x", "--workers", "0"): "a: cannot be read",
    ("shards", "build", "--manifest", "a", "--out", ""): "--out is missing",
    ("shards", "build", "--manifest", "a", "--out", "http://x/y"): "give a folder on this machine",
    ("shards", "convert", "http://x/y", "z"): "give a folder on this machine; http://x/y is none",
    ("shards", "verify", "http://x/y"): "give a folder on this machine; http://x/y is none",
    ("shards", "info", "x" * 5000): "cannot be read (File name too long)",
    ("shards", "convert", "/missing"): "required: out",
    ("shards", "convert", "/missing", "x"): "/missing holds no sets",
    ("shards", "convert", "/missing", "x", "--workers", "0"): "--workers is 0",
    ("shards", "convert", "/missing", "x", "--workers", "many"): "workers",
    ("shards", "info", "/missing"): "/missing",
    ("completion", "dos"): "invalid choice: 'dos'",
    ("train",): "command line: data.train is missing",
    ("train", "--precision", "fp16"): "weights are float32",
    ("train", "--config", "missing.yaml"): "missing.yaml: cannot be read",
    ("train", "--resume", "--overwrite", "--data.train=a", "--data.validation=b"): "--overwrite",
    ("evaluate", "/missing"): "/missing",
}


@pytest.mark.parametrize(("argv", "sentence"), WRONG.items())
def test_what_the_user_can_mend_is_one_sentence_and_code_2(
    argv: Sequence[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sptmod-dist: error: ")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1


RAISED = {
    UserError("a.yaml: x is 3"): (2, "sptmod-dist: error: a.yaml: x is 3\n"),
    OSError(errno.ENOSPC, "no", "runs/a"): (2, "runs/a: the disk is full: free some space"),
    PermissionError(errno.EACCES, "no", "/a"): (2, "/a: permission denied: choose a folder"),
    KeyboardInterrupt(): (130, "\n"),
}


@pytest.mark.parametrize(("error", "expected"), RAISED.items(), ids=lambda x: type(x).__name__)
def test_errors_have_their_exit_codes(
    error: BaseException,
    expected: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(argv: Sequence[str]) -> int:
        raise error

    monkeypatch.setitem(commands.RUN, "env", fail)
    assert cli.main(["env"]) == expected[0]
    assert expected[1] in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: Sequence[str]) -> int:
        raise ChildProcessError(errno.ECHILD, "no", "x")

    monkeypatch.setitem(commands.RUN, "env", fail)
    with pytest.raises(ChildProcessError):
        cli.main(["env"])


def test_every_rank_but_the_first_says_which_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("[rank 1] sptmod-dist: error: ")


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    command = [sys.executable, "-m", "sptmod_dist", "train", "--print_config"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    complaint = process.stderr.read()
    assert (process.wait(60), complaint) == (141, "")
    process.stderr.close()


def test_completion_knows_commands_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "tcsh"):
        assert cli.main(["completion", shell]) == 0
        text = capsys.readouterr().out
        assert "render" in text and "model.hidden_size" in text
