"""The site file, read strictly; times as SLURM writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sptmod_dist.errors import UserError
from sptmod_dist.slurm.site import FORMAT, Site, read_site, seconds_of

EXAMPLE = Path(__file__).parents[2] / "launch" / "slurm" / "site.yaml"


def written(folder: Path, text: str) -> str:
    path = folder / "site.yaml"
    path.write_text(text)
    return str(path)


def test_the_example_names_every_key_and_asks_for_nothing_strange() -> None:
    assert read_site(str(EXAMPLE)).time == "24:00:00"
    text = EXAMPLE.read_text()
    assert all(f"\n{key}:" in text or f"\n# {key}:" in text for key in Site.__dataclass_fields__)


def test_every_commented_line_of_the_example_is_right_too(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text().splitlines()
    keys = tuple(f"# {key}:" for key in Site.__dataclass_fields__)
    text = "\n".join(line.removeprefix("# ") if line.startswith(keys) else line for line in lines)
    site = read_site(written(tmp_path, text))
    assert site.gpu_type and site.modules and site.container and site.setup


def test_without_a_file_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPTMOD_SITE", raising=False)
    assert read_site(None) == Site()


def test_the_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPTMOD_SITE", written(tmp_path, f"format: {FORMAT}\nqos: night\n"))
    assert read_site(None).qos == "night"


def test_words_are_divided_as_a_shell_does_and_lines_of_setup_are_not(tmp_path: Path) -> None:
    text = "container: apptainer exec '/a b.sif'\nsetup: export A='b c'\nmodules: [cuda/12, gcc]\n"
    site = read_site(written(tmp_path, f"format: {FORMAT}\n{text}"))
    assert site.container == ("apptainer", "exec", "/a b.sif")
    assert site.setup == ("export A='b c'",)
    assert site.modules == ("cuda/12", "gcc")


WRONG = {
    "partitoin: gpu": "there is no key partitoin: did you mean partition?",
    "time: 24:00:00": 'time must stand in quotes, such as time: "24:00:00"',
    "time: tomorrow": "time is 'tomorrow', but must be a time of SLURM",
    'time: "3"': "leaves nothing before the warning of 180 s",
    "warning: -1": "warning is -1, but must be a whole number",
    "gpus_per_node: many": "gpus_per_node is 'many', but must be a whole number",
    "account: [a]": "account is ['a'], but must be a text",
    "account: true": "account is True, but must be a text",
    "container: 'a \"b'": "mend its quotes",
    "sbatch: 3": "sbatch is 3, but must be a text or a list of texts",
    'partition: "a\\0b"': "must be a text",
    'logs: "a\\\\b"': "SLURM takes no backslash or new line in the name of a log",
    'logs: "a\\nb"': "SLURM takes no backslash or new line in the name of a log",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_slurm_could_not_take_is_refused_in_a_sentence(tmp_path: Path, line: str) -> None:
    path = written(tmp_path, f"format: {FORMAT}\n{line}\n")
    with pytest.raises(UserError) as refusal:
        read_site(path)
    assert WRONG[line] in str(refusal.value)
    assert str(refusal.value).startswith(path)


def test_another_file_is_no_site_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no site file"):
        read_site(written(tmp_path, "name: demo\n"))


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("30", 1800),
        ("1:30", 90),
        ("1:30:00", 5400),
        ("2-0", 172_800),
        ("1-12:30", 131_400),
        ("1-00:00:07", 86_407),
        ("UNLIMITED", None),
        ("", None),
    ],
)
def test_times_are_slurms(time: str, seconds: int | None) -> None:
    assert seconds_of(time) == seconds
