"""Files of pretrained networks: whether the settings name those that are needed, and how they are fetched."""

import shutil
import urllib.request
import zipfile
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Annotated

import typer

from expportrait.errors import UserError
from expportrait.files import sha256
from expportrait.progress import bar
from expportrait.settings.config import Config, GeometrySettings, Landmarks, Latents
from expportrait.settings.known_files import KNOWN, SETS, KnownFile, source

CHUNK = 1 << 20
PARTS = ("normals", "depth", "mask")
# The settings that name an estimator's files: all of one of these sets have to be given. Others need no files.
GEOMETRY_FILES: dict[str, tuple[tuple[str, ...], ...]] = {"david": (PARTS, ("model",)), "sapiens": (PARTS,)}


def geometry_files(name: str, settings: GeometrySettings) -> dict[str, Path]:
    """Returns the files of the estimator ``name``, by the setting that names them. Raises UserError where one of them
    is not given, or where one is given that does not belong to it."""
    sets = GEOMETRY_FILES.get(name)
    if sets is None:
        return {}
    given = {part: file for part in ("model", *PARTS) if (file := getattr(settings, part)) is not None}
    for part in given:
        if not any(part in parts for parts in sets):
            raise UserError(f"geometry.{part} is not of {name}: leave it empty, or choose another geometry.estimator")
    whole = [parts for parts in sets if given.keys() >= set(parts)]
    wanted = min(whole, key=len) if whole else max(sets, key=lambda parts: len(given.keys() & set(parts)))
    if surplus := [part for part in given if part not in wanted]:
        raise UserError(
            f"geometry.{' and .'.join(wanted)} does all that {name} needs: leave geometry.{' and .'.join(surplus)} "
            "empty beside it"
        )
    for part in wanted:
        if part not in given:
            raise UserError(
                f"geometry.estimator is {name}, but geometry.{part} is empty: take "
                f"{source(f'geometry.{part}', name)}; or set geometry.estimator to embedded, which is coarse and needs "
                "no files"
            )
    return given


def points_file(settings: Landmarks) -> Path | None:
    """Returns the landmark network's file, None where none is needed. Raises UserError where it is not given."""
    if settings.detector == "sapiens" and settings.model is None:
        raise UserError(
            "landmarks.detector is sapiens, but landmarks.model is empty: take "
            f"{source('landmarks.model', 'sapiens')}; or set landmarks.detector to mediapipe, which needs no file"
        )
    return settings.model


def face_file(settings: Landmarks) -> Path | None:
    """Returns the file of the network that tells faces apart, None where none is needed. Raises UserError where it is
    not given."""
    if settings.embedder == "arcface" and settings.arcface is None:
        raise UserError(
            "landmarks.identity is arcface, but landmarks.arcface is empty: take "
            f"{source('landmarks.arcface', 'arcface')}; or set landmarks.identity to sface, which needs no file"
        )
    return settings.arcface if settings.embedder == "arcface" else None


def vae_file(settings: Latents) -> Path | None:
    """Returns the codec's file, None where none is needed. Raises UserError where it is not given."""
    if settings.codec != "linear" and settings.vae is None:
        raise UserError(
            "latents.vae is empty: give the file of Wan's VAE weights (docs/latents.md), or set latents.codec: linear"
        )
    return settings.vae


def check_given(config: Config, sections: tuple[str, ...]) -> None:
    """Raises UserError where one of the sections asks for a network whose file it does not name."""
    if "geometry" in sections:
        geometry_files(config.geometry.estimator, config.geometry)
    if "landmarks" in sections:
        points_file(config.landmarks)
        face_file(config.landmarks)
    if "latents" in sections:
        vae_file(config.latents)


def chunks(url: str) -> Iterator[tuple[int, bytes]]:
    """Yields (size of the whole, or 0 where it is not known; next piece) of what is at ``url``. Raises UserError where
    it cannot be reached."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            whole = int(answer.headers.get("Content-Length") or 0)
            while piece := answer.read(CHUNK):
                yield whole, piece
    except (OSError, HTTPException) as error:  # urllib's own are OSErrors
        raise UserError(
            f"{url} cannot be reached ({getattr(error, 'reason', error)}): download it on a machine with a network and "
            "copy it here"
        ) from None


def download(known: KnownFile, folder: Path) -> Path:
    """Fetch a file into ``folder`` unless it is there already, check it, and return its path. Raises UserError where it
    does not arrive whole or is not what was published."""
    out = folder / known.name
    if not out.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{known.url.rsplit('/', 1)[1]}.part"
        whole = got = 0
        try:
            with part.open("wb") as stream, bar(None, known.name) as shown:
                for whole, piece in chunks(known.url):
                    shown.total = whole // CHUNK or None
                    stream.write(piece)
                    got += len(piece)
                    shown.update(got // CHUNK - shown.n)
        except BaseException:  # an interrupt too
            part.unlink(missing_ok=True)
            raise
        if whole and got != whole:
            part.unlink()
            raise UserError(f"{known.url}: {got} of {whole} bytes came, try again")
        if known.member:
            _extract(part, known, out)
        else:
            part.replace(out)
    if not sha256(out).startswith(known.sha256):
        raise UserError(f"{out} is not what was published: its sha256 does not begin with {known.sha256}; delete it")
    return out


def _extract(archive: Path, known: KnownFile, out: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as zipped:
            inside = next((n for n in zipped.namelist() if n.rsplit("/", 1)[-1] == known.member), None)
            if inside is None:
                raise UserError(f"{known.url} has no {known.member}, only {', '.join(zipped.namelist())}")
            with zipped.open(inside) as source, out.with_suffix(".part").open("wb") as target:
                shutil.copyfileobj(source, target)
    except zipfile.BadZipFile:
        raise UserError(f"{known.url} gave no zip file") from None
    finally:
        archive.unlink()
    out.with_suffix(".part").replace(out)


def fetch_weights(
    sets: Annotated[list[str] | None, typer.Argument(help="Sets of files; none: all are listed.")] = None,
    to: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("weights"),
    yes: Annotated[bool, typer.Option("--yes", help="Download; else only say what and from where.")] = False,
) -> None:
    """Pretrained networks that are not shipped: list them, or download and check them. Licences are their own."""
    unknown = sorted({*(sets or ())} - {*SETS})
    if unknown:
        raise UserError(f"fetch-weights: no set is called {', '.join(unknown)}, only {', '.join(SETS)}")
    if yes and not sets:
        raise UserError(f"fetch-weights --yes: say which sets, of {', '.join(SETS)}")
    for known in KNOWN:
        if sets and known.set not in sets:
            continue
        size = f"{known.megabytes:.0f} MB" if known.megabytes else "size not published"
        check = f"sha256 {known.sha256}..." if known.sha256 else "no checksum published"
        typer.echo(f"{known.set:16} {known.key:24} {known.licence}; {size}; {check}\n    {known.url}")
        if known.member:
            typer.echo(f"    of it {known.member}")
        if yes:
            file = download(known, to)
            typer.echo(f"    {file}, sha256 {sha256(file)}\n    set {known.key}: {file}")
    if not yes:
        typer.echo("Nothing was downloaded; to do so: expportrait fetch-weights SET --yes [--to FOLDER]")
