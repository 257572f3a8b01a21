"""What the author of a stage sees: the stage as the pipeline lists it, and the clip that its code is given."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tqdm import tqdm

from expportrait.engine.prefetch import AHEAD, Turns, ahead
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import portraits
from expportrait.progress import bar, progress
from expportrait.settings.config import Config

if TYPE_CHECKING:  # zarr takes long to import, and a plan needs none of it
    from expportrait.store import Store

T = TypeVar("T")
ALL = ""  # stands for the clip where a stage makes one thing of all
RECORDS = (".failed.json", ".damaged")  # why there is no result, and why it is doubted


@dataclass(frozen=True)
class Stage:
    """A stage says what it reads, what its keys depend on and where its results lie. Its code may come later.

    ``kind`` says what it makes: a ``source`` that the workflow makes itself, a result of each ``clip`` or each
    ``pair``, one ``model`` of all clips, or a ``page`` on the whole run. Bump ``version`` when equal settings give
    another result, also when a default changes.

    Its code is in the module that has its name. A stage of clips or pairs has ``process(clip, out)``, which makes one
    result or raises ClipError. It may have ``load(settings, device)``, which gets the models once a shard;
    ``needless(row, parents, settings)``, which says before that why nothing that follows needs the clip, and is empty
    where something does; and ``finish(rows, index, config)``, which is called when all of them are done. Other kinds
    have ``run``, with arguments of their own.
    """

    name: str
    version: int
    sections: tuple[str, ...]  # of the settings, that it reads
    parents: tuple[str, ...]  # all stages whose results it may read; which, row by row, says ``parents_of``
    process: Callable[["Clip", Any], None] | None = None
    load: Callable[[Any, str], Any] | None = None
    kind: Literal["source", "clip", "pair", "model", "page"] = "clip"
    # name -> stage and clip, or ALL: what one clip or pair is made from, where that is not the same clip's parents
    parents_by_row: Callable[[Row, Config], dict[str, tuple[str, str]]] | None = None
    # further files that one result depends on: name -> sha256; raises ClipError where one is missing
    files: Callable[[Row, Config], dict[str, str]] | None = None
    # name -> version of what the settings choose, and does the stage's work: only what it made is made anew by a bump.
    # Stores have them as <name>_version
    chosen: Callable[[Config], dict[str, int]] | None = None
    when: Callable[[Config], bool] = lambda config: True  # whether there is such a stage at these settings
    only: tuple[str, ...] = ()  # settings such as drive.reference: of their sections it sees these alone
    unkeyed: tuple[str, ...] = ()  # settings, or whole sections, that its keys do not depend on
    weights: str = ""  # the setting of a model that names pretrained weights: too big to be hashed for a look
    tested: bool = False  # the model is also measured on the clips of the splits val and test
    overlaps: bool = False  # two clips may be in work: ``process`` uses the models only in ``clip.computed``
    form: Literal["zarr", "json"] = "zarr"  # of its results: a store with arrays, or a file of figures
    media: tuple[str, ...] = ()  # endings of what lies beside a result
    folder: str = ""  # of its results; its name where empty
    by: str = ""  # the stage of pairs whose jobs make it, of the pairs' targets
    table: str = ""  # what one job for all pairs ends with; shards of their own where empty
    needless: Callable[[Row, "dict[str, Store]", Any], str] | None = None
    finish: Callable[[list[Row], dict[str, Any], Config], None] | None = None
    run: Callable[..., Any] | None = None

    @property
    def sharded(self) -> bool:
        """Whether its work is cut into shards, one job and one index each."""
        return self.kind in ("clip", "pair") and not self.by and not self.table

    @property
    def endings(self) -> tuple[str, ...]:
        """Of all files that it writes of one clip or pair: they are called by its name and one of these."""
        return (f".{self.form}", *(RECORDS if self.form == "zarr" else RECORDS[:1]), *self.media)

    def home(self, results: Path) -> Path:
        """The folder of its results."""
        return results / (self.folder or self.name)

    def result(self, results: Path, clip: str) -> Path:
        """The store, or the file, of one clip or pair."""
        return self.home(results) / f"{clip}.{self.form}"

    def members(self, rows: list[Row], pairs: list[Row]) -> list[Row]:
        """The clips or pairs that it makes something of."""
        if self.by:
            return portraits(rows, pairs)
        return pairs if self.kind == "pair" else rows

    def parents_of(self, row: Row, config: Config) -> dict[str, tuple[str, str]]:
        """What one result is made from: name -> stage and clip, or ALL where the stage makes one thing of all."""
        return (
            self.parents_by_row(row, config.told(row.settings))
            if self.parents_by_row
            else {name: (name, row.clip) for name in self.parents}
        )

    def sees(self, config: Config) -> Config:
        """The settings as the stage sees them: what it does not look at is at its default."""
        for section in {name.partition(".")[0] for name in self.only}:
            given, names = getattr(config, section), (name.partition(".") for name in self.only)
            kept = {name: getattr(given, name) for of, _, name in names if of == section}
            config = config.model_copy(update={section: type(given)(**kept)})
        return config

    def later(self, config: Config) -> dict[str, int]:
        """The versions of what is ``chosen`` that enter keys: those after the first."""
        versions = self.chosen(config) if self.chosen else {}
        return {name: number for name, number in versions.items() if number > 1}

    def settings(self, config: Config) -> SimpleNamespace:
        """Its own sections, as it sees them."""
        config = self.sees(config)
        return SimpleNamespace(**{section: getattr(config, section) for section in self.sections})


@dataclass(frozen=True)
class Work:
    """What moves while a clip is in work is here: how far its bars are, and whose turn it is to use the models."""

    title: str = ""
    heard: Callable[[str], None] | None = None  # told how far the bars are
    turns: Turns = field(default_factory=Turns)
    number: int = 0  # of the clip in its shard
    overlap: bool = False  # reading, computing and writing go on at once


@dataclass(frozen=True)
class Clip:
    """This is what ``process`` gets. ``settings`` has the stage's own sections; ``tools`` is what ``load`` returned.

    ``device`` (cpu, cuda) and ``backend`` (of the rasteriser) do not change what comes out.
    """

    row: Row
    parents: "dict[str, Store]"
    settings: Any
    tools: Any
    device: str
    backend: str = "auto"
    work: Work = field(default_factory=Work)

    def computed(self, items: Iterable[T], waiting: int = AHEAD) -> Iterator[T]:
        """``items``, made with the models, such as batches of maps; ``waiting`` of them ahead of the caller where it
        pays. Once a clip: with the last one made, it is the next clip's turn."""
        turns, number = self.work.turns, self.work.number

        def made() -> Iterator[T]:
            yield from items
            turns.leave(number)

        turns.wait(number)
        for item in self.ahead(made(), waiting):
            turns.check()
            yield item

    def ahead(self, items: Iterable[T], waiting: int = AHEAD) -> Iterator[T]:
        """``items``, made without the models, such as frames that are read: in a thread, where it pays."""
        return ahead(items, self.work.overlap, waiting)

    def progress(self, items: Iterable[T], total: int | None = None, desc: str = "") -> Iterable[T]:
        """``items``, with their progress on stderr."""
        title = f"{self.work.title}: {desc}" if desc else self.work.title
        return progress(items, total, title, self.work.heard)

    def bar(self, desc: str, total: int | None = None) -> tqdm:
        """A bar to be moved by hand."""
        return bar(total, f"{self.work.title}: {desc}", heard=self.work.heard)
