"""What a comparison of clips says of the names in a manifest, as lines of a table."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np

from expportrait.estimators.recognition import WIDTH
from expportrait.files import replace_file
from expportrait.machine import writing
from expportrait.manifest.clips import SPLITS, Row
from expportrait.people.compare import SAME, alike, groups
from expportrait.people.faces import Shard

# Mean cosines of SFace (docs/judges.md): the halves of a person's film 0.69 or more, two people 0.28 at most.
# SAME: two names from which they are probably one person.
DIFFERENT = 0.3  # clips, or frames of one, below which they are probably two people
COLUMNS = ("finding", "group", "person", "clip", "split", "clips", "frames", "like", "cosine", "leak")


@dataclass(frozen=True)
class Line:
    """A line of the table. ``finding``: same (one of several names of probably one person), different (a clip of a name
    whose face is not that of most of its clips), within (a clip in which ``frames`` show another face), unseen (a clip
    without a face that is recognised). ``leak``: the splits, where probably one person is in several."""

    finding: str
    person: str
    clip: str = ""  # of ``same``: the one that is most like the rest
    group: int | str = ""
    split: str = ""
    clips: int | str = ""
    frames: str = ""
    like: str = ""  # the person, or clip, that it is compared with
    cosine: float | str = ""
    leak: str = ""


@dataclass
class Clips:
    """What is kept of the clips of all shards: 0.6 kB each. ``rows`` (N, 128): means over the frames of most."""

    names: list[str] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)  # on single clips
    count: int = 0

    def add(self, shard: Shard, table: dict[str, Row], different: float) -> None:
        """Take in the clips of a shard, of the manifest's ``table``."""
        self.count += len(shard.clips)
        for clip, frames, rows in zip(shard.clips, shard.frames, shard.rows.astype(np.float32), strict=True):
            row, seen = table[clip], ~np.isnan(rows[:, 0])
            about = {"person": row.person, "clip": clip, "split": row.split, "clips": 1}
            if not seen.any():
                self.lines.append(Line("unseen", **about, frames=_listed(frames[frames >= 0])))
                continue
            frames, rows = frames[seen], rows[seen]
            group = groups(rows, different)
            mean = rows[group == 0].mean(0)
            if group.any():
                cosine = round(float((rows[group > 0] @ mean).mean()), 3)
                self.lines.append(Line("within", **about, frames=_listed(frames[group > 0]), like=clip, cosine=cosine))
            self.names.append(clip)
            self.rows.append(mean)


def findings(clips: Clips, table: dict[str, Row], same: float = SAME, different: float = DIFFERENT) -> list[Line]:
    """All lines: names of one person by group, then clips that are not their name's, then those on single clips.

    A name is divided into the people that its clips show, and these are compared with those of all other names.
    """
    rows = np.stack(clips.rows) if clips.rows else np.empty((0, WIDTH), np.float32)
    of_person: dict[str, list[int]] = defaultdict(list)
    for i, clip in enumerate(clips.names):
        of_person[table[clip].person].append(i)
    names, members, lines = [], [], []
    for person, own in of_person.items():
        group = groups(rows[own], different)
        parts = [np.array(own)[group == number] for number in range(group.max() + 1)]
        names += [person] * len(parts)
        members += parts
        for part in parts[1:]:
            cosines = rows[part] @ rows[parts[0]].mean(0)
            for i, cosine in zip(part, cosines, strict=True):
                row = table[clips.names[i]]
                like = clips.names[parts[0][0]]
                lines.append(Line("different", person, row.clip, split=row.split, clips=1, like=like,
                                  cosine=round(float(cosine), 3)))  # fmt: skip
    return [*_same(rows, clips.names, names, members, table, same), *lines, *clips.lines]


def _same(
    rows: np.ndarray, clips: list[str], names: list[str], members: list[np.ndarray], table: dict[str, Row], least: float
) -> list[Line]:
    """The lines of names that are probably one person's. ``names`` of faces, and ``members``, the clips of each."""
    if not names:
        return []
    means = np.stack([rows[part].mean(0) for part in members])
    found = alike(means, np.array(names), least)
    lines: list[Line] = []
    by_group: dict[int, list[int]] = defaultdict(list)
    for face, group in enumerate(found.group.tolist()):
        by_group[group].append(face)
    groups_of_several = [faces for faces in by_group.values() if len({names[face] for face in faces}) > 1]

    def splits(faces: list[int]) -> str:
        return _splits({table[clips[i]].split for face in faces for i in members[face]})

    def first_those_that_leak(faces: list[int]) -> tuple[bool, int]:
        return " " not in splits(faces), -len(faces)

    for number, faces in enumerate(sorted(groups_of_several, key=first_those_that_leak), 1):
        leak = splits(faces) if " " in splits(faces) else ""
        for face in faces:
            part = members[face]
            central = clips[part[(rows[part] @ means[face]).argmax()]]
            lines.append(Line("same", names[face], central, number, splits([face]),
                              len(part), like=names[found.nearest[face]], cosine=round(float(found.cosine[face]), 3),
                              leak=leak))  # fmt: skip
    return lines


def write_table(file: Path, lines: list[Line]) -> None:
    """The lines as comma-separated values, in UTF-8, under COLUMNS."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([getattr(line, name) for name in COLUMNS] for line in lines)
    with writing(file):
        replace_file(file, text.getvalue().encode())


def _splits(found: Iterable[str]) -> str:
    return " ".join(sorted(found, key=SPLITS.index))


def _listed(frames: np.ndarray) -> str:
    return " ".join(map(str, frames.tolist()))
