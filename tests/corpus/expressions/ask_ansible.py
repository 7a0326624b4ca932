"""Runs by Ansible's own Python: templates and variables in, what they are worth out, as JSON."""

import json
import sys

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template


def worth(templar, inventory, template):
    try:
        if template.startswith("hosts: "):
            return {"value": [one.name for one in inventory.get_hosts(template[len("hosts: ") :])]}
        if template.startswith("when: "):
            value = templar.evaluate_conditional(trust_as_template(template[len("when: ") :]))
        else:
            value = templar.template(trust_as_template(template))
        # In JSON, since what it is not yet is asked for there: some values are lazy.
        return {"value": json.loads(json.dumps(value, default=str))}
    except Exception as error:
        return {"error": str(error)}


def main():
    asked = json.load(sys.stdin)
    init_plugin_loader()
    loader = DataLoader()
    loader.set_basedir(asked["folder"])
    inventory = InventoryManager(loader=loader, sources=[asked["folder"] + "/files/hosts.ini"])
    templar = Templar(loader=loader, variables=asked["variables"])
    told = {
        name: worth(templar, inventory, template) for name, template in asked["templates"].items()
    }
    json.dump(told, sys.stdout)


main()
