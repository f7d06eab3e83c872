"""What the command says of itself."""

from __future__ import annotations

from click.testing import CliRunner

from kipuka_core.cli import cli


def test_the_help_keeps_its_lines_and_shows_no_markup() -> None:
    shown = CliRunner().invoke(cli, ["--help"], prog_name="kipuka").output
    assert "\n  Try it:     kipuka serve --dev\n" in shown
    assert "\\" not in shown
