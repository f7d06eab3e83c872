"""``kipuka plugins check``, with plugins that do what no plugin should."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from kipuka_core.testing.server import Deployment
from tests.cli.plugin_kit import GOOD, HEAD, NEEDS_NOTHING, USED, install, opening, plugins, problems
from tests.startup.distributions import importable
from tests.startup.starting import check


def everything_in(directory: Path) -> dict[str, tuple[int, int]]:
    found = (file.stat() for file in sorted(directory.rglob("*")))
    names = (str(file) for file in sorted(directory.rglob("*")))
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in zip(names, found, strict=True)}


# -- plugins that take their process down -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import os\nos._exit(7)", "it ended the process with exit code 7 while importing plant_plugin"),
        ("import os\nos._exit(0)", "it ended the process with exit code 0 while importing plant_plugin"),
        ("import os\nos.kill(os.getpid(), 11)", "it died of SIGSEGV while importing plant_plugin"),
        ("import ctypes\nctypes.string_at(0)", "it died of SIGSEGV while importing plant_plugin"),
        (opening("import os", "os._exit(3)", "yield"), "it ended the process with exit code 3 while opening policy"),
        (
            opening("yield PlantPolicy()", "import os", "os.kill(os.getpid(), 11)"),
            "it died of SIGSEGV while closing policy 'plant'",
        ),
    ],
    ids=["exit 7", "exit 0", "SIGSEGV", "null pointer", "exit when opened", "SIGSEGV when closed"],
)
def test_a_plugin_that_ends_its_process_does_not_end_the_command(
    deployment: Deployment, site: Path, source: str, says: str
) -> None:
    install(site, source)
    (problem,) = problems(plugins(deployment, site, "check", "plant"))
    assert problem.startswith(says)


@pytest.mark.parametrize(
    "source",
    [
        "import signal\nsignal.pause()",
        "import signal\nfor each in (1, 2, 15):\n    signal.signal(each, signal.SIG_IGN)\nsignal.pause()",
        opening("import asyncio", "await asyncio.Event().wait()", "yield"),
        f"{NEEDS_NOTHING}\nimport signal, threading\nthreading.Thread(target=threading.Event().wait).start()\n",
    ],
    ids=["import", "deaf to signals", "open", "a thread that stays"],
)
def test_a_plugin_that_hangs_is_killed(deployment: Deployment, site: Path, source: str) -> None:
    install(site, source)
    (problem,) = problems(plugins(deployment, site, "check", "plant", "--timeout", "5s"))
    assert problem.startswith("it did not come to an end within 5 s while ")


def test_what_a_plugin_started_is_killed_with_it(deployment: Deployment, site: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    install(
        site,
        f"""
        import os, subprocess
        child = subprocess.Popen(["sleep", "600"])
        open({str(pid_file)!r}, "w").write(str(child.pid))
        os._exit(0)
        """,
    )
    assert problems(plugins(deployment, site, "check", "plant"))
    state = Path(f"/proc/{pid_file.read_text()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_plugin_that_prints_is_told_of_it(deployment: Deployment, site: Path) -> None:
    install(site, f"{NEEDS_NOTHING}\nimport os\nprint('hello')\nos.write(1, b'{{}}')\n")
    done = plugins(deployment, site, "check", "plant")
    (problem,) = problems(done)
    assert problem.startswith("it writes to standard output")
    assert "hello" not in done.stdout
    assert json.loads(plugins(deployment, site, "check", "plant", "--json").stdout)[0]["plugin"] == "plant"


def test_a_plugin_that_prints_without_end_fills_no_disk(deployment: Deployment, site: Path) -> None:
    install(site, "while True:\n    print('x' * 65536)\n")
    found = problems(plugins(deployment, site, "check", "plant"))
    assert any("writes to standard output" in each for each in found)
    assert any("File too large" in each for each in found)


_COMMAND_TAKEN = """
import click

@hookimpl
def kipuka_cli_commands():
    return [click.Command("serve")]
"""
_ROUTE_TAKEN = """
from quart import Blueprint

part = Blueprint("kipuka_plant", __name__, url_prefix="/admin/cas")
part.get("")(lambda: "")

@hookimpl
def kipuka_admin_routes():
    return [part]
