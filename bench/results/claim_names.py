"""What the claims' words for methods and models mean: the adapter with its parameters, the model card."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import BadInput, Missing, invalid_fields
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.claims import FOLDER, Claim

FILE = "names.toml"


class Adapter(BaseModel):
    """An adapter and the parameters that a word stands for; other parameters may be anything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    parameters: dict[str, JsonValue] = {}
    bits: str = ""
    """The spec of the cells that measure it, where the claim's widths do not say it: low-rank factors have none. What
    begins with "+" stands behind the claim's widths."""

    def spec(self, claim: Claim) -> str | None:
        """Return the bit spec of the cells that measure a claim, None where it has no whole widths."""
        if self.bits.startswith("+"):
            return claim.bits and f"{claim.bits}{self.bits}"
        return self.bits or claim.bits

    def fits(self, cell: Cell) -> bool:
        """Tell whether a cell measures it."""
        same = all(cell.parameters.get(name) == value for name, value in self.parameters.items())
        return cell.method == self.method and same


class Limit(BaseModel):
    """What adapters cannot do yet, although a suite asks for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: list[str]
    tasks: list[str]
    families: list[str] = []
    """Of models, or wider groups of them; empty for all."""
    why: str

    def holds(self, method: str, task: str, card: ModelCard) -> bool:
        """Tell whether it concerns a method on a model of a task."""
        concerned = not self.families or not {card.family, *card.groups}.isdisjoint(self.families)
        return method in self.methods and task in self.tasks and concerned


class Names(BaseModel):
    """The file: words with a meaning here, and words without one, each with its reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: dict[str, Adapter]
    not_implemented: dict[str, str]
    models: dict[str, dict[str, list[str]]]
    """By task: the cards that a word may mean."""
    no_model: dict[str, str]
    unsupported: list[Limit] = []

    def adapter(self, claim: Claim) -> Adapter | None:
        """Return the adapter of a claim's method, or None where there is none."""
        exact = f"{claim.method}, softmax {claim.softmax_bits} bits"
        return self.methods.get(exact, self.methods.get(claim.method))

    def model(self, claim: Claim, cards: Mapping[str, ModelCard]) -> str | None:
        """Return the model of a claim; of several checkpoints the one whose float score is nearest to the source's."""
        names = [name for name in self._models(claim) if name in cards]
        if claim.fp_value is None or len(names) < 2:
            return names[0] if names else None
        float_score = claim.fp_value
        return min(names, key=lambda name: abs(cards[name].reference[claim.metric] - float_score))

    def limit(self, method: str, task: str, card: ModelCard) -> str:
        """Return why an adapter cannot be measured on a model yet; empty where it can."""
        return next((each.why for each in self.unsupported if each.holds(method, task, card)), "")

    def unknown_words(self, claims: Sequence[Claim]) -> list[str]:
        """Return the methods and models that the file says nothing about, as sentences."""
        methods = {c.method for c in claims if self.adapter(c) is None} - set(self.not_implemented)
        models = {c.model for c in claims if not self._models(c)} - set(self.no_model)
        return [
            *(f'{FILE} says nothing about the method "{word}"' for word in sorted(methods)),
            *(f'{FILE} says nothing about the model "{word}"' for word in sorted(models)),
        ]

    def _models(self, claim: Claim) -> list[str]:
        return self.models.get(claim.task, {}).get(claim.whole_model, [])


def read(folder: Path = FOLDER) -> Names:
    """Return the names that stand beside the claims."""
    path = folder / FILE
    if not path.is_file():
        raise Missing(f"{path} is not there: it says what the claims' names of methods and models mean")
    try:
        return Names.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid TOML: {error}") from None
    except ValidationError as error:
        raise BadInput(f"{path}: {invalid_fields(error)}") from None
