"""Suites: named lists of cells, one readable TOML file each."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from vitptq.bench import registry
from vitptq.bench.bits import FLOAT, BitSpec
from vitptq.bench.contracts.method import Method
from vitptq.bench.contracts.task import ModelCard, Task
from vitptq.bench.errors import BadInput, UnknownName, VitptqError, brief, invalid_fields
from vitptq.bench.results import paper_settings
from vitptq.bench.results.cell import STANDARD, Cell, Seed, SetSize, canonical_json, sha256
from vitptq.bench.results.paper_settings import PUBLISHED
from vitptq.bench.source_hash import source_hash

FOLDER = Path(__file__).resolve().parents[1] / "suites"
FILTERS = ("task", "edition", "model", "family", "method", "bits", "track", "seed", "calibration_size", "id")
AtLeastOne = Annotated[list[str], Field(min_length=1)]


class Group(BaseModel):
    """One block of a suite: every combination of its lists is a cell."""

    model_config = ConfigDict(extra="forbid")

    task: str
    edition: str
    models: AtLeastOne
    methods: AtLeastOne
    bits: AtLeastOne
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    track: str = STANDARD
    calibration_size: SetSize = 32
    parameters: dict[str, JsonValue] = {}
    paper: str = ""
    """The paper whose own settings the cells have, on the track "published"; what the group says beside it stays."""

    @field_validator("parameters")
    @classmethod
    def _no_parameter_is_nan(cls, parameters: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name, value in parameters.items():
            try:
                canonical_json(value)
            except ValueError:  # JSON has no word for it, and a cell's identity is JSON
                raise ValueError(f"{name} = {value} is no finite number") from None
        return parameters


class Suite(BaseModel):
    """A suite file: what it is for, its groups, and the suites whose cells belong to it."""

    model_config = ConfigDict(extra="forbid")

    title: str
    include: list[str] = []
    cells: list[Group] = []

    @model_validator(mode="after")
    def _has_cells(self) -> Suite:
        if not self.cells and not self.include:
            raise ValueError("no [[cells]] and nothing to include")
        return self


def names() -> dict[str, str]:
    """Return the suites that ship with the project, with their titles; those of papers are called papers/NAME."""
    paths = [*sorted(FOLDER.glob("*.toml")), *sorted((FOLDER / "papers").glob("*.toml"))]
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): _read(path).title for path in paths}


def path_of(name: str) -> Path:
    """Return the file of a suite, given by name or as a path to a TOML file."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UnknownName("suite", name, names())
    return path


def load(name: str, methods: Sequence[str] = ()) -> list[Cell]:
    """Return the cells of a suite, given by name or as a path to a TOML file. The float cells come first.

    `methods`, names or files, replace the methods that the suite lists.
    """
    groups = [group for path in files_of(name) for group in _read(path).cells]
    if methods:
        # parameters belong to the methods that their group lists, and so do a paper's settings
        plain = [g for g in groups if not (g.parameters or g.paper) or set(methods) <= set(g.methods)]
        groups = [_with_methods(group, methods) for group in plain]
    told = Told()
    cells = [cell for group in groups for cell in expand(group, told)]
    return sorted(_unique(cells, name), key=lambda cell: not cell.is_float)


def files_of(name: str, within: tuple[Path, ...] = ()) -> list[Path]:
    """Return the file of a suite, and those of the suites that it includes."""
    path = path_of(name)
    if path in within:
        raise BadInput(f"suite {path} includes itself, by way of {within[-1]}: take it out of one of the two")
    return [path, *(file for other in _read(path).include for file in files_of(other, (*within, path)))]


def _unique(cells: Sequence[Cell], suite: str) -> list[Cell]:
    """Return each cell once, as groups may overlap; two settings for what runs once are an error."""
    found: dict[str, Cell] = {}
    for cell in cells:
        first = found.setdefault(cell.id, cell)
        if first.run_time != cell.run_time:
            raise BadInput(
                f"suite {suite} asks for {cell.label()} with {canonical_json(first.run_time)} and again with "
                f"{canonical_json(cell.run_time)}, which is the same cell: give it one of them"
            )
    return list(found.values())


