"""Who may import whom, read from the sources: the one statement of that law, and its checker. stdlib only.

The checker parses files and executes none. It sees `import`, `from ... import` (absolute and relative, at any depth,
under `if TYPE_CHECKING` too) and `importlib.import_module` or `__import__` with a literal name. A dynamic import whose
name cannot be read is itself a violation, unless DYNAMIC says why a file may have it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

EVERYTHING = frozenset({"*"})
TENSORFLOW = frozenset({"keras", "tensorboard", "tensorflow", "tensorflow_model_optimization", "tf_keras"})


@dataclass(frozen=True)
class Law:
    """What the files below one path may import."""

    first_party: Mapping[str, frozenset[str]]
    """Package to the modules of it that may be imported; EVERYTHING for all of it."""
    third_party: frozenset[str]
    """Top-level names outside the standard library."""
    lazily: frozenset[str] = field(default_factory=frozenset)
    """Those that may be imported inside functions only: importing the module must stay cheap and safe."""


_EDGE = {"edge_runtime": EVERYTHING}
_EDGE_FOR_TRAIN = frozenset({"contract", "errors", "files", "images.preprocess"})
_EDGE_FOR_CONVERT = frozenset(
    {
        "classifier",
        "contract",
        "diagnostics.parity",
        "diagnostics.self_check",
        "engines",
        "errors",
        "images.preprocess",
        "model",
        "result",
        "runner",
    }
)
# The parts of `train` that conversion shares. All of them are free of TensorFlow.
_TRAIN_FOR_CONVERT = frozenset({"artifacts", "data.pixels", "data.sampling", "evaluation", "reports"})
_SCIENCE = frozenset({"PIL", "numpy", "pandas", "scipy", "sklearn", "tqdm"})
# For a machine with a GPU and without TensorFlow; PyTorch is no dependency: whoever has such a machine has it.
_BY_TORCH = Law({"train": EVERYTHING, "edge_runtime": _EDGE_FOR_TRAIN}, frozenset({"numpy", "torch"}))


def _train(*packages: str, tensorflow: bool = False) -> Law:
    """A package of `train`: what it may import of `train`, and whether it may import TensorFlow."""
    return Law(
        {"train": frozenset(packages), "edge_runtime": _EDGE_FOR_TRAIN},
        _SCIENCE | (TENSORFLOW if tensorflow else frozenset()),
    )


_LOW = ("artifacts", "configs", "data", "evaluation")
_MODELS = (*_LOW, "networks", "training")
_PAGES = ("artifacts", "configs", "data", "evaluation", "reports")

# The longest matching path rules: the import table of CONTRIBUTING.md.
LAWS: Mapping[str, Law] = {
    "edge_runtime": Law(_EDGE, frozenset({"PIL"})),
    "edge_runtime/images/formats.py": Law(
        _EDGE, frozenset({"PIL", "pillow_heif"}), lazily=frozenset({"pillow_heif"})
    ),
    "edge_runtime/model/signature.py": Law(
        _EDGE, frozenset({"cryptography"}), lazily=frozenset({"cryptography"})
    ),
    "edge_runtime/contract.py": Law(_EDGE, frozenset()),
    "edge_runtime/errors.py": Law(_EDGE, frozenset()),
    "edge_runtime/model": Law(_EDGE, frozenset()),
    "edge_runtime/engines": Law(
        _EDGE,
        frozenset({"PIL", "ai_edge_litert", "numpy", "tflite_runtime"}),
        lazily=frozenset({"ai_edge_litert", "numpy", "tflite_runtime"}),
    ),
    "convert": Law(
        {"convert": EVERYTHING, "edge_runtime": _EDGE_FOR_CONVERT, "train": _TRAIN_FOR_CONVERT},
        TENSORFLOW | _SCIENCE | {"flatbuffers"},
    ),
    # Runs LiteRT's kernel sets one by one, which no device has to choose among: not a part of edge_runtime.engines.
    "convert/tflite/kernel_probe.py": Law(
        {"edge_runtime": _EDGE_FOR_CONVERT},
        frozenset({"ai_edge_litert", "numpy"}),
        lazily=frozenset({"ai_edge_litert"}),
    ),
    "train": _train(*_MODELS, "reports", "taxonomy", "dossier", tensorflow=True),
    "train/artifacts": _train("artifacts"),
    # How a command ends is known before anything heavy is imported, in `convert` too.
    "train/artifacts/command.py": Law({"edge_runtime": frozenset({"errors"})}, frozenset()),
    "train/artifacts/keras_file.py": Law(
        {"train": frozenset({"artifacts"}), "edge_runtime": _EDGE_FOR_TRAIN},
        frozenset({"tf_keras"}),
        lazily=frozenset({"tf_keras"}),
    ),
    "train/configs": Law(
        {"train": frozenset({"artifacts", "configs"}), "edge_runtime": _EDGE_FOR_TRAIN},
        frozenset({"pydantic"}),
    ),
    "train/data": _train("artifacts", "configs", "data", "evaluation.metrics"),
    # The sample photo of `make demo` is drawn with what the runtime's lock installs.
    "train/data/synthetic/dataset.py": Law(
        {"train": frozenset({"artifacts", "data"}), "edge_runtime": _EDGE_FOR_TRAIN},
        frozenset({"numpy", "PIL"}),
    ),
    "train/evaluation": _train("artifacts", "configs", "data", "evaluation", tensorflow=True),
    "train/evaluation/metrics.py": Law({}, frozenset({"numpy", "sklearn"})),
    "train/networks": _train("configs", "data", "networks", tensorflow=True),
    "train/training": _train(*_MODELS, tensorflow=True),
    "train/reports": _train(*_PAGES),
    "train/reports/html.py": Law(
        {"train": frozenset(_PAGES), "edge_runtime": _EDGE_FOR_TRAIN},
        frozenset({"PIL", "jinja2", "markupsafe"}),
    ),
    "train/taxonomy": _train("artifacts", "evaluation.metrics", "taxonomy"),
    "train/dossier": _train(*_PAGES, "taxonomy", "dossier"),
    "train/experiments": Law({"train": EVERYTHING, "edge_runtime": _EDGE_FOR_TRAIN}, TENSORFLOW | _SCIENCE),
    "train/experiments/torch": _BY_TORCH,
    "tests": Law(
        dict.fromkeys(("tests", "edge_runtime", "convert", "train", "dermedge"), EVERYTHING),
        TENSORFLOW
        | _SCIENCE
        | {"_pytest", "ai_edge_litert", "flatbuffers", "pytest", "tflite_runtime"}
        | {"cryptography", "pillow_heif"},
    ),
    "tests/train/torch_side.py": Law(
        {"tests": EVERYTHING, "train": EVERYTHING}, frozenset({"PIL", "numpy", "torch"})
    ),
    # atheris is no dependency: whoever runs the guided fuzzer brings it.
    "tests/edge_runtime/guided_fuzz.py": Law(
        {"tests": EVERYTHING, "edge_runtime": EVERYTHING},
        frozenset({"atheris"}),
        lazily=frozenset({"atheris"}),
    ),
}

PACKAGES = ("edge_runtime", "convert", "train", "tests")

# Files whose dynamic imports have names that only run time knows, and why.
DYNAMIC: Mapping[str, str] = {
    "edge_runtime/_startup/process.py": "imports in a thread what its caller, in this package, names",
    "edge_runtime/__init__.py": "loads its exported names from its own modules when they are first used",
}


@dataclass(frozen=True)
class Import:
    """One imported name, as written at one place."""

    module: str
    """Dotted and absolute: `edge_runtime.contract`; "" when a dynamic import's name cannot be read."""
    line: int
    at_import: bool
    """Runs when the file is imported, not later in a function."""
    typing_only: bool = False
    """Stands in a block that only type checkers see."""


