#!/usr/bin/env python3
"""Measure what the client costs on a real server, beside the least that its work can cost:

    tests/real_odoo 19 python3 tests/bench.py
    tests/real_odoo 19 python3 tests/bench.py --only a,d --rounds 5

library.py is compared with scripts that do the same on bare xmlrpc.client (the uid known, or with
a login first), and with OdooRPC, ERPpeek and Odooly where this Python has them; the last two find
their database if Odoo lists it (ODOO_TEST_DB_FILTER=odoo). It happens in a database odoo-bench of
100,000 books, made on the first run and kept. What is compared runs in turn, a process each, and
medians count, so that what else the machine does strikes all alike.
Times differ from machine to machine; their ratios, which the table shows, much less. A missed goal
is a finding, no failure: the exit status is 0.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
DB, BOOKS, BATCH = "odoo-bench", 100_000, 1000
WORDS = """the of and in a old new white black lost last first night day sea whale house garden
winter summer river road city island king queen captain doctor stranger daughter brother letter
history art war peace love death memory silence shadow light fire stone glass paper"""

# --- What the client is compared with: scripts, with the client's settings and output ------------

SETTINGS = """
import os, sys
url, db, user, pwd = (os.environ["ODOO_" + name] for name in ("URL", "DB", "USER", "PASSWORD"))
domain = [["name", "ilike", title] for title in sys.argv[1:]]
"""
SHOW = """
for book in books:
    print(book["id"], book["name"])
"""
BARE = f"""
import argparse  # as each command line does
import xmlrpc.client
{SETTINGS}
proxy = xmlrpc.client.ServerProxy(url + "/xmlrpc/2/object")

def call(method, *args, **kwargs):
    return proxy.execute_kw(db, uid, pwd, "library.book", method, args, kwargs)

def add(titles):
    for id, title in zip(call("create", [{{"name": title}} for title in titles]), titles):
        print(f"Book added with ID {{id}} for title {{title}}.")
    sys.stdout.flush()

def titles():
    with open(sys.argv[1], encoding="utf-8") as file:
        return file.read().splitlines()
"""
UID_KNOWN = f"""{BARE}
uid = int(os.environ["ODOO_UID"])
"""
LOGIN = f"""{BARE}
uid = xmlrpc.client.ServerProxy(url + "/xmlrpc/2/common").authenticate(db, user, pwd, {{}})
"""
LIST = 'books = call("search_read", domain, fields=["name"])' + SHOW
ADD = "add(sys.argv[1:])"
SET = """
call("write", [int(sys.argv[1])], {"name": sys.argv[2]})
print(f"Title of Book ID {sys.argv[1]} set to {sys.argv[2]}.")
"""
ADD_BATCHES = f"""
titles = titles()
for start in range(0, len(titles), {BATCH}):
    add(titles[start : start + {BATCH}])
"""
ADD_SINGLY = """
for title in titles():
    add([title])
"""
OTHERS = {
    "OdooRPC": """
import odoorpc, urllib.parse
server = urllib.parse.urlsplit(url)
odoo = odoorpc.ODOO(server.hostname, port=server.port)
odoo.login(db, user, pwd)
books = odoo.env["library.book"].search_read(domain, ["name"])
""",
    "ERPpeek": """
import erppeek
client = erppeek.Client(url, db, user, pwd)
books = client.execute("library.book", "search_read", domain, ["name"])
""",
    "Odooly": """
import odooly
client = odooly.Client(url, db, user, pwd)
books = client.env.execute("library.book", "search_read", domain, ["name"])
""",
}

# --- Measuring -----------------------------------------------------------------------------------


class Failure(Exception):
    """The benchmark can't go on."""


class Job(NamedTuple):
    """A process to measure."""

    name: str
    argv: Sequence[str]
    lines: int  # that it prints if all is well


class Run(NamedTuple):
    """What a process took."""

    seconds: float
    first: float  # seconds until it printed something
    peak: float  # MiB of memory


