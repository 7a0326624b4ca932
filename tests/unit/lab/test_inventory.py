from pathlib import Path

from sappers.lab.inventory import render_inventory, render_known_hosts, render_name_table
from sappers.lab.plan import plan_lab
from sappers.lab.record import LabRecord

PLAN = plan_lab("lab")
HOSTS = LabRecord(base="/base").extended(PLAN, 3).hosts
COMMITTED = Path(__file__).parents[3] / "inventory" / "lab.ini"


def test_the_committed_inventory_is_that_of_the_default_lab():
    folder = Path("~/.local/share/sappers/labs/lab")
    rendered = render_inventory("lab", HOSTS, folder / "id_ed25519", folder / "known_hosts")
    committed = [line for line in COMMITTED.read_text().splitlines() if not line.startswith("#")]
    assert "\n".join(committed).strip() == rendered.strip()


def test_known_hosts_has_each_key_by_name_and_address():
    keys = {host.name: f"ssh-ed25519 KEY{host.name}" for host in HOSTS}
    assert render_known_hosts(HOSTS, keys).splitlines()[1] == "lab2,10.77.0.12 ssh-ed25519 KEYlab2"


def test_every_host_finds_the_others_and_the_control_machine_by_name():
    rows = dict(line.split("\t")[::-1] for line in render_name_table(PLAN, HOSTS).splitlines())
    assert rows == {
        "localhost": "127.0.0.1",
        "control": "10.77.0.1",
        "lab1": "10.77.0.11",
        "lab2": "10.77.0.12",
        "lab3": "10.77.0.13",
    }
