"""A coverage-guided fuzzer (atheris) on what reads hostile bytes in pure Python: flatbuffer, zip tail, contract, all.

    pip install atheris
    python -m tests.edge_runtime.guided_fuzz CORPUS_FOLDER -max_total_time=3600 -timeout=10 -max_len=16384

The folder keeps what reached new code, and is seeded from the fixtures when it is empty. The first byte of a case
says who reads the rest. An exception that is no error of ours, an error that does not say what was found, 10 seconds,
or 2 GB end the run, and the case is written beside it. atheris is no dependency of this checkout: it needs an
environment that has it and Pillow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.fixtures import FIXTURES, MODEL_NAMES

WHERE = "fuzzed"


def read_all(data: bytes) -> None:
    """A whole model file."""
    from edge_runtime.model.model_file import parse_model

    parse_model(data, WHERE)


def walk(data: bytes) -> None:
    """The flatbuffer alone."""
    from edge_runtime.model.flatbuffer import walk_model

    walk_model(data, where=WHERE)


def read_tail(data: bytes) -> None:
    """The zip archive at the tail, every entry of it."""
    from edge_runtime.model.zip_tail import ZipTail

    tail = ZipTail(data, WHERE)
    for name in tail.names:
        tail.read(name)


def read_contract(data: bytes) -> None:
    """The contract's JSON; what is accepted is written and read once more."""
    from edge_runtime.contract import ModelContract

    contract = ModelContract.from_json(data, where=WHERE)
    if ModelContract.from_json(contract.to_json().encode(), where=WHERE) != contract:
        raise AssertionError("a contract does not survive being written and read again")


READERS: tuple[Callable[[bytes], None], ...] = (read_all, walk, read_tail, read_contract)


def check(case: bytes) -> str:
    """Gives a case to its reader; returns `accepted` or the code of our error, and raises everything else."""
    from edge_runtime.errors import EdgeError

    if not case:
        return "accepted"
    try:
        READERS[case[0] % len(READERS)](case[1:])
    except EdgeError as error:
        if not (error.problem and error.found):
            raise AssertionError(f"a refusal that does not say what was found: {error.message}") from error
        return error.code
    return "accepted"


def seeds() -> dict[str, bytes]:
    """A case for every reader from every fixture, by file name."""
    # Not at the top: what it imports of edge_runtime must be instrumented first.
    from tests.fixtures.bad_models import entries_of, flatbuffer_of

    cases = {}
    for name in MODEL_NAMES:
        model = (FIXTURES / name).read_bytes()
        flatbuffer, entries = flatbuffer_of(model), entries_of(model)
        for number, content in enumerate(
            (model, flatbuffer, model[len(flatbuffer) :], entries["edge_contract.json"])
        ):
            cases[f"{name}_{READERS[number].__name__}"] = bytes([number]) + content
    return cases


def main() -> None:
    """Seeds the corpus and runs until a case is wrong or the time is over; arguments are libFuzzer's."""
    import atheris

    with atheris.instrument_imports(include=["edge_runtime"]):
        import edge_runtime.contract
        import edge_runtime.errors
        import edge_runtime.model.model_file  # noqa: F401 - instrumented when it is imported
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for folder in folders[:1]:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            for name, case in seeds().items():
                (folder / name).write_bytes(case)
    atheris.Setup(sys.argv, check_and_forget)
    atheris.Fuzz()


def check_and_forget(case: bytes) -> None:
    """As `check`, in the form that libFuzzer calls."""
    check(case)


if __name__ == "__main__":
    main()