class Bench:
    """A catalogue of BOOKS books, and a folder of what is measured on it."""

    def __init__(self, url: str, folder: Path, rounds: int, quick: bool) -> None:
        self.folder = folder
        self.rounds = 1 if quick else rounds
        self.long_rounds = 1 if quick else max(3, rounds // 4)
        self.sizes = (1000, 10_000) if quick else (1000, 10_000, BOOKS)
        common = xmlrpc.client.ServerProxy(f"{url}/xmlrpc/2/common")
        databases = xmlrpc.client.ServerProxy(f"{url}/xmlrpc/2/db")
        if not databases.db_exist(DB):
            report(f"making the database {DB}")
            databases.duplicate_database("admin", "odoo-dev", DB)
        self.version: Any = common.version()
        self._uid: Any = common.authenticate(DB, "admin", "admin", {})
        self._object = xmlrpc.client.ServerProxy(f"{url}/xmlrpc/2/object")
        # Of the user's environment PATH alone. PYTHONDONTWRITEBYTECODE would have each command
        # compile library_xmlrpc.py, and PYTHONUNBUFFERED write each line by itself: some machines
        # set them, an ordinary user has neither.
        self._environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            **{"ODOO_URL": url, "ODOO_DB": DB, "ODOO_USER": "admin", "ODOO_PASSWORD": "admin"},
            "ODOO_UID": str(self._uid),
        }
        for module in ("library.py", "library_xmlrpc.py"):  # which may be edited meanwhile
            shutil.copy(CHECKOUT / module, folder)
        self.fill()
        self.run(self.client("warm-up", 1, "list", "--limit", "1"))  # keeps bytecode and uid
        self.others = {name: SETTINGS + OTHERS[name] + SHOW for name in OTHERS if self._has(name)}

    def _has(self, name: str) -> bool:
        argv = (sys.executable, "-c", f"import {name.lower()}")
        return not subprocess.run(argv, env=self._environ, stderr=subprocess.DEVNULL).returncode

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        params = (DB, self._uid, "admin", "library.book", method, args, kwargs)
        return self._object.execute_kw(*params)

    def fill(self) -> None:
        self.trim()
        for start in range(self.call("search_count", []), BOOKS, BATCH):
            report(f"filling the database {DB}: {start} of {BOOKS} books")
            numbers = range(start, min(start + BATCH, BOOKS))
            self.call("create", [{"name": make_title(number)} for number in numbers])

    def trim(self) -> None:
        """Delete what was added to the BOOKS oldest books."""
        while ids := self.call("search", [], order="id", offset=BOOKS, limit=10_000):
            self.call("unlink", ids)

    def client(self, name: str, lines: int, *args: str) -> Job:
        return Job(name, (sys.executable, str(self.folder / "library.py"), *args), lines)

    def script(self, name: str, lines: int, script: str, *args: str) -> Job:
        path = self.folder / f"{name} script.py"
        path.write_text(script, encoding="utf-8")
        return Job(name, (sys.executable, str(path), *args), lines)

    def titles(self, count: int) -> str:
        """The path of a file of titles."""
        path = self.folder / f"{count} titles"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{make_title(number)}\n" for number in range(count))
        return str(path)

    def run(self, job: Job) -> Run:
        """Run a process to its end, its output to a pipe. Raises Failure."""
        # Linux counts a parent's own peak of memory as its child's too: so this process keeps
        # small, and holds neither outputs nor all the titles.
        first, lines, started = 0.0, 0, time.perf_counter()
        pipe = subprocess.PIPE
        with subprocess.Popen(job.argv, env=self._environ, stdout=pipe, stderr=pipe) as process:
            assert process.stdout and process.stderr
            while chunk := os.read(process.stdout.fileno(), 65536):
                first = first or time.perf_counter() - started
                lines += chunk.count(b"\n")
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode or lines != job.lines:
                complaint = process.stderr.read().decode(errors="replace")
                raise Failure(f"{job.name}: {lines} lines instead of {job.lines}\n{complaint}")
        return Run(seconds, first, usage.ru_maxrss / 1024)

    def measure(self, what: str, rounds: int, jobs: Sequence[Job]) -> dict[str, Run]:
        """Run the jobs in turn, `rounds` times, and give the medians by the jobs' names."""
        runs: dict[str, list[Run]] = {job.name: [] for job in jobs}
        for number in range(1, rounds + 1):
            report(f"{what}: round {number} of {rounds}")
            for job in jobs:
                runs[job.name].append(self.run(job))
            self.trim()
        return {name: Run(*map(statistics.median, zip(*runs[name]))) for name in runs}