"""


# -- plugins with mistakes --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("kipuka_api_version = 99", "speaks hook API version 99"),
        ("import sys\nsys.exit('enough')", "import"),
        ("x = 1", "hook"),
        (
            f"{HEAD}@hookimpl\ndef kipuka_policy():\n    return []",
            "there is no hook 'kipuka_policy'; did you mean \"kipuka_policies\"?",
        ),
        (NEEDS_NOTHING.replace('Provider("plant"', 'Provider("keys"'), "both provide the policy 'keys'"),
        (
            opening("raise OSError('the list is away')", "yield"),
            "plugin 'plant' failed to start: OSError: the list is away (plant_plugin.py, line",
        ),
        (opening("yield object()"), "opened a object, which is not a Policy"),
        (
            opening("(services.state_dir / 'cache').touch()", "yield PlantPolicy()"),
            "policy 'plant' made cache in the state directory in a dry run",
        ),
        (
            NEEDS_NOTHING + _COMMAND_TAKEN,
            "its command 'kipuka serve' exists already",
        ),
        (
            NEEDS_NOTHING + _ROUTE_TAKEN,
            "a plugin brings the admin route /admin/cas, which is taken",
        ),
    ],
    ids=[
        "import fails", "newer API", "exits", "no hook", "misspelt hook", "name of a built-in", "fails to open",
        "wrong type", "writes in a dry run", "command taken", "route taken",
    ],
)  # fmt: skip
def test_a_mistake_is_a_problem_with_what_to_do(deployment: Deployment, site: Path, source: str, says: str) -> None:
    install(site, source)
    found = problems(plugins(deployment, site, "check", "plant"))
    assert any(says in each for each in found), found


def test_two_plugins_that_bring_the_same_are_found_by_the_configuration(deployment: Deployment, site: Path) -> None:
    install(site, NEEDS_NOTHING)
    install(site, NEEDS_NOTHING, name="kipuka-other", plugin="other")
    assert not problems(plugins(deployment, site, "check", "other"))
    deployment.configure('[plugins]\nenable = ["plant"]')
    (problem,) = problems(plugins(deployment, site, "check", "other"))
    assert "both provide the policy 'plant'" in problem


def test_no_secret_is_printed(deployment: Deployment, site: Path) -> None:
    source = NEEDS_NOTHING.replace(
        '"""Nothing."""',
        '"""Nothing."""\n    password: SecretStr = Field(description="A password.")\n'
        '    pin_env: str = Field(description="Where the PIN is.")\n',
    ).replace(
        "    yield PlantPolicy()",
        "    import os\n"
        "    raise OSError(f'{settings.password.get_secret_value()} and {os.environ[settings.pin_env]}')\n    yield",
    )
    install(site, source)
    table = 'password = "correct horse"\npin_env = "PLANT_PIN"\n'
    deployment.configure(USED.replace('plants = ["plant7"]\n', table))
    for option in ((), ("--json",)):
        done = plugins(deployment, site, "check", "plant", *option, PLANT_PIN="battery staple")
        assert done.code == 1
        assert "failed to start: OSError: … and …" in done.stdout
        assert "correct horse" not in done.stdout + done.stderr
        assert "battery staple" not in done.stdout + done.stderr


def test_settings_of_the_configuration_that_do_not_fit_are_named(deployment: Deployment, site: Path) -> None:
    install(site, GOOD)
    deployment.configure(USED.replace("plants =", "plant ="))
    found = problems(plugins(deployment, site, "check", "plant"))
    assert any('policy.plant.plant: unknown key; did you mean "plants"?' in each for each in found)


# -- a good plugin ----------------------------------------------------------------------------------------------
def test_a_good_plugin_that_is_not_used_is_told_the_lines_to_add(deployment: Deployment, site: Path) -> None:
    install(site, GOOD)
    deployment.configure('[plugins]\nenable = ["hsm"]\n[policy]\norder = ["names", "keys"]\n')
    done = plugins(deployment, site, "check", "plant")
    assert not problems(done)
    assert "note: policy 'plant' was not opened: plants would have to be set" in done.stdout
    (report,) = json.loads(plugins(deployment, site, "check", "kipuka_plant", "--json").stdout)
    assert tomllib.loads("\n".join(report["add"])) == {
        "plugins": {"enable": ["hsm", "plant"]},
        "policy": {"order": ["names", "keys", "plant"], "plant": {"plants": ["plant7"]}},
    }
    assert report["providers"] == [
        {
            "kind": "policy",
            "name": "plant",
            "table": "[policy.plant]",
            "settings": ["plants", "days"],
            "used_as": [],
        }
    ]


def test_the_lines_to_add_make_it_used(deployment: Deployment, site: Path) -> None:
    install(site, GOOD)
    (report,) = json.loads(plugins(deployment, site, "check", "plant", "--json").stdout)
    deployment.configure("\n".join(report["add"]))
    with importable(site):
        assert check(deployment).code == 0
    done = plugins(deployment, site, "check", "plant")
    assert not problems(done)
    assert "policy         plant, settings in [policy.plant], used as policy.plant" in done.stdout
    assert "ok: policy 'plant' (policy.plant): of a CSR of the device 'device' it says Allow" in done.stdout
    assert "ok: policy 'plant' (policy.plant) opens, closes, and opens again" in done.stdout
    assert "To use it" not in done.stdout


def test_every_use_of_a_provider_is_opened(deployment: Deployment, site: Path) -> None:
    install(site, GOOD)
    tables = "".join(f'[policy.{name}]\nuse = "plant"\nplants = ["{name}"]\n' for name in ("north", "south"))
    deployment.configure(f'[plugins]\nenable = ["plant"]\n[policy]\norder = ["keys", "north"]\n{tables}')
    done = plugins(deployment, site, "check", "plant")
    assert not problems(done)
    for where in ("policy.north", "policy.south"):
        assert f"ok: policy 'plant' ({where}) opens, closes, and opens again" in done.stdout


def test_it_needs_no_configuration_and_changes_none(deployment: Deployment, site: Path, tmp_path: Path) -> None:
    install(site, NEEDS_NOTHING)
    before = everything_in(deployment.directory)
    done = plugins(deployment, site, "check", "plant")
    assert not problems(done)
    assert "ok: policy 'plant' opens, closes, and opens again" in done.stdout
    assert everything_in(deployment.directory) == before
    done = plugins(deployment, site, "check", "plant", KIPUKA_CONFIG=str(tmp_path / "none.toml"))
    assert not problems(done)
    assert "ok: policy 'plant' opens, closes, and opens again" in done.stdout
    assert "(no configuration: " in done.stderr
    done = plugins(deployment, site, "check", "plant", "-c", str(tmp_path / "none.toml"))
    assert (done.code, done.stdout) == (1, "")


def test_commands_and_admin_routes_are_told(deployment: Deployment, site: Path) -> None:
    install(
        site,
        """
        import click
        from quart import Blueprint
        from kipuka_core import hookimpl

        part = Blueprint("plants", __name__)

        @part.get("/<name>")
        async def plant(name):
            return name

        @hookimpl
        def kipuka_cli_commands():
            return [click.Command("plants")]

        @hookimpl
        def kipuka_admin_routes():
            return [part]
        """,
    )
    done = plugins(deployment, site, "check", "plant")
    assert not problems(done)
    assert "  command        kipuka plants\n" in done.stdout
    assert "  admin route    GET /admin/plants/<name>\n" in done.stdout
    assert "ok: the command 'kipuka plants' is free" in done.stdout
    assert "ok: the paths of its admin routes are free" in done.stdout
    assert "note: it does not say which version of the hooks it was written for" in done.stdout


@pytest.mark.parametrize("plugin", ["acme", "cfssl", "hsm", "vault", "builtin"])
def test_the_plugins_developed_here_are_sound(deployment: Deployment, site: Path, plugin: str) -> None:
    done = plugins(deployment, site, "check", plugin)
    assert not problems(done), done.stdout
    assert "ok: speaks hook API version 1; this kipuka speaks 1" in done.stdout


def test_a_name_that_nothing_has_is_an_error_with_the_nearest(deployment: Deployment, site: Path) -> None:
    install(site, GOOD)
    for command in ("check", "docs"):
        done = plugins(deployment, site, command, "plnt")
        assert done.code == 1
        assert done.stdout == ""
        assert "is called 'plnt'; did you mean \"plant\"?" in done.stderr


def test_a_distribution_of_two_plugins_is_checked_as_a_whole(deployment: Deployment, site: Path) -> None:
    install(site, NEEDS_NOTHING)
    entries = site / "kipuka_plant-1.0.dist-info" / "entry_points.txt"
    entries.write_text(f"{entries.read_text(encoding='utf-8')}broken = no_such_module\n", encoding="utf-8")
    done = plugins(deployment, site, "check", "kipuka-plant", "--json")
    assert done.code == 1
    assert [each["plugin"] for each in json.loads(done.stdout)] == ["broken", "plant"]


_OWN_SETTINGS = """
from pydantic import Field
from quart import Blueprint
from kipuka_core import Settings, hookimpl