def imports_of(source: str, module_path: PurePosixPath) -> Iterator[Import]:
    """Every import of one file.

    Args:
        source: Its text.
        module_path: Relative to the repository, to resolve relative imports: `train/data/split.py`.

    Yields:
        For `from a import b` the module `a.b`: whether b is a submodule or a name inside a, the law is about a's parts.
    """
    yield from _walk(ast.parse(source), module_path, at_import=True)


def _walk(
    node: ast.AST, module_path: PurePosixPath, *, at_import: bool, typing_only: bool = False
) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, at_import, typing_only)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, module_path)
        for alias in node.names:
            yield Import(f"{base}.{alias.name}" if base else alias.name, node.lineno, at_import, typing_only)
    elif isinstance(node, ast.Call) and _is_dynamic_import(node.func):
        name = node.args[0] if node.args else None
        literal = isinstance(name, ast.Constant) and isinstance(name.value, str)
        yield Import(name.value if literal else "", node.lineno, at_import, typing_only)
    later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for_types = (
        isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    for child in ast.iter_child_nodes(node):
        yield from _walk(
            child,
            module_path,
            at_import=at_import and not later and not for_types,
            # What stands under `else` runs.
            typing_only=typing_only or (for_types and child not in getattr(node, "orelse", [])),
        )


def _absolute(node: ast.ImportFrom, module_path: PurePosixPath) -> str:
    if not node.level:
        return node.module or ""
    # One dot is the file's own package, each further dot its parent.
    package = module_path.parts[: len(module_path.parts) - node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _is_dynamic_import(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in ("__import__", "import_module")
    return isinstance(function, ast.Attribute) and function.attr in ("import_module", "__import__")


def law_of(module_path: PurePosixPath) -> Law:
    """The law of the longest matching path."""
    candidates = [str(module_path), *map(str, module_path.parents)]
    return next(LAWS[path] for path in candidates if path in LAWS)


def violations_in(source: str, module_path: PurePosixPath) -> list[str]:
    """One line for each import that the law forbids: `path:line: what`."""
    law = law_of(module_path)
    found = []
    for one in imports_of(source, module_path):
        problem = _problem(one, law, module_path)
        if problem:
            found.append(f"{module_path}:{one.line}: {problem}")
    return found


def _problem(one: Import, law: Law, module_path: PurePosixPath) -> str | None:
    top, _, rest = one.module.partition(".")
    if not one.module:
        return None if str(module_path) in DYNAMIC else "a dynamic import whose name cannot be read"
    if top in PACKAGES or top in ("android_sample", "dermedge"):
        allowed = law.first_party.get(top, frozenset())
        if allowed == EVERYTHING:
            return None
        if any(rest == part or rest.startswith(f"{part}.") for part in allowed):
            return None
        return f"may not import {one.module}" + (
            f" (of {top} only {', '.join(sorted(allowed))})" if allowed else ""
        )
    if top in sys.stdlib_module_names:
        return None
    if top not in law.third_party:
        return f"may not import {one.module}"
    if one.at_import and top in law.lazily:
        return f"may import {one.module} inside functions only"
    return None


def violations(repository: Path, packages: tuple[str, ...] = PACKAGES) -> list[str]:
    """All violations of all packages, in order of path."""
    found = []
    for package in packages:
        for path in sorted((repository / package).rglob("*.py")):
            relative = PurePosixPath(path.relative_to(repository).as_posix())
            found += violations_in(path.read_text(encoding="utf-8"), relative)
    return found


def circles(repository: Path, packages: tuple[str, ...] = PACKAGES) -> list[list[str]]:
    """Groups of files that import each other in a loop, at import or later in functions; types do not count.

    Args:
        repository: The root of a checkout.
        packages: Its top-level folders to read.

    Returns:
        Each loop as the sorted paths of its files: the strongly connected components of two or more files, and files
        that import themselves.
    """
    graph = {}
    for package in packages:
        for path in sorted((repository / package).rglob("*.py")):
            relative = PurePosixPath(path.relative_to(repository).as_posix())
            imports = imports_of(path.read_text(encoding="utf-8"), relative)
            found = {_file_of(one.module, repository) for one in imports if not one.typing_only}
            graph[str(relative)] = sorted(found - {None, ""})
    return _components(graph)


def _file_of(module: str, repository: Path) -> str:
    """The file that holds an imported name: of `a.b.c` a/b/c.py, a/b/c/__init__.py or those of a.b; "" of others."""
    parts = module.split(".")
    for end in (len(parts), len(parts) - 1):
        stem = "/".join(parts[:end])
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if stem and (repository / candidate).is_file():
                return candidate
    return ""


def _components(graph: Mapping[str, list[str]]) -> list[list[str]]:
    """Tarjan's strongly connected components that hold a loop."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    loops: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, []):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1 or node in graph.get(node, []):
                loops.append(sorted(members))

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(loops)