def report(step: str) -> None:
    print(f"bench: {step}", file=sys.stderr, flush=True)


def make_title(number: int) -> str:
    """The title of the book of this number, the same each time; of 5,000, one contains "moby"."""
    chance = random.Random(number)
    words = chance.choices(WORDS.split(), k=chance.randint(2, 7))
    if number % 5000 == 2500:
        words.append("Moby")
    return f"{' '.join(words).capitalize()}, {chance.randint(1500, 2030)}"


# --- The sections: each measures and gives rows of the table -------------------------------------


class Row(NamedTuple):
    """A comparison of medians, whose goal is from `low` to `high`."""

    what: str
    against: str
    value: float  # a ratio, unless there is a unit
    medians: str
    low: float = 0
    high: float = math.inf
    unit: str = ""

    def cells(self) -> tuple[str, ...]:
        def show(value: float) -> str:
            return f"{value:.2f}" if value < 10 else f"{value:.0f}{self.unit}"

        goals = [f">= {show(self.low)}"] if self.low else []
        goals += [f"<= {show(self.high)}"] if self.high < math.inf else []
        met = self.low <= self.value <= self.high
        verdict = ("ok" if met else "missed") if goals else ""
        return self.what, self.against, show(self.value), ", ".join(goals), verdict, self.medians


def ms(*seconds: float) -> str:
    digits = 0 if min(seconds) > 0.01 else 3
    return " / ".join(f"{each * 1e3:.{digits}f}" for each in seconds)


def beside(what: str, times: dict[str, Run], goals: dict[str, float]) -> Iterator[Row]:
    """The time of the first of `times` beside each of the others."""
    mine, *others = (run.seconds for run in times.values())
    for name, other in zip(list(times)[1:], others):
        medians = f"{ms(mine, other)} ms"
        yield Row(what, name, mine / other, medians, high=goals.get(name, math.inf))


def short(bench: Bench, command: str, lines: int, script: str, *args: str) -> dict[str, Run]:
    """What a command for one book or a few takes, and scripts that do the same."""
    jobs = [
        bench.client("client", lines, command, *args),
        bench.script("one call, uid known", lines, UID_KNOWN + script, *args),
        bench.script("one call after a login", lines, LOGIN + script, *args),
    ]
    if script is LIST:
        jobs += [bench.script(name, lines, other, *args) for name, other in bench.others.items()]
    return bench.measure(command, bench.rounds, jobs)


def section_a(bench: Bench) -> Iterator[Row]:
    found = bench.call("search_count", [["name", "ilike", "moby"]])
    goals = {"one call, uid known": 1.10}
    if bench.version["server_version_info"][0] >= 17:  # a login is costly since
        goals["one call after a login"] = 0.30
    yield from beside("list moby", short(bench, "list", found, LIST, "moby"), goals)


def section_b(bench: Bench) -> Iterator[Row]:
    title = "The Confidence-Man"
    yield from beside("add", short(bench, "add", 1, ADD, title), {})
    id = bench.call("search", [["name", "not ilike", "moby"]], order="id", limit=1)[0]
    times = short(bench, "set", 1, SET, str(id), title)
    yield from beside("set (makes two calls)", times, {})


def section_c(bench: Bench) -> Iterator[Row]:
    many, few = 10_000, 500
    jobs = [
        bench.client("client", many, "add", "--file", bench.titles(many)),
        bench.script("the same batches", many, UID_KNOWN + ADD_BATCHES, bench.titles(many)),
        bench.script("a call a title", few, UID_KNOWN + ADD_SINGLY, bench.titles(few)),
    ]
    times = bench.measure("add --file", bench.long_rounds, jobs)
    singly, mine = times.pop("a call a title").seconds / few, times["client"].seconds / many
    yield from beside(f"add --file, {many} titles", times, {"the same batches": 1.20})
    medians = f"{ms(singly, mine)} ms a title"
    yield Row("a call a title", f"add --file, {many} titles", singly / mine, medians, low=15)


