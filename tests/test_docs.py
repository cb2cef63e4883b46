"""What the documentation says is there: links, commands, options, numbers, messages; and docstrings."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

from sciwm.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
TEXTS = {path: path.read_text() for path in PAGES}

LONGEST_README = 120
FLOORS = ("core", "data", "models", "simulation", "evaluation", "training", "discovery", "report")


def fences(text, language):
    """Fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def without_fences(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def links(text):
    return re.findall(r"\]\(([^)\s]+)\)", without_fences(text))


def anchor(heading):
    """As MkDocs makes it of a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def anchors(text):
    return {anchor(one) for one in re.findall(r"^#+ (.*)$", without_fences(text), re.M)}


def broken_links(text, folder):
    """Links that lead to no file, or to no heading of a page."""
    broken = []
    for link in links(text):
        path, _, fragment = link.partition("#")
        target = (folder / path) if path else None
        if "://" in link:
            continue
        if target is not None and not target.exists():
            broken.append(link)
        elif fragment and (target is None or target.suffix == ".md"):
            page = text if target is None else target.read_text()
            broken += [link] if fragment not in anchors(page) else []
    return broken


def wrong_numbers(text, folder):
    """Numbers that are not what the JSON file says to which they link."""
    wrong = []
    for shown, path, pointer in re.findall(r"\[([^\]]+)\]\(([^)#]+\.json)#/([^)]+)\)", text):
        value = json.loads((folder / path).read_text())
        try:
            for key in unquote(pointer).split("/"):
                value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError):
            wrong.append(f"{path} has no {pointer}")
            continue
        plain = shown.replace(",", "")
        mantissa, exponent, _ = plain.partition("e")
        digits = len(mantissa.partition(".")[2])
        written = format(value, f".{digits}{'e' if exponent else 'f'}")
        if float(written) != float(plain):
            wrong.append(f"{shown} is {written} in {path}#/{pointer}")
    return wrong


class Code:
    """The package, read and not run."""

    def __init__(self):
        self.trees = {
            path.relative_to(ROOT): ast.parse(path.read_text())
            for path in sorted((ROOT / "sciwm").rglob("*.py"))
        }

    def public(self):
        """Every class and function of a module that is meant for others."""
        return [
            (path, node)
            for path, tree in self.trees.items()
            for node in tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
        ]

    def parameters(self):
        """Names of what functions and constructors take, and of the fields of dataclasses."""
        found = set()
        for tree in self.trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                    found |= {one.arg for one in given}
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found.add(node.target.id)
        return found

    def signature(self, file, name):
        """The parameters of one function or of one class."""
        for node in self.trees[Path("sciwm") / file].body:
            if getattr(node, "name", None) == name and isinstance(node, ast.FunctionDef):
                return {one.arg for one in [*node.args.args, *node.args.kwonlyargs]}
            if getattr(node, "name", None) == name:
                return {one.target.id for one in node.body if isinstance(one, ast.AnnAssign)} | {
                    one.arg
                    for made in node.body
                    if isinstance(made, ast.FunctionDef) and made.name == "__init__"
                    for one in made.args.args
                }
        raise LookupError(f"{file} has no {name}")

    def sentences(self):
        """All text of the package, with … where a value goes."""
        return "\n".join(
            "".join(
                part.value if isinstance(part, ast.Constant) else "…"
                for part in (node.values if isinstance(node, ast.JoinedStr) else [node])
            )
            for tree in self.trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        )


@pytest.fixture(scope="module")
def code():
    return Code()


def calls(text):
    """The words of every `sciwm` command of a text, in blocks and in lines."""
    lines = [line.split("#")[0] for block in fences(text, "sh") for line in block.splitlines()]
    lines += re.findall(r"`(sciwm [^`]*)`", without_fences(text))
    lines += re.findall(r"^    (sciwm .*)$", without_fences(text), re.M)
    return [shlex.split(line)[1:] for line in lines if line.strip().startswith("sciwm ")]


def options(code):
    """Of every command: its own, and the beginnings under which a job file has more."""
    found = {}
    for command, (module, _) in COMMANDS.items():
        file = Path(module.replace(".", "/")).relative_to("sciwm").with_suffix(".py")
        name = "import_" if command == "import" else command
        found[command] = code.signature(file, name) | {"help"}
    job = code.signature("training/fit.py", "fit") | {"config", "options", "seed"}
    for kind in ("FrameData", "WindowData", "Data"):
        job |= {f"data.{one}" for one in code.signature("data/modules.py", kind)}
    for file, kind in (
        ("force", "ForceTask"),
        ("outcome", "OutcomeTask"),
        ("motion", "MotionTask"),
    ):
        job |= {f"task.{one}" for one in code.signature(f"training/{file}_task.py", kind)}
    model = "task.model.init_args"
    force_field = code.signature("models/dynamics/force_field.py", "ForceField")
    encoder = code.signature("models/encoders/encoder.py", "Encoder")
    job |= {f"{model}.{one}" for one in force_field}
    found["train"] |= job | {f"{model}.encoder.{one}" for one in encoder}
    campaign = code.signature("discovery/campaigns.py", "Job") | {"config", "options"}
    campaign |= {f"plan.{one}" for one in code.signature("discovery/plan.py", "CampaignPlan")}
    found["discover"] |= campaign
    return found


def unknown(words, known):
    """Why a call could not be one: no such command, no such option."""
    if not words or words[0].startswith("-"):
        return [] if words in ([], ["--version"], ["--help"]) else [words[0]]
    if words[0] not in known:
        return [words[0]] if words[0] != "COMMAND" else []
    given = [word.split("=")[0][2:] for word in words[1:] if word.startswith("--")]
    return [f"{words[0]} --{one}" for one in given if one not in known[words[0]]]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_link_and_number_is_right(path):
    assert broken_links(TEXTS[path], path.parent) == []
    assert wrong_numbers(TEXTS[path], path.parent) == []


def test_every_command_and_option_of_a_text_exists(code):
    known = options(code)
    wrong = {
        path.name: found
        for path, text in TEXTS.items()
        if (found := [one for words in calls(text) for one in unknown(words, known)])
    }
    assert wrong == {}
    assert sum(len(calls(text)) for text in TEXTS.values()) > 40
    everywhere = set().union(*known.values())
    named = {
        (path.name, name)
        for path, text in TEXTS.items()
        for name in re.findall(r"`--([\w.]+)", without_fences(text))
    }
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {one for one in named if one[1] not in everywhere} == set()
    for path, text in TEXTS.items():
        for name in re.findall(r"`make (\w+)`|^    make (\w+)", text, re.M):
            assert "".join(name) in targets, f"{path.name}: make {''.join(name)}"
        for script in re.findall(r"(?<![\w/])((?:scripts|datasets)/[\w/]+\.py)", text):
            assert (ROOT / script).is_file(), f"{path.name}: {script}"
        for name in re.findall(r"`((?:sciwm|configs|datasets|notebooks|scripts)/[\w/.]+)`", text):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_every_class_that_is_named_by_its_path_exists(code):
    homes = {
        ".".join([*path.with_suffix("").parts, node.name]).replace(".__init__", "")
        for path, node in code.public()
    }
    homes |= {".".join(path.with_suffix("").parts).replace(".__init__", "") for path in code.trees}
    for path, tree in code.trees.items():
        if path.name == "__init__.py":
            for node in tree.body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
                    homes |= {
                        ".".join([*path.parent.parts, k]) for k in ast.literal_eval(node.value)
                    }
    folders = {".".join(path.parent.parts) for path in code.trees}
    for path, text in TEXTS.items():
        plain = re.sub(r"^```python.*?^```", "", text, flags=re.S | re.M)
        for name in re.findall(r"(?<![\w/.])sciwm(?:\.\w+)+", plain):
            assert name in homes | folders, f"{path.name} names {name}"


def test_every_python_block_can_be_read_and_every_file_that_is_shown_is_there():
    shown = []
    for path, text in TEXTS.items():
        included = re.findall(r'--8<--\n(.*)\n--8<--|--8<-- "(.*)"', text)
        shown += ["".join(names) for names in included]
        for block in fences(text, "python"):
            if "--8<--" not in block:
                ast.parse(block, str(path))
    assert [name for name in shown if not (ROOT / name).is_file()] == []
    assert {f"docs/examples/{path.name}" for path in (DOCS / "examples").glob("*.py")} <= set(shown)


def test_every_message_that_is_explained_is_one_of_ours(code):
    said = code.sentences()
    rows = re.findall(r"^\| `([^`]+)`", TEXTS[DOCS / "troubleshooting.md"], re.M)
    pieces = [piece.strip() for row in rows for piece in row.split("…")]
    assert len(rows) > 40
    assert [piece for piece in pieces if piece not in said] == []
    assert "the moon is out of reach" not in said


def test_the_readme_is_short():
    assert len(TEXTS[ROOT / "README.md"].splitlines()) <= LONGEST_README


def test_every_page_is_in_the_contents_and_every_floor_in_the_reference():
    contents = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in DOCS.glob("*.md") if f": {page.name}" not in contents] == []
    reference = "\n".join(page.read_text() for page in DOCS.glob("api-*.md"))
    modules = set(re.findall(r"^::: ([\w.]+)$", reference, re.M))
    assert {f"sciwm.{floor}" for floor in FLOORS} <= modules


def test_every_public_class_and_function_says_what_it_is(code):
    bare = [f"{path}: {node.name}" for path, node in code.public() if not ast.get_docstring(node)]
    assert bare == []


def test_these_checks_catch_what_would_rot(code, tmp_path):
    (tmp_path / "page.md").write_text("# A page\n\n## One (part), of it\n")
    (tmp_path / "a.json").write_text('{"x": [1.26, 9.4e-7]}')
    sound = "[a](page.md#one-part-of-it) [1.3](a.json#/x/0) [9e-7](a.json#/x/1)"
    rotten = "[a](page.md#two) [b](gone.md) [1.2](a.json#/x/0) [1](a.json#/y)"
    assert broken_links(sound, tmp_path) == wrong_numbers(sound, tmp_path) == []
    assert broken_links(rotten, tmp_path) == ["page.md#two", "gone.md"]
    assert len(wrong_numbers(rotten, tmp_path)) == 2
    known = options(code)
    text = (
        "`sciwm fly` and `sciwm simulate a --wings 2`\n\n```sh\nsciwm train --task.speed 3\n```\n"
    )
    assert [one for words in calls(text) for one in unknown(words, known)] == [
        "train --task.speed", "fly", "simulate --wings",
    ]  # fmt: skip
    assert "no_such_function" not in {node.name for _, node in code.public()}


def test_the_documentation_builds_without_a_warning(tmp_path):
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("MkDocs is not installed; `make docs` installs and runs it")
    build = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run([sys.executable, "-m", *build], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(list(DOCS.glob("*.md")))
    # Links are followed by readers; what loads by itself must lie beside the pages.
    elsewhere = r'="(?:https?:)?//'
    loaded = [rf"<(?:script|img)[^>]*src{elsewhere}", rf'rel="stylesheet"[^>]*href{elsewhere}']
    texts = {page.name: page.read_text() for page in pages}
    assert [name for name, text in texts.items() if re.search("|".join(loaded), text)] == []
    shutil.rmtree(tmp_path / "site")
