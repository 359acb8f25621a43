"""The bounds of ``pyproject.toml``: versions that can be installed, held by what is tested, and addresses of ours."""

from __future__ import annotations

import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = [
    Requirement(line)
    for line in (
        *PROJECT["dependencies"],
        *(one for lines in PROJECT["optional-dependencies"].values() for one in lines),
    )
]
NAMES = {canonicalize_name(one.name) for one in OURS}
PINS = {
    canonicalize_name(name): Version(version)
    for name, _, version in (
        line.partition("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
}


def lowest(requirement: Requirement) -> Version:
    """The version that a requirement names as its least."""
    return max((Version(one.version) for one in requirement.specifier if one.operator == ">="), default=Version("0"))


def demanded(name: str) -> dict[str, Version]:
    """What the libraries we name demand of ``name`` at least, as installed here."""
    found: dict[str, Version] = {}
    for each in metadata.distributions():
        if canonicalize_name(each.name) not in NAMES:
            continue
        for line in each.requires or ():
            theirs = Requirement(line)
            if canonicalize_name(theirs.name) == name and (
                theirs.marker is None or theirs.marker.evaluate({"extra": ""})
            ):
                found[f"{each.name} {each.version}"] = lowest(theirs)
    return found


@pytest.mark.parametrize("requirement", OURS, ids=lambda one: one.name)
def test_a_bound_is_one_that_can_be_had(requirement: Requirement) -> None:
    """``safetensors>=0.6`` named a version that was never released, and one that transformers would not have taken.

    The index is not asked here; a bound is held to what the other libraries demand, and to what constraints.txt pins.
    """
    name = canonicalize_name(requirement.name)
    short = {who: least for who, least in demanded(name).items() if least > lowest(requirement)}
    assert not short
    if name in PINS:
        assert requirement.specifier.contains(PINS[name])


def test_every_bound_but_of_the_optional_is_pinned() -> None:
    optional = {"bitsandbytes"}
    assert NAMES - set(PINS) <= optional


def test_no_address_is_claimed_that_is_not_ours() -> None:
    """The project's page named a repository that nobody owns: whoever registers it would speak for us."""
    assert "urls" not in PROJECT
