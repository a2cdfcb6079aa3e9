"""Comments by way of ``gh``: a program of that name on the PATH stands for GitHub's, and says what that one says."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from hermesd.adapters.contract import Outbound, Target
from hermesd.adapters.errors import AdapterError, Gone, Rejected, Retry, Unauthorized, Uncertain
from hermesd.adapters.registry import make
from hermesd.adapters.webhook import github

PLACE = "github:octo/repo#7"

GH = """#!{python}
import json, os, sys, time
asked = {{"argv": sys.argv[1:], "input": json.loads(sys.stdin.read())}}
open({record!r}, "w").write(json.dumps(asked))
said = json.load(open({answer!r}))
time.sleep(said.get("sleep", 0))
sys.stdout.write(said.get("out", ""))
sys.stderr.write(said.get("err", ""))
sys.exit(said.get("status", 0))
"""


class Gh:
    """The stand-in: what it was asked, and what it says next."""

    def __init__(self, place: Path):
        self.record, self.answer = place / "asked.json", place / "answer.json"
        program = place / "gh"
        program.write_text(GH.format(python=sys.executable, record=str(self.record), answer=str(self.answer)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.says(out='{"id": 41}')

    def says(self, **said: object) -> None:
        self.answer.write_text(json.dumps(said))


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gh:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Gh(tmp_path)


async def test_an_answer_becomes_a_comment(gh: Gh) -> None:
    adapter = make("webhook", {"extra": {"port": 0}})
    await adapter.start(object())  # type: ignore[arg-type]
    target = Target("webhook", PLACE)
    try:
        assert adapter.capabilities(target).max_length == github.COMMENT_LIMIT
        assert (await adapter.send(target, Outbound("k", "--body `x`\nfine"))).message_id == "41"
    finally:
        await adapter.stop()
    asked = json.loads(gh.record.read_text())
    assert asked["argv"] == ["api", "--method", "POST", "repos/octo/repo/issues/7/comments", "--input", "-"]
    assert asked["input"] == {"body": "--body `x`\nfine"}


# As gh 2.x says it: `gh api` ends GitHub's own message with the status (cli/cli, pkg/cmd/api/api.go).
@pytest.mark.parametrize(
    ("complaint", "kind"),
    [
        ("gh: Not Found (HTTP 404)", Gone),
        ("gh: Bad credentials (HTTP 401)\nTry authenticating with:  gh auth login", Unauthorized),
        ("gh: Resource not accessible by personal access token (HTTP 403)", Rejected),
        ("gh: API rate limit exceeded for user ID 1. (HTTP 403)", Retry),
        ("gh: Validation Failed (HTTP 422)", Rejected),
        ("gh: HTTP 429 (HTTP 429)", Retry),
        ("gh: Server Error (HTTP 502)", Uncertain),
        ("error connecting to api.github.com\ncheck your internet connection", Retry),
        ("To get started with GitHub CLI, please run:  gh auth login", Rejected),
        ("", Uncertain),
    ],
)
async def test_what_gh_complains_of(gh: Gh, complaint: str, kind: type[AdapterError]) -> None:
    gh.says(err=complaint, status=1)
    with pytest.raises(kind, match="cannot comment on github:octo/repo#7"):
        await github.comment(PLACE, "text")


async def test_one_that_hangs_is_ended(gh: Gh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github, "SECONDS", 0.2)
    gh.says(sleep=60)
    with pytest.raises(Uncertain, match="did not end"):
        await github.comment(PLACE, "text")


async def test_without_gh_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Rejected, match="not installed") as error:
        await github.comment(PLACE, "text")
    assert "gh auth login" in error.value.fix
    assert github.missing()
