"""What TensorBoard plays and draws of a training: excerpts, level curves, and the settings.

Rank 0 makes it, at the validations that are the best so far; nothing of it can end a training. How
sounds and pictures are made is the matter of `pictures.py`; when events reach the disk that of the
monitor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import text

from sptmod_dist.train.excerpts import in_words
from sptmod_dist.train.listening import Curves, Heard, Listener
from sptmod_dist.train.monitor import Monitor
from sptmod_dist.train.pictures import audio, gains, level_curves, spectrograms

Shown = Iterator[Summary]


class Showing:
    """Give the monitor what is heard and seen; every rank has one, since they collect together.

    Args:
        listener: has heard each validation.
        monitor: keeps and writes events.
        identity: of the run and its validation set: to show inputs and targets once in each.
    """

    def __init__(self, listener: Listener, monitor: Monitor, identity: str) -> None:
        self._listener, self._monitor = listener, monitor
        self._identity = f"{identity}, {listener.count} x {listener.seconds} s"

    def settings(self, yaml: str) -> None:
        """The resolved settings as text, once, and again where a resumed run has others."""
        start = self._monitor.first
        if self._monitor.tells("settings", yaml, start):
            code = "".join(f"    {line}\n" for line in yaml.splitlines())
            self._try(start, lambda: iter([text("settings", code)]))

    def validation(self, iteration: int, is_best: bool) -> None:
        """The excerpts, after each validation that is the best so far; all ranks must call it."""
        if not self._listener.count:
            return
        is_first = self._monitor.tells("excerpts", self._identity, iteration)
        if is_first or is_best:
            heard, curves = self._listener.collect()
            self._try(iteration, lambda: self._shown(heard, curves, is_first))

    def _try(self, iteration: int, make: Callable[[], Shown]) -> None:
        """Whatever goes wrong with a picture, the training goes on."""
        if not self._monitor.is_main:
            return
        try:
            self._monitor.media(iteration, list(make()))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self._monitor.say(
                f"nothing was drawn of iteration {iteration} ({reason:.200}); training goes on"
            )

    def _shown(self, heard: list[Heard], curves: dict[int, Curves], is_first: bool) -> Shown:
        rate = self._listener.rate
        for number, each in enumerate(heard):
            tag, title = f"excerpt_{number}", self._title(each)
            if is_first:
                yield audio(f"{tag}/input", each.input, rate)
                yield audio(f"{tag}/target", each.target, rate)
            yield audio(f"{tag}/prediction", each.prediction, rate)
            yield audio(f"{tag}/difference", each.prediction - each.target, rate)
            yield spectrograms(f"{tag}/spectrograms", title, each, rate)
            yield gains(f"{tag}/gain", title, each, rate)
        yield level_curves("level_curve", self._by_setting(curves))

    def _title(self, heard: Heard) -> str:
        """Which item, where in it, under which setting."""
        item, rate = self._listener.items.items[heard.excerpt.item], self._listener.rate
        where = f"{heard.excerpt.start / rate:.2f} to {heard.excerpt.stop / rate:.2f} s"
        parts = (_short(item.id), where, *[_short(in_words(item))] * bool(item.settings))
        return ", ".join(parts)

    def _by_setting(self, curves: dict[int, Curves]) -> dict[str, Curves]:
        """For each setting the item whose input has most levels."""
        items = self._listener.items.items
        best: dict[tuple[object, ...], int] = {}  # the item of each setting
        for index, each in curves.items():
            known = curves.get(best.setdefault(tuple(items[index].settings.values()), index), each)
            if len(each.target.input_db) > len(known.target.input_db):
                best[tuple(items[index].settings.values())] = index
        words = [_short(in_words(items[index])) for index in best.values()]
        return {  # two settings may read alike: they are numbered
            said if words.count(said) == 1 else f"{number}: {said}": curves[index]
            for number, (said, index) in enumerate(zip(words, best.values(), strict=True), 1)
        }


def _short(words: str) -> str:
    return words if len(words) <= 60 else f"{words[:57]}…"
