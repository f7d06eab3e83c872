"""The story of the README of kipuka-cmdb-names, told with whatever kipuka this Python has; prints what happened.

Run as a program: ``python inventory_asked.py DIRECTORY README``.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography import x509

from kipuka_core.testing.client import Answer
from kipuka_core.testing.pki import Leaf, make_csr, make_key, make_root
from kipuka_core.testing.server import Deployment, RunningServer, make_deployment, running_server, wait_until

_URL = "https://cmdb.example/api/device"


def _configure(deployment: Deployment, readme: Path, url: str) -> None:
    """The configuration of the README, with the test's inventory, whose records count for a second."""
    block = re.search(r"```toml\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    assert _URL in block[1]
    deployment.configure(block[1].replace(f'"{_URL}"', f'"{url}"\nttl = "1s"'))


def _enrol(server: RunningServer, device: str, *san: str) -> tuple[Answer, Leaf | None]:
    key = make_key()
    answer = server.client().enrol(make_csr(key, device, san), user=device, password=server.otp(device))
    return answer, Leaf(answer.certificate(), key) if answer.status == 200 else None


def _told(answer: Answer) -> str:
    if answer.status != 200:
        return f"{answer.status}: {answer.text.splitlines()[0]}"
    san = answer.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return ", ".join(str(each.value) for each in san)


def _renew(server: RunningServer, leaf: Leaf) -> str:
    san = leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    csr_der = make_csr(leaf.key, subject=leaf.certificate.subject, extensions=[(san, False)])
    return _told(server.client(leaf).reenrol(csr_der))


def tell(directory: Path, readme: Path) -> dict[str, object]:
    """What happens, step by step."""
    sys.path.insert(0, str(readme.parent / "tests"))
    made: Any = import_module("inventory")
    deployment = make_deployment(directory)
    happened: dict[str, object] = {}
    with made.running_inventory(make_root("Inventory CA"), directory) as inventory:
        inventory.enter("pump-7", dns=("pump-7.plant.example",), ip=("192.0.2.7",))
        _configure(deployment, readme, inventory.url)
        toml = deployment.toml.read_text(encoding="utf-8")
        deployment.toml.write_text(toml.replace('enable = ["cmdb-names"]', ""), encoding="utf-8")
        happened["installed and not enabled"] = deployment.kipuka("check", check=False).stderr
        deployment.toml.write_text(toml, encoding="utf-8")
        with running_server(deployment) as server:
            answer, device = _enrol(server, "pump-7", "dns:pump-7.plant.example")
            assert device is not None, answer.text
            happened["a name of the record"] = _told(answer)
            happened["no name in the CSR"] = _told(_enrol(server, "pump-7")[0])
            happened["another name"] = _told(_enrol(server, "pump-7", "dns:pump-8.plant.example")[0])
            happened["renewal"] = _renew(server, device)
            happened["not in the inventory"] = _told(_enrol(server, "pump-9")[0])
            inventory.reply = lambda request: request.answer(302, Location="https://cmdb.example/login")
            happened["the inventory sends us away"] = _told(_enrol(server, "pump-9")[0])
            (said,) = server.wait_for_log(lambda line: line.get("logger") == "kipuka_cmdb_names")
            happened["what the log says of it"] = said["event"].replace(inventory.url, _URL)
            inventory.reply = made.record_of_the_device
            inventory.enter("pump-7", active=False, dns=("pump-7.plant.example",))
            refusals: list[str] = []

            def is_refused() -> bool:  # once what is kept is too old
                refusals[:] = [_renew(server, device)]
                return refusals[0][:1] == "4"

            wait_until(is_refused)
            happened["renewal, out of service"] = refusals[0]
    return happened


if __name__ == "__main__":
    sys.stdout.write(json.dumps(tell(Path(sys.argv[1]), Path(sys.argv[2]))))