def _with_methods(group: Group, methods: Sequence[str]) -> Group:
    """Return the group with other methods; one that only measures the float model stays.

    Specs of an own category are for the methods of that category alone, and all others for the rest.
    """
    if all(registry.method(name).category == "float" for name in group.methods):
        return group
    asked = {BitSpec.parse(bits).category for bits in group.bits}
    fitting = [name for name in methods if _own_category(registry.method(name)) in asked]
    return group.model_copy(update={"methods": fitting})


def _own_category(cls: type[Method]) -> str:
    return cls.category if cls.category in ("low-rank", "float-branch") else ""


def calibration_hash(task: Task, size: int, seed: int) -> str:
    """Return the hash of the published list of these calibration images."""
    return sha256(canonical_json(list(task.calibration_names(size, seed))).encode())


class Told:
    """What tasks say of their models and calibration lists: each is asked once, for any number of cells."""

    def __init__(self) -> None:
        self._models: dict[Task, Mapping[str, ModelCard]] = {}
        self._lists: dict[tuple[Task, int, int], str] = {}

    def models(self, task: Task) -> Mapping[str, ModelCard]:
        """Return the task's models by name."""
        if task not in self._models:
            self._models[task] = task.models()
        return self._models[task]

    def calibration_list(self, task: Task, size: int, seed: int) -> str:
        """Return the hash of a calibration list; empty where it is of no images."""
        key = (task, size, seed)
        if size and key not in self._lists:
            self._lists[key] = calibration_hash(task, size, seed)
        return self._lists[key] if size else ""


def expand(group: Group, told: Told | None = None) -> list[Cell]:
    """Return the cells of a group, the float cell of each of its models included."""
    task = registry.task(group.task, group.edition)
    told = told or Told()
    known = told.models(task)
    cells = []
    for model in group.models:
        if model not in known:
            raise UnknownName(f"model of {group.task}/{group.edition}", model, known)
        cells.append(float_cell(task, model))
        for name, bits in itertools.product(group.methods, group.bits):
            cls = registry.method(name)
            if cls.category == "float":
                continue
            spec = BitSpec.parse(bits)
            if spec.is_float:
                raise BadInput(f'{bits} quantises nothing; the float model is the method "float"')
            _refuse_other_category(cls, spec)
            asked = _with_paper(group, name, bits)
            method = cls.configured(asked.parameters)
            cells += [cell_of(task, known[model], method, spec, asked, seed, told) for seed in group.seeds]
    return cells


def _refuse_other_category(cls: type[Method], bits: BitSpec) -> None:
    """Low-rank methods are asked for fewer parameters, those that add branches for branches, all others for neither."""
    low_rank, branch = cls.category == "low-rank", cls.category == "float-branch"
    if low_rank and not bits.removed:
        raise BadInput(f"{cls.name} at {bits}: name the percentage of parameters to remove, such as {bits}+lowrank60")
    if bits.removed and not low_rank:
        raise BadInput(f"{cls.name} at {bits}: it makes no low-rank factors; give it {bits.dense}")
    if branch and not bits.branch:
        raise BadInput(f"{cls.name} at {bits}: it adds float side branches; give it {replace(bits, branch=True)}")
    if bits.branch and not branch:
        raise BadInput(f"{cls.name} at {bits}: it has no float side branches; give it {bits.plain}")


def _with_paper(group: Group, method: str, bits: str) -> Group:
    """Return the group with what its paper says about one method at one width; what the group says itself stays."""
    if not group.paper:
        return group
    published = paper_settings.settings(group.paper, group.task, method, bits)
    changes: dict[str, object] = {"track": PUBLISHED, "parameters": published.parameters | group.parameters}
    if "calibration_size" not in group.model_fields_set:
        changes["calibration_size"] = published.calibration_size
    return group.model_copy(update=changes)


def float_cell(task: Task, model: str) -> Cell:
    """Return the cell of the float model; it has no calibration and one seed."""
    method = registry.method("float")
    return Cell(
        task=task.name, edition=task.edition, data=task.data_version, model=model,
        checkpoint=task.models()[model].checkpoint, method=method.name, source=source_hash(method),
        parameters={}, bits=str(FLOAT), track=STANDARD, seed=0, calibration_size=0, calibration_list="",
    )  # fmt: skip


