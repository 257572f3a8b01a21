"""One pair's part of the report: its film, and how it was made."""

from pathlib import Path

from expportrait.engine.keys import content_key
from expportrait.manifest.clips import Row
from expportrait.manifest.pairs import FROM, pair_name
from expportrait.report.card import Card, kept, recorded
from expportrait.report.film import film
from expportrait.settings.config import Drive, Report
from expportrait.show.pair import PairFilm

VERSION = 3  # bump when equal stores give other media


def make_pair(pair: Row, results: Path, keys: dict[str, str], media: Path, settings: Report) -> Card:
    """The pair's card, from ``media/<pair>`` where that is up to date. ``keys``: of the stages that are ok.

    Raises StoreError where a store is missing or damaged.
    """
    look = {"size": settings.size, "video_seconds": settings.video_seconds}

    def draw(folder: Path) -> Card:
        made, names = PairFilm(pair, results, keys), pair.extra
        count, fps = made.frames, made.fps
        length = f"{count} frames, {count / fps:.1f} s at {fps:.4g} fps" if count > 1 else "one frame"
        card = recorded(Card(), made.stores.values())
        target, driver = names["target"], names["driver"]
        who = f"{target} driven by {'itself' if target == driver else driver}"
        own_name = pair.clip != pair_name(target, driver)
        card.title = f"{pair.clip}: {who}" if own_name else who
        card.video = film([*made.panels], made.at, count, fps, count // 2, folder, settings, made.mark)
        card.facts = [
            *([("pair", who)] if own_name else []),
            ("reference", f"frame {made.stores['drive'].attrs['reference']} of the target"),
            ("length", length),
        ]
        card.facts += [(name.replace("_", " "), names[name]) for name in FROM if name in names]
        card.facts += _made_with(card.settings)
        return card

    return kept(media / pair.clip, content_key("report pair", VERSION, look, keys), draw)


def _made_with(settings: dict) -> list[tuple[str, str]]:
    """What tells this pair's video from another's, as recorded in the stores."""
    told = {
        "dynamic offsets": "{drive.offsets}",
        "target's head from": "{drive.target_proxy}",
        "head pose": "{drive.pose}",
        "sampling": "{reenact.steps} steps, seed {reenact.seed}",
    }
    facts = []
    for name, form in told.items():
        for setting, value in settings.items():
            form = form.replace("{" + setting + "}", str(value))
        if "{" not in form:
            facts.append((name, form))
    told = _controls(settings)
    return [*facts, ("controls", told)] if told else facts


def _controls(settings: dict) -> str:
    """What the driver does not do as it is: the controls that are not at their defaults."""
    names = [name for name in Drive.model_fields if name.startswith("gain_")]
    names += ["expression", "gaze", "hold", "smooth"]
    given = {name: settings.get(f"drive.{name}", Drive.model_fields[name].default) for name in names}
    changed = {name: value for name, value in given.items() if value != Drive.model_fields[name].default}
    return ", ".join(f"{name} {' and '.join(value) if name == 'hold' else value}" for name, value in changed.items())
