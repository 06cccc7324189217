"""What the pages about deployment say can be done: commands, files, keys, messages."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from clients.egress.policy import Policy
from clients.egress.withholding import why_never
from clients.policy_section import PolicySection
from clients.site_file import STATE_FOLDERS, DataSection, ServerSection, SiteFile, WorkerSection
from fedmedpeft.cli import app
from fedmedpeft.config import RunConfig
from fedmedpeft.tasks import build_task
from server.provisioning.federation_file import FederationFile
from server.provisioning.kits import new_kits

_ROOT = Path(__file__).parents[1]
_DOCS = _ROOT / "docs"
_PAGE = (_DOCS / "deployment.md").read_text(encoding="utf-8")
_PAGES = {path.name: path.read_text(encoding="utf-8") for path in (_ROOT / "README.md", *sorted(_DOCS.glob("*.md")))}
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_ROOMS = ("site", "server", "provision", "audit-log")
_SECTIONS: dict[str, type[BaseModel]] = {
    "": SiteFile,
    "server": ServerSection,
    "data": DataSection,
    "policy": PolicySection,
    "worker": WorkerSection,
}


def _blocks(language: str, page: str = _PAGE) -> list[str]:
    return [text for found, text in _FENCED.findall(page) if found == language]


def _shell_commands() -> list[list[str]]:
    """Every call of ours in a block of the pages about deployment, as arguments."""
    pages = [_PAGE, _PAGES["site-file.md"]]
    lines = [line for page in pages for block in _blocks("bash", page) for line in block.splitlines()]
    calls = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in calls if words and words[0] == "fedmedpeft"]


def _spans() -> list[list[str]]:
    """Every mention of a command of ours between backticks in the text, as arguments."""
    text = _FENCED.sub("", _PAGE)
    spans = [shlex.split(span) for span in re.findall(r"`([^`]+)`", text) if "'" not in span]
    calls = [words[1:] for words in spans if words[0] == "fedmedpeft"]
    return calls + [words for words in spans if words[0] in _ROOMS and len(words) > 1]


def _resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that ``words`` call, and what is left for it. Raises click.UsageError for one that is not there."""
    command: Any = typer.main.get_command(app)
    rest = words
    while hasattr(command, "resolve_command") and rest:
        _, command, rest = command.resolve_command(click.Context(command), rest)
    return command, rest


def test_the_page_shows_commands() -> None:
    assert len(_shell_commands()) > 20
    assert len(_spans()) > 20


@pytest.mark.parametrize("words", _shell_commands(), ids=" ".join)
def test_commands_can_be_called_as_shown(words: list[str]) -> None:
    command, rest = _resolve(words)
    command.make_context(str(command.name), list(rest))


@pytest.mark.parametrize("words", _spans(), ids=" ".join)
def test_commands_that_are_mentioned_exist(words: list[str]) -> None:
    command, rest = _resolve(words)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_the_example_of_a_federation_makes_kits_with_what_the_page_names(tmp_path: Path) -> None:
    federation = FederationFile.load(_DOCS / "example-federation.yaml")
    new_kits(federation, _DOCS, tmp_path / "kits")
    named = {name.replace("NAME", "Basel") for name in re.findall(r"`(kits/[\w./-]+)`", _PAGE)}
    assert {"kits/authority/", "kits/server/", "kits/sites/Basel/", "kits/register.json"} <= named
    assert not [name for name in named if not (tmp_path / name).exists()]
    for copied in re.findall(r"sudo cp ((?:systemd|nginx)/\S+)", _PAGE):
        assert list((tmp_path / "kits").glob(f"**/{copied}")), copied


def test_every_folder_of_the_state_is_explained() -> None:
    assert [name for name in STATE_FOLDERS if f"`{name}/`" not in _PAGE] == []


def test_the_example_of_a_site_takes_part_in_the_run_of_the_page() -> None:
    site = SiteFile.load(_DOCS / "example-site.yaml")
    (text,) = _blocks("toml")
    run = RunConfig.from_mapping(tomllib.loads(text))
    assert Policy(site.policy, site.backbones).findings(run) == []
    assert why_never(site.policy, build_task(run.task, site.data.classes)) is None


def test_pieces_of_a_site_file_fit_into_a_whole_one(tmp_path: Path) -> None:
    whole = yaml.safe_load((_DOCS / "example-site.yaml").read_text(encoding="utf-8"))
    pieces = _blocks("yaml")
    assert pieces
    for number, piece in enumerate(pieces):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(whole | yaml.safe_load(piece)), encoding="utf-8")
        SiteFile.load(file)


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    for section, model in _SECTIONS.items():
        for name, field in model.model_fields.items():
            key = name.replace("_", "-")
            if section or key not in (*_SECTIONS, "directory"):
                yield (f"{section}.{key}" if section else key), field


def _default(field: FieldInfo) -> str:
    """As a row of the table shows it."""
    if field.is_required():
        return "required"
    match field.get_default(call_default_factory=True):
        case tuple() as names:
            return f"`[{', '.join(names)}]`"
        case dict() as mapping:
            return f"`{{{', '.join(f'{key}: {value}' for key, value in mapping.items())}}}`"
        case bool() as truth:
            return f"`{truth}`".lower()
        case float() as number:
            return f"`{number:g}`" if number < 1e6 else f"`{number:.1e}`"
        case "":
            return '`""`'
        case other:
            return f"`{other}`"


@pytest.mark.parametrize(("key", "field"), _fields(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_key_of_a_site_file_has_its_row(key: str, field: FieldInfo) -> None:
    rows = [line.split(" | ") for line in _PAGES["site-file.md"].splitlines() if line.startswith(f"| `{key}` | ")]
    assert [(row[1].strip() or None, row[-1].removesuffix(" |")) for row in rows] == [
        (field.description or rows[0][1], _default(field))
    ], f"expected: | `{key}` | {field.description} | {_default(field)} |"


def test_no_row_is_of_a_key_that_is_gone() -> None:
    rows = re.findall(r"^\| `([\w.-]+)` \|", _PAGES["site-file.md"], re.M)
    assert sorted(rows) == sorted(key for key, _ in _fields())


def _messages() -> list[str]:
    """What a reader sees, by the last table of the page, in the pieces that are always the same."""
    rows = _PAGE.rpartition("## When something is wrong")[2].splitlines()
    quoted = [text for row in rows if "|" in row for text in re.findall(r'"([^"]+)"', row.split("|")[1])]
    return [piece.strip() for text in quoted for piece in re.split(r"\.\.\.|\b[NM]\b", text) if piece.strip()]


def test_messages_of_the_page_are_those_of_the_program() -> None:
    files = [path for name in ("clients", "server", "fedmedpeft") for path in (_ROOT / name).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    joined = re.sub(r'"\s*\n\s*f?"', "", text)
    assert len(_messages()) > 10
    assert [message for message in _messages() if message not in joined] == []


@pytest.mark.parametrize("name", _PAGES)
def test_links_to_a_section_lead_to_one(name: str) -> None:
    """Of pages and within a page: the heading must be there, as its anchor is made."""
    broken = []
    for target, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", _PAGES[name]):
        page = _PAGES.get(Path(target).name or name, "")
        headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page), re.M)
        if anchor not in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}:
            broken.append(f"{target}#{anchor}")
    assert not broken
