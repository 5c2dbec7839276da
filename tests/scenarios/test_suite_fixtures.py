"""Every fixture that a test of the catalogue asks for is there: else that check would only break down in the run itself."""

import ast
from pathlib import Path

import pytest

import scenarios
from scenarios.catalogue import PROFILES
from scenarios.suite import fault_fixtures, fixtures, load_fixtures, trial_fixtures

CATALOGUE = sorted(Path(scenarios.__file__).parent.glob("test_*.py"))
MODULES = (fixtures, fault_fixtures, load_fixtures, trial_fixtures)
THERE = {name for module in MODULES for name, value in vars(module).items() if "pytest_fixture" in str(type(value)).lower()
         or type(value).__name__ == "FixtureFunctionDefinition"}  # fmt: skip
PYTESTS_OWN = {"request", "vip"}  # and what pytest_generate_tests gives


def asked_for(file: Path) -> set[str]:
    tests = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    return {argument.arg for test in tests if test.name.startswith("test_") for argument in test.args.args}


@pytest.mark.parametrize("file", CATALOGUE, ids=lambda file: file.stem)
def test_what_the_tests_of_the_catalogue_ask_for_is_there(file: Path) -> None:
    asked = asked_for(file)
    assert asked
    assert asked - THERE - PYTESTS_OWN == set()


def test_what_a_profile_breaks_or_loads_is_there() -> None:
    assert {name for profile in PROFILES.values() for name in profile.trials} <= THERE