class kipuka_settings(Settings):
    depot: str = Field(description="Where spare parts are.")

part = Blueprint("depot", __name__)

@hookimpl
def kipuka_admin_routes():
    return [part]
"""


def test_settings_of_the_plugin_itself_are_told_and_what_lacks_them_is_no_problem(
    deployment: Deployment, site: Path
) -> None:
    install(site, _OWN_SETTINGS)
    done = plugins(deployment, site, "check", "plant")
    assert not problems(done)
    assert "  settings       [plugin.plant], for its commands and admin routes\n" in done.stdout
    assert "note: it was not enabled for this: [plugin.plant] would have to be there" in done.stdout
    (report,) = json.loads(plugins(deployment, site, "check", "plant", "--json").stdout)
    add = "\n".join(report["add"])
    assert tomllib.loads(add) == {"plugins": {"enable": ["plant"]}, "plugin": {"plant": {"depot": "…"}}}
    deployment.configure(add)
    done = plugins(deployment, site, "check", "plant")
    assert not problems(done)
    assert "ok: the paths of its admin routes are free" in done.stdout
    page = plugins(deployment, site, "docs", "plant").stdout
    assert "| `depot` | text | required | Where spare parts are. |\n" in page
    (row,) = [
        each for each in json.loads(plugins(deployment, site, "list", "--json").stdout) if each["name"] == "plant"
    ]
    assert (row["kind"], row["table"], row["settings"]) == ("extension", "[plugin.plant]", ["depot"])
