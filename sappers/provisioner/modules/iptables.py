"""Adds and removes rules of the packet filter."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from sappers.provisioner.modules import step
from sappers.provisioner.modules._programs import execute
from sappers.provisioner.modules.spec import Argument, Module

_SHOWN = ("ip_version", "table", "chain", "flush", "state", "chain_management", "wait")
SPEC = Module(
    "Add a rule of the packet filter, or remove it; until the next boot.",
    (
        Argument("chain", "str", "The chain."),
        Argument("table", "str", "", default="filter",
                 choices=("filter", "mangle", "nat", "raw", "security")),
        Argument("state", "str", "", default="present", choices=("absent", "present")),
        Argument("action", "str", "Where a new rule goes.", default="append",
                 choices=("append", "insert")),
        Argument("rule_num", "str", "Its number, with insert."),
        Argument("ip_version", "str", "", default="ipv4", choices=("both", "ipv4", "ipv6")),
        Argument("protocol", "str", "tcp, udp, icmp, … or a number."),
        Argument("source", "str", "Address, network or name."),
        Argument("destination", "str", "Address, network or name."),
        Argument("in_interface", "str", ""),
        Argument("out_interface", "str", ""),
        Argument("source_port", "str", "A port, or FIRST:LAST."),
        Argument("destination_port", "str", "A port, or FIRST:LAST."),
        Argument("destination_ports", "list", "Several.", default=[]),
        Argument("ctstate", "list", "States of connections.", default=[]),
        Argument("match", "list", "Extensions that have to match.", default=[]),
        Argument("syn", "str", "", default="ignore", choices=("ignore", "match", "negate")),
        Argument("icmp_type", "str", ""),
        Argument("src_range", "str", "FIRST-LAST."),
        Argument("dst_range", "str", "FIRST-LAST."),
        Argument("limit", "str", "At most so many: 5/second."),
        Argument("limit_burst", "str", ""),
        Argument("uid_owner", "str", ""),
        Argument("gid_owner", "str", ""),
        Argument("comment", "str", ""),
        Argument("jump", "str", "What becomes of the packet: ACCEPT, DROP, or a chain."),
        Argument("goto", "str", "A chain that is gone on in."),
        Argument("to_ports", "str", "With REDIRECT."),
        Argument("to_source", "str", "With SNAT."),
        Argument("to_destination", "str", "With DNAT."),
        Argument("gateway", "str", "With TEE."),
        Argument("set_dscp_mark", "str", "With DSCP."),
        Argument("set_dscp_mark_class", "str", "With DSCP."),
        Argument("log_prefix", "str", "With LOG."),
        Argument("log_level", "str", "With LOG."),
        Argument("reject_with", "str", "With REJECT."),
        Argument("fragment", "str", ""),
        Argument("set_counters", "str", "PACKETS BYTES."),
        Argument("policy", "str", "What becomes of packets that no rule matches.",
                 choices=("ACCEPT", "DROP", "QUEUE", "RETURN")),
        Argument("flush", "bool", "Remove all rules of the chain, or of the table.", default=False),
        Argument("chain_management", "bool", "Make or remove the chain itself.", default=False),
        Argument("wait", "str", "Seconds to wait for the lock."),
        Argument("numeric", "bool", "Accepted: no names are looked up.", default=False),
    ),
    outward=True,
    unsupported=(
        ("tcp_flags", "use command: iptables --tcp-flags"),
        ("match_set", "use command: iptables -m set"),
        ("match_set_flags", "use command: iptables -m set"),
    ),
    returns=(("rule", "the rule's words"), (", ".join(_SHOWN), "as asked for")),
)  # fmt: skip
# In Ansible's order, so that `rule` reads the same.
_OPTIONS = (
    ("protocol", "-p"), ("source", "-s"), ("destination", "-d"), ("match", "-m"),
    ("jump", "-j"), ("gateway", "--gateway"), ("log_prefix", "--log-prefix"),
    ("log_level", "--log-level"), ("to_destination", "--to-destination"),
    ("destination_ports", ""), ("to_source", "--to-source"), ("goto", "-g"),
    ("in_interface", "-i"), ("out_interface", "-o"), ("fragment", "-f"),
    ("set_counters", "-c"), ("source_port", "--source-port"),
    ("destination_port", "--destination-port"), ("to_ports", "--to-ports"),
    ("set_dscp_mark", "--set-dscp"), ("set_dscp_mark_class", "--set-dscp-class"),
    ("syn", ""), ("ctstate", ""), ("src_range", "--src-range"), ("dst_range", "--dst-range"),
    ("limit", "--limit"), ("limit_burst", "--limit-burst"), ("uid_owner", "--uid-owner"),
    ("gid_owner", "--gid-owner"), ("reject_with", "--reject-with"), ("icmp_type", ""),
    ("comment", "--comment"),
)  # fmt: skip
_EXTENSIONS = (
    ("iprange", ("src_range", "dst_range")), ("limit", ("limit", "limit_burst")),
    ("owner", ("uid_owner", "gid_owner")), ("comment", ("comment",)),
)  # fmt: skip


def plan(task: step.Task) -> step.Plan:
    """The same for each version of IP."""
    args = task.args
    if args["chain"] is None and not args["flush"]:
        raise step.Failed("Either chain or flush parameter must be specified.")
    rule = rule_words(args)
    versions = ("ipv4", "ipv6") if args["ip_version"] == "both" else (args["ip_version"],)
    changed = False
    for version in versions:
        program = "iptables" if version == "ipv4" else "ip6tables"
        wait = ("-w", args["wait"]) if args["wait"] else ("-w",)
        done = yield from _apply((program, *wait, "-t", args["table"]), args, rule)
        changed = changed or done
    return {"changed": changed, "rule": " ".join(rule), **{name: args[name] for name in _SHOWN}}


def rule_words(args: Dict[str, Any]) -> List[str]:
    """The words of the rule itself."""
    words: List[str] = []
    named = args["match"]
    for name, option in _OPTIONS:
        value = args[name]
        for extension, keys in _EXTENSIONS:
            first = name == next((key for key in keys if args[key]), None)
            if first and extension not in named:
                words += ["-m", extension]
        if not value or value == "ignore":
            continue
        if name == "match":
            words += [word for one in value for word in ("-m", one)]
        elif name == "destination_ports":
            words += ["-m", "multiport", "--dports", ",".join(value)]
        elif name == "ctstate":
            option = "--ctstate" if "state" not in named else "--state"
            known = {"conntrack", "state"} & set(named)
            words += [*([] if known else ["-m", "conntrack"]), option, ",".join(value)]
        elif name == "syn":
            words += ["--syn"] if value == "match" else ["!", "--syn"]
        elif name == "icmp_type":
            six = args["ip_version"] == "ipv6"
            words += ["--icmpv6-type" if six else "--icmp-type", value]
        elif str(value).startswith("!"):
            words += ["!", option, value[1:].strip()]
        else:
            words += [option, *(value.split() if name == "set_counters" else [value])]
    return words


def _apply(command: Sequence[str], args: Dict[str, Any], rule: List[str]) -> step.Steps:
    chain, there = args["chain"], args["state"] == "present"
    if args["flush"]:
        yield from execute((*command, "-F", *((chain,) if chain else ())))
        return True
    if args["policy"]:
        asked = yield step.Ask((*command, "-S", chain), topic=f"policy:{command}:{chain}")
        wanted = f"-P {chain} {args['policy']}"
        if asked.code == 0 and wanted in asked.out.splitlines():
            return False
        implied = ((f"policy:{command}:{chain}", (0, wanted.encode(), b"")),)
        yield from execute((*command, "-P", chain, args["policy"]), implied)
        return True
    if args["chain_management"] and not rule:
        return (yield from _chain(command, chain, there))
    topic = "rule:" + " ".join((*command, chain, *rule))
    found = (yield step.Ask((*command, "-C", chain, *rule), topic=topic)).code == 0
    if args["chain_management"] and there:
        yield from _chain(command, chain, there)
    if found == there:
        return False
    place = ["-D", chain]
    if there:
        insert = args["action"] == "insert"
        place = (
            ["-I", chain, *([args["rule_num"]] if args["rule_num"] else [])]
            if insert
            else ["-A", chain]
        )
    yield from execute((*command, *place, *rule), ((topic, (0 if there else 1, b"", b"")),))
    return True


def _chain(command: Sequence[str], chain: str, there: bool) -> step.Steps:
    topic = f"chain:{command}:{chain}"
    found = (yield step.Ask((*command, "-n", "-L", chain), topic=topic)).code == 0
    if found == there:
        return False
    yield from execute((*command, "-N" if there else "-X", chain),
                       ((topic, (0 if there else 1, b"", b"")),))  # fmt: skip
    return True
