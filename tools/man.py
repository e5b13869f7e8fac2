#!/usr/bin/env python3
"""Man pages from the program's own tables: ferkd help --json | man.py docs/man; --check compares."""
import itertools
import json
import re
import sys
from pathlib import Path


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub("^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def is_as_it_stands(line):
    """A line of a table or an example."""
    return line.startswith("  ")


def description(prose):
    """Paragraphs are filled; indented lines, which are tables and examples, stay as they are."""
    out = [".SH DESCRIPTION"]
    for indented, lines in itertools.groupby(prose.split("\n"), is_as_it_stands):
        if indented:
            out += [".RS 2", ".nf", *(escape(line[2:]) for line in lines), ".fi", ".RE"]
        else:
            out += [escape(line) or ".PP" for line in lines]
    return out


def page(name, c, version="ferkd"):
    out = [f'.TH FERKD\\-{name.upper()} 1 "" "{version}" "User Commands"', ".SH NAME",
           f"ferkd\\-{name} \\- {escape(c['line'])}", ".SH SYNOPSIS", f".B ferkd {name}", escape(c["usage"]),
           *description(c["prose"]), ".SH OPTIONS"]
    for o in c["options"]:
        arg = "" if o["kind"] == "flag" else " \\fI" + escape(o.get("choices", "VALUE")) + "\\fR"
        default = f" Default: {o['default']}." if "default" in o and o["kind"] != "flag" else ""
        out += [".TP", f"\\fB\\-\\-{escape(o['name'])}\\fR{arg}", escape(o["help"] + "." + default)]
    out += [".SH EXIT STATUS",
            "0 success, 2 usage, 3 absent, 4 input or output, 5 corrupt, 6 unsupported, 7 limit, 8 memory, 9 stopped "
            "on request, 10 a fault of ferkd itself.", ".SH SEE ALSO", ".BR ferkd (1)"]
    return "\n".join(out) + "\n"


def first_page(commands):
    """ferkd(1): the commands, and what the environment may say."""
    itself = commands["ferkd"]
    out = ['.TH FERKD 1 "" "ferkd" "User Commands"', ".SH NAME", f"ferkd \\- {escape(itself['line'])}", ".SH SYNOPSIS",
           ".B ferkd", "COMMAND ...", ".SH COMMANDS"]
    for name, c in commands.items():
        if name != "ferkd":
            out += [".TP", f".BR ferkd\\-{name} (1)", escape(c["line"])]
    out += [".SH ENVIRONMENT"]
    for s in itself["environment"]:
        out += [".TP", f"\\fB{s['name']}\\fR \\fI{escape(s['words'])}\\fR", escape(s["help"] + ".")]
    out += [".TP", "\\fBFERKD_TRACE\\fR", "Topics, plan,dnnl,time: says on standard error what is decided.", ".TP",
            "\\fBXDG_CACHE_HOME\\fR", "Where what was measured of this machine is kept, in ferkd/; else ~/.cache."]
    return "\n".join(out) + "\n"


def main():
    check = sys.argv[1] == "--check"
    folder = Path(sys.argv[2 if check else 1])
    commands = json.load(sys.stdin)
    bad = 0
    for name, c in commands.items():
        path = folder / ("ferkd.1" if name == "ferkd" else f"ferkd-{name}.1")
        text = first_page(commands) if name == "ferkd" else page(name, c)
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path}: not what the program's table says; run: build/ferkd help --json | tools/man.py docs/man")
            bad = 1
    return bad


sys.exit(main())