def section_d(bench: Bench) -> Iterator[Row]:
    jobs = [
        bench.client("client", BOOKS, "list"),
        bench.script("one search_read", BOOKS, UID_KNOWN + LIST),
        *(bench.script(name, BOOKS, other) for name, other in bench.others.items()),
    ]
    times = bench.measure("list", bench.long_rounds, jobs)
    what, mine, raw = f"list, {BOOKS} books", times["client"], times["one search_read"]
    peaks = " / ".join(f"{run.peak:.0f}" for run in times.values()) + " MiB"
    yield from beside(what, times, {"one search_read": 0.85})
    medians = f"{ms(mine.first, raw.first)} ms"
    yield Row(f"{what}: first row", "one search_read", mine.first / raw.first, medians, high=0.10)
    yield Row(f"{what}: memory", "(those above)", mine.peak, peaks, high=40, unit=" MiB")


def section_e(bench: Bench) -> Iterator[Row]:
    yield from growth(bench, "list", lambda size: ("list", "--limit", str(size)))
    yield from growth(bench, "add", lambda size: ("add", "--file", bench.titles(size)))


def growth(bench: Bench, verb: str, arguments: Callable[[int], Sequence[str]]) -> Iterator[Row]:
    """The time per book beside that of the largest number, both less the time for one book.

    At 1,000 books that one's time, of Python's start and the imports, would be most of all.
    """
    jobs = [bench.client(str(size), size, *arguments(size)) for size in (1, *bench.sizes)]
    # The short ones, where noise is a larger part, four times as often as the long one.
    times = bench.measure(f"{verb} by size", bench.long_rounds, jobs[:-1] * 4 + jobs[-1:])
    start, *rest = (run.seconds for run in times.values())
    *smaller, largest = ((run - start) / (size - 1) for run, size in zip(rest, bench.sizes))
    for size, mine in zip(bench.sizes, smaller):
        what, medians = f"{verb}, per book of {size}", f"{ms(mine, largest)} ms a book"
        yield Row(what, f"of {bench.sizes[-1]}", mine / largest, medians, low=0.85, high=1.15)


SECTIONS = {"a": section_a, "b": section_b, "c": section_c, "d": section_d, "e": section_e}


def print_table(rows: Sequence[Row]) -> None:
    titles = ("what", "against", "ratio", "goal", "", "medians")
    table = [titles, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    table.insert(1, tuple("-" * width for width in widths))
    for line in table:
        print("|", " | ".join(cell.ljust(width) for cell, width in zip(line, widths)), "|")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what the client costs on a real server.")
    parser.add_argument("--rounds", type=int, default=15, help="of the short commands (15)")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections: a,b,c,d,e")
    parser.add_argument("--quick", action="store_true", help="a trial: one round, less in e")
    args = parser.parse_args(argv)
    sections = args.only.split(",")
    if args.rounds < 1 or not SECTIONS.keys() >= set(sections):
        parser.error(f"--rounds takes 1 or more, --only some of {','.join(SECTIONS)}")
    url = os.environ.get("ODOO_TEST_URL")
    if not url:
        print("bench: error: no ODOO_TEST_URL: run it by tests/real_odoo", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        try:
            bench = Bench(url, Path(folder), args.rounds, args.quick)
            rows = [row for section in sections for row in SECTIONS[section](bench)]
        except (Failure, OSError, xmlrpc.client.Error) as error:
            print(f"bench: error: {error}", file=sys.stderr)
            return 2
    print_table(rows)
    print(
        f"\n{datetime.date.today()}, Python {platform.python_version()}, "
        f"Odoo {bench.version['server_version']}, {bench.rounds} rounds, "
        f"{bench.long_rounds} of c, d and e"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
