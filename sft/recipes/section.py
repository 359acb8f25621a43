"""What all sections of a recipe have in common, and the kinds of values that several of them hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sft.recipes.complaints import Complaint

__all__ = ["Count", "Section", "Text"]

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Section(BaseModel):
    """What all sections have in common: no key that is not known, no value that must first be converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    @property
    def further(self) -> Mapping[str, Any]:
        """The keys that are handed on unmodelled."""
        return self.model_extra or {}

    def _rules(self) -> Iterator[Complaint]:
        """What is wrong between keys, each complaint at a location within this section."""
        yield from ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        given = {key for key in self.model_fields_set if getattr(self, key) is not None}
        found = [complaint for complaint in self._rules() if not complaint.idle or complaint.loc[0] in given]
        if found:
            text = " | ".join(f"{'.'.join(c.loc)} {c.message}; {c.remedy}" for c in found)
            # Raised as one, so that pydantic hands all of them on; ``loading`` takes them apart again.
            raise PydanticCustomError("recipe", "{text}", {"text": text, "complaints": found})
        return self
