"""The layers, enforced. See the tree in README.md."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "rlhf_core"
LAYERS = [
    {"vocabulary", "errors", "clock"},
    {
        "config",
        "artifacts",
        "training",
        "examples",
        "checkpoints",
        "agreement",
        "pretrained",
        "client",
        "freed_memory",
    },
    {"store", "encoder"},
    {"accounts", "rewards", "policies"},
    {"privacy"},
    {"feedback", "dataset", "analytics", "registry"},
    {"alerts", "release", "interchange", "demo", "queues"},
    {"serving", "gates"},
    {"jobs"},
    {"api", "cli", "__main__"},
]
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units}
FORBIDDEN = {"rewards": {"store", "accounts"}, "policies": {"store", "accounts"}}
HEAVY = {
    "torch", "transformers", "trl", "sentence_transformers", "sklearn", "datasets", "peft",
    "scipy", "skops", "pandas", "pyarrow", "streamlit", "plotly",
}  # fmt: skip
SERVICES = [
    "accounts", "privacy", "feedback", "queues", "dataset", "registry", "alerts", "release",
    "gates", "jobs",
]  # fmt: skip
WRITING_VERBS = (
    "create_", "submit_", "register_", "enqueue_", "set_", "promote_", "roll_back_", "withdraw_",
    "revoke_", "erase_", "cancel_", "retry_", "freeze_", "delete_", "undo_", "restore_",
)  # fmt: skip
LIMIT_LINES = 400


def modules_of(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def unit_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module or "", node.lineno
            if node.module == "rlhf_core":
                yield from ((f"rlhf_core.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)


def test_every_unit_has_a_layer() -> None:
    units = {unit_of(path) for path in modules_of(CORE)} - {"__init__"}
    assert units <= set(LEVEL), f"give a layer to {units - set(LEVEL)}"


def test_imports_point_down() -> None:
    wrong = []
    for path in modules_of(CORE):
        unit = unit_of(path)
        for name, line in imports_of(path):
            parts = name.split(".")
            if parts[0] != "rlhf_core" or len(parts) < 2 or unit == "__init__":
                continue
            target = parts[1]
            if target == unit:
                continue
            up = LEVEL[target] >= LEVEL[unit] and not (unit == "__main__" and target == "cli")
            if up or target in FORBIDDEN.get(unit, set()):
                wrong.append(f"{path.relative_to(ROOT)}:{line} ({unit}) imports {target}")
    assert not wrong, "\n".join(wrong)


def test_pages_know_no_database_and_no_torch() -> None:
    wrong = []
    for path in [ROOT / "app.py", ROOT / "server.py", *modules_of(ROOT / "pages")]:
        for name, line in imports_of(path):
            if name.split(".")[0] in {"sqlalchemy", "torch", "transformers", "psycopg"}:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_page_lies_directly_in_pages() -> None:
    assert [path.name for path in (ROOT / "pages").glob("*.py")] == ["__init__.py"]


def test_every_page_calls_the_guard_first() -> None:
    for path in modules_of(ROOT / "pages"):
        if path.name == "__init__.py" or path.parent.name == "_ui":
            continue
        body = [
            node
            for node in ast.parse(path.read_text()).body
            if not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
            and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        ]
        assert "require_page(" in ast.unparse(body[0]), f"{path}: the first statement is no guard"


def test_importing_everything_imports_nothing_heavy() -> None:
    names = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in modules_of(CORE)
        if path.name != "__main__.py"
    )
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_writing_service_function_has_an_actor() -> None:
    missing = []
    for unit in SERVICES:
        for path in modules_of(CORE / unit):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith(WRITING_VERBS):
                    names = [a.arg for a in [*node.args.args, *node.args.kwonlyargs]]
                    if "db" in names and "actor" not in names:
                        missing.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not missing, "\n".join(missing)


def test_no_module_is_longer_than_the_limit() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for folder in (CORE, ROOT / "pages", ROOT / "tests", ROOT / "benchmarks")
        for path in modules_of(folder)
        if (count := len(path.read_text().splitlines())) > LIMIT_LINES
    }
    assert not long


def test_layers_are_those_of_the_picture_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [unit for unit in LEVEL if unit != "__main__" and unit not in readme]
    assert not missing
