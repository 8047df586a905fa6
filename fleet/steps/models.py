"""Bring the models that a system names beside it: services.fleet.models. The list of them is in the system itself."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet import nix
from fleet.errors import BuildError, CommandFailedError, ConfigError, UnfitError
from fleet.files import read_file
from fleet.machine import Command
from fleet.scripts import expression, one_line
from fleet.steps.load import Contents
from fleet.store.nar import ChangedError
from fleet.text import listed, parsed_json, shortened, store_path, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleet.inventory import Host
    from fleet.machine import Machine
    from fleet.model import Closure, Derivation
    from fleet.store.supply import Supply

LIST = "etc/fleet/models.json"
LARGEST = 1 << 20
"""The most bytes of the list."""
LARGEST_DERIVATION = 64 << 20
VARIABLE = "fleetModels"
"""The list again, in the environment of the derivation. Of a system that is not built here, nothing else is known."""
SPARE = 32 << 20
"""Bytes that stay free on this machine's disk beside what is fetched."""
_STORE = Path("/nix/store")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A file with weights that a system names."""

    name: str
    path: str
    url: str
    hash: str
    license: str
    size: int
    """Bytes."""
    vram: int | None
    """The memory that GPUs must have for it, all together, in MiB."""
    is_beside: bool
    """Whether it is no part of the system itself."""

    def __str__(self) -> str:
        size = f"{self.size / (1 << 20):,.0f} MiB"
        return f"{self.name} ({size}, {self.license})"


def models_of(closure: Closure) -> tuple[Model, ...]:
    """Return the models that a closure of this machine's store names. Raise `ConfigError` if the list is none."""
    try:
        text = read_file(Path(closure) / LIST, most=LARGEST)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{closure}/{LIST}: cannot be read: {error.strerror}") from error
    return _models(text, f"{closure}/{LIST}")


def models_of_derivation(derivation: Derivation) -> tuple[Model, ...]:
    """Return the models that the system of a derivation names, which this machine's store has. It need not be built.

    One that is not here has none: who needs it says so. Raise `ConfigError` if the list is none.
    """
    try:
        text = read_file(Path(derivation), most=LARGEST_DERIVATION).decode(errors="replace")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{derivation}: cannot be read: {error.strerror}") from error
    found = re.search(rf'\("{VARIABLE}",("(?:[^"\\]|\\.)*")\)', text)
    return _models(parsed_json(found[1]), str(derivation)) if found else ()


def _models(text: str | bytes, where: str) -> tuple[Model, ...]:
    try:
        return tuple(_model(entry) for entry in parsed_json(text)["models"])
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"{where}: is no list of models that this version of fleet reads: {error}",
            hint="services.fleet.models makes it; take modules/models.nix and fleet of one version",
        ) from error


def _model(entry: Any) -> Model:
    words = {key: _word(entry[key]) for key in ("name", "path", "url", "hash", "license")}
    if store_path(words["path"]) is None or not words["path"].endswith(f"-{words['name']}"):
        raise ValueError(f"{words['name']} has the path {words['path']}")
    if not re.match(r"(https?|file)://", words["url"]):
        raise ValueError(f"{words['name']} has the address {words['url']}")
    size, vram = entry["size"], entry["vram"]
    if type(size) is not int or type(vram) not in (int, type(None)):
        raise ValueError(f"{words['name']} has sizes that are no numbers")
    return Model(**words, size=size, vram=vram, is_beside=not entry["inClosure"])


def _word(value: Any) -> str:
    if not isinstance(value, str) or value != shortened(value, 2000):
        raise ValueError("it has something else than words")
    return value


class Models:
    """The models of a run, on this machine. What could not be fetched once is not fetched again."""

    def __init__(self, here: Machine, supply: Supply, folder: Path) -> None:
        """`folder` gets the roots."""
        self._here = here
        self._supply = supply
        self._folder = folder
        self._lost: dict[str, BuildError] = {}

    async def beside(self, closure: Closure, derivation: Derivation) -> Contents:
        """Return the models that are brought beside a system which its host builds itself, as `complete` does."""
        contents = Contents(sizes={}, manifest="")
        return await self._complete(closure, contents, models_of_derivation(derivation))

    async def complete(self, closure: Closure, contents: Contents) -> Contents:
        """Return the contents of a closure with the models beside it, which are in this machine's store then.

        Raise `ConfigError` if there is no room for them here or one is not what the system says, and `BuildError` if
        one cannot be fetched.
        """
        return await self._complete(closure, contents, models_of(closure))

    async def _complete(self, closure: Closure, contents: Contents, models: tuple[Model, ...]) -> Contents:
        beside = [model for model in models if model.is_beside]
        if not models:
            return contents
        there = (
            set((await self._here.run(nix.missing(model.path for model in beside))).stdout.split()) if beside else set()
        )
        lacking = [model for model in beside if model.path in there]
        _require_room_here(lacking)
        for number, model in enumerate(beside):
            root = self._folder / f"model-{closure[11:43]}-{number}"
            await self._fetch(model, root=root, is_there=model not in lacking)
        try:
            infos = await self._supply.infos(model.path for model in beside)
        except (ChangedError, OSError) as error:
            raise ConfigError(f"the models of {closure} cannot be read: {error}") from error
        sizes = {**contents.sizes, **{info.path: info.nar_size for info in infos}}
        return dataclasses.replace(contents, sizes=sizes, models=models)

    async def _fetch(self, model: Model, *, root: Path, is_there: bool) -> None:
        if (lost := self._lost.get(model.path)) is not None:
            raise lost
        try:
            await _fetch(self._here, model, root=root, is_there=is_there)
        except BuildError as error:
            self._lost[model.path] = error
            raise