def cell_of(
    task: Task, card: ModelCard, method: Method, bits: BitSpec, group: Group, seed: int, told: Told
) -> Cell:  # fmt: skip
    """Return one quantised cell. A data-free method has no calibration list."""
    size = 0 if method.category == "data-free" else group.calibration_size
    identity = method.identity_parameters()
    return Cell(
        task=task.name, edition=task.edition, data=task.data_version, model=card.name,
        checkpoint=card.checkpoint, method=method.name, source=source_hash(type(method)),
        parameters=identity, bits=str(bits), track=group.track, seed=seed, calibration_size=size,
        calibration_list=told.calibration_list(task, size, seed),
        run_time={name: value for name, value in method.parameters().items() if name not in identity},
    )  # fmt: skip


def select(cells: Iterable[Cell], only: Sequence[str], place: str = "this suite") -> list[Cell]:
    """Return the cells that match every KEY=VALUE; several values of one key are separated by commas.

    The float cell of a selected quantised cell is selected with it: the gate needs it. `place` says in an error what
    the cells are of.
    """
    wanted = [_parse_filter(text) for text in only]
    cells = list(cells)
    for key, values in wanted:
        for value in sorted(values):
            if not any(_matches(cell, key, {value}) for cell in cells):
                known = {name for cell in cells for name in _values(cell, key)}
                raise UnknownName(f"{key} in {place}", value, known)
    kept = [cell for cell in cells if all(_matches(cell, key, values) for key, values in wanted)]
    if not kept:
        raise BadInput(f"no cell of {place} matches {' '.join(only)}; leave a filter out to see them")
    models = {(cell.task, cell.edition, cell.model) for cell in kept}
    ids = {cell.id for cell in kept}
    return [c for c in cells if c.id in ids or (c.is_float and (c.task, c.edition, c.model) in models)]


def shard(cells: Iterable[Cell], text: str) -> list[Cell]:
    """Return part I of N ("I/N", counted from 1): split by hash, so that the parts do not depend on the order."""
    try:
        part, parts = (int(number) for number in text.split("/"))
    except ValueError:
        part, parts = 0, 0
    if not 1 <= part <= parts:
        raise BadInput(f'shard "{text}" is not I/N with 1 <= I <= N, for example 1/2')
    return [cell for cell in cells if int(cell.id[:16], 16) % parts == part - 1]


def _read(path: Path) -> Suite:
    try:
        return Suite.model_validate(tomllib.loads(path.read_bytes().decode()))
    except OSError as error:
        raise BadInput(f"suite {brief(path, 400)} cannot be read: {error.strerror}; name a TOML file") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"suite {path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except RecursionError:
        raise BadInput(f"suite {path} is nested too deeply; see bench/suites/quick.toml for the form") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"suite {path} is not valid TOML: {error}") from None
    except ValidationError as error:
        raise BadInput(f"suite {path}: {invalid_fields(error)}") from None


def _parse_filter(text: str) -> tuple[str, set[str]]:
    key, separator, value = text.partition("=")
    if not separator:
        raise BadInput(f'filter "{text}" is not KEY=VALUE; keys: {", ".join(FILTERS)}')
    if key not in FILTERS:
        raise UnknownName("filter key", key, FILTERS)
    values = value.split(",")
    if not all(values):
        raise BadInput(f'filter "{text}" has an empty value; give values as {key}=VALUE[,VALUE]')
    return key, {_in_one_spelling(each) if key == "bits" else each for each in values}


def _in_one_spelling(bits: str) -> str:
    """Return a bit spec as cells spell it; what is none is looked up as it stands, and not found."""
    try:
        return str(BitSpec.parse(bits))
    except VitptqError:
        return bits


def _matches(cell: Cell, key: str, values: set[str]) -> bool:
    if key == "id":
        return any(cell.id.startswith(value) for value in values)
    return not values.isdisjoint(_values(cell, key))


def _values(cell: Cell, key: str) -> tuple[str, ...]:
    """Return what a filter may call the cell's `key`: one name, but for families."""
    if key == "family":
        card = registry.task(cell.task, cell.edition).models()[cell.model]
        return (card.family, *card.groups)
    return (str(getattr(cell, key)),)
