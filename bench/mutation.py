"""`python -m bench.mutation [file ...]`: measures whether the tests notice changes of the engine.

It works on a copy of `batching/engine`. Each mutant changes one expression of one function, and is
killed if a test fails or hangs. Exits with status 1 if a mutant survives that `bench.equivalents`
does not explain.
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.equivalents import find_reason
from bench.processes import ROOT
from bench.tables import print_note, print_table

ENGINE = Path("batching/engine")
FILES = [
    "planner",
    "splitter",
    "prompt",
    "runner",
    "call",
    "retries",
    "slots",
    "breaker",
    "leaks",
    "capacity",
    "usage",
    "lanes",
    "dispatcher",
]
# Examples of each property test: few, so that a run takes minutes.
EXAMPLES = 25
WORKERS = 2
SURVIVED = ("survived", "no tests")
CONFIGURATION = """
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
[tool.mutmut]
source_paths = ["batching"]
only_mutate = {files}
pytest_add_cli_args_test_selection = ["batching/engine/tests"]
pytest_add_cli_args = ["-p", "no:randomly", "-p", "no:django"]
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`name` is the name that mutmut uses; it begins with the path of the module."""

    name: str
    status: str

    @property
    def file(self) -> str:
        return self.name.split(".")[2]


@dataclass(frozen=True, slots=True)
class Survivor:
    file: str
    old: str
    new: str
    reason: str | None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mutation", description=__doc__)
    parser.add_argument("file", nargs="*", help=f"one of {', '.join(FILES)}; default: all of them")
    files = parser.parse_args().file or FILES
    if unknown := [name for name in files if name not in FILES]:
        sys.exit(f"There is no file {unknown[0]!r}; there are {', '.join(FILES)}.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_engine(folder, files)
        run_mutmut(folder, "run", "--max-children", str(WORKERS))
        mutants = list_mutants(folder)
        survived = [mutant for mutant in mutants if mutant.status in SURVIVED]
        with ThreadPoolExecutor(WORKERS) as pool:
            survivors = list(pool.map(lambda mutant: describe_survivor(folder, mutant), survived))
    print_shares(mutants, survivors)
    print_survivors(survivors)
    sys.exit(any(survivor.reason is None for survivor in survivors))


def copy_engine(folder: Path, files: list[str]) -> None:
    """Copies only the engine and its tests, because workers start faster without Django."""
    shutil.copytree(ROOT / ENGINE, folder / ENGINE, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "batching/__init__.py").touch()
    for test in (folder / ENGINE / "tests").glob("*.py"):
        test.write_text(re.sub(r"max_examples=\d+", f"max_examples={EXAMPLES}", test.read_text()))
    for name in files:
        source = folder / ENGINE / f"{name}.py"
        source.write_text(unfold_properties(source.read_text()))
    paths = [str(ENGINE / f"{name}.py") for name in files]
    (folder / "pyproject.toml").write_text(CONFIGURATION.format(files=paths))


def unfold_properties(source: str) -> str:
    """Replaces the decorator `@property` by a call, because mutmut skips decorated functions."""
    lines = source.splitlines()
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    for function in sorted(functions, key=lambda node: -node.lineno):
        if [ast.unparse(decorator) for decorator in function.decorator_list] != ["property"]:
            continue
        name, indent = function.name, " " * function.col_offset
        lines.insert(function.end_lineno, f"{indent}{name} = property(get_{name})")
        definition = lines[function.lineno - 1]
        lines[function.lineno - 1] = definition.replace(f"def {name}(", f"def get_{name}(")
        del lines[function.lineno - 2]
    return "\n".join(lines) + "\n"


def run_mutmut(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"mutmut failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def list_mutants(folder: Path) -> list[Mutant]:
    lines = run_mutmut(folder, "results", "--all", "true").splitlines()
    pairs = [line.strip().rsplit(": ", 1) for line in lines if "__mutmut_" in line]
    return [Mutant(name, status) for name, status in pairs]


def describe_survivor(folder: Path, mutant: Mutant) -> Survivor:
    diff = run_mutmut(folder, "show", mutant.name).splitlines()
    old = [line[1:].strip() for line in diff if re.match(r"-(?!--)", line)]
    new = [line[1:].strip() for line in diff if re.match(r"\+(?!\+\+)", line)]
    before, after = " ".join(old), " ".join(new)
    return Survivor(mutant.file, before, after, find_reason(mutant.file, before, after))


def print_shares(mutants: list[Mutant], survivors: list[Survivor]) -> None:
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in mutants:
        statuses[mutant.file][mutant.status] += 1
    equivalent = Counter(survivor.file for survivor in survivors if survivor.reason)
    rows = [[f"{file}.py", *_describe(statuses[file], equivalent[file])] for file in statuses]
    total = sum(statuses.values(), Counter())
    rows.append(["**all**", *_describe(total, equivalent.total())])
    header = ["file", "mutants", "killed", "share", "survived", "equivalent", "share of rest"]
    print_table("Mutants of batching/engine", header, rows)


def _describe(statuses: Counter[str], equivalent: int) -> list[object]:
    total, survived = statuses.total(), sum(statuses[status] for status in SURVIVED)
    killed = total - survived
    shares = [f"{killed / number:.1%}" for number in (total, total - equivalent)]
    return [total, killed, shares[0], survived, equivalent, shares[1]]


def print_survivors(survivors: list[Survivor]) -> None:
    groups: dict[tuple[str, str], list[Survivor]] = defaultdict(list)
    for survivor in survivors:
        if survivor.reason:
            groups[survivor.file, survivor.reason].append(survivor)
    print_table(
        "Equivalent mutants",
        ["file", "mutants", "why no test can notice it"],
        [[f"{file}.py", len(group), reason] for (file, reason), group in groups.items()],
    )
    for survivor in survivors:
        if survivor.reason is None:
            print_note(f"{survivor.file}.py survived:\n- {survivor.old}\n+ {survivor.new}")


if __name__ == "__main__":
    main()