def _require_room_here(models: Iterable[Model]) -> None:
    need, free = sum(model.size for model in models), shutil.disk_usage(_STORE).free
    if need and need + SPARE > free:
        raise ConfigError(
            f"the models to fetch have {need >> 20} MiB, and {free >> 20} MiB are free on this machine's /nix",
            hint="fleet gc --local frees what nobody needs",
        )


async def _fetch(here: Machine, model: Model, *, root: Path, is_there: bool) -> None:
    """Fetch the model into this machine's store, with a root. One that is there gets the root alone."""
    what = model.path if is_there else await _derivation(here, model)
    done = await here.run(nix.realise([what], root=root))
    if done.status != 0:
        said = tuple(line for line in done.stderr.splitlines() if line.strip())[-10:]
        raise BuildError(f"{model.name} cannot be fetched from {model.url}", said=said)
    made = os.path.realpath(root)  # noqa: ASYNC240 - one readlink
    if made != model.path:
        hint = "take modules/models.nix and fleet of one version"
        raise ConfigError(f"{model.name}: it is {made}, and the system names {model.path}", hint=hint)
    size = os.stat(model.path).st_size  # noqa: PTH116 - of one file
    if size != model.size:
        raise ConfigError(
            f"{model.name} has {size} bytes, and the configuration says {model.size}", hint=f"size = {size};"
        )


async def _derivation(here: Machine, model: Model) -> str:
    words = "; ".join(f"{key} = {nix.quoted(getattr(model, key))}" for key in ("name", "url", "hash"))
    text = f"({expression('fleet.steps', 'model')}) {{ {words}; }}"
    command = Command(argv=("nix-instantiate", "--expr", text), root=False)
    answer = await here.run(command)
    found = answer.stdout.strip()
    if answer.status != 0 or store_path(found) is None:
        said = answer.stderr.splitlines()[-5:]
        raise BuildError(f"{model.name}: Nix makes no derivation of it", said=said)
    return found


async def require_vram(machine: Machine, host: Host, models: Sequence[Model]) -> None:
    """Raise `UnfitError` if the GPUs of the host have less memory than a model needs.

    `CommandFailedError` and the like are raised if the host cannot be asked.
    """
    most = max(models, key=lambda model: model.vram or 0, default=None)
    if most is None or most.vram is None:
        return
    command = Command(argv=("sh", "-c", one_line("fleet.steps", "vram")), timeout=60.0, name="ask the GPUs")
    answer = await machine.run(command)
    if answer.status != 0:
        raise UnfitError(
            host.name,
            f"{most.name} needs {most.vram} MiB on GPUs, and nvidia-smi does not answer",
            hint="deploy the driver first, or leave vram out where no GPU computes it",
        )
    total = sum(whole_number(line) for line in answer.stdout.splitlines())
    if total < most.vram:
        hint = "a smaller model or a smaller quantisation, or another host"
        raise UnfitError(host.name, f"{most.name} needs {most.vram} MiB on GPUs, which have {total} MiB", hint=hint)


def require_no_gate(host: Host, models: Sequence[Model]) -> None:
    """Raise `UnfitError` if the host has a gate, which takes no more than the closure that people have signed."""
    names = [model.name for model in models if model.is_beside]
    if host.gate and names:
        raise UnfitError(
            host.name,
            f"has a gate, and {listed(names, most=3)} would come beside its system",
            hint="inClosure = true makes a model a part of the system",
        )


async def root(machine: Machine, host: Host, paths: Sequence[str]) -> None:
    """Keep these models from the garbage collector of the host, also before they arrive."""
    argv = ("sh", "-c", one_line("fleet.steps", "root-models"), "sh", *paths)
    answer = await machine.run(Command(argv=argv, timeout=60.0))
    if answer.status != 0:
        raise CommandFailedError(
            host.name, "the models cannot be kept from the garbage collector", said=answer.stderr.splitlines()[-5:]
        )


def told(models: Sequence[Model], missing: Iterable[str]) -> str:
    """Return what a plan tells of the models of a host; nothing if it has none."""
    lacking = set(missing)
    comes = [str(model) for model in models if model.path in lacking]
    there = [str(model) for model in models if model.path not in lacking]
    parts = ([f"gets {listed(comes)}"] if comes else []) + ([f"has {listed(there)}"] if there else [])
    return "; ".join(parts)
