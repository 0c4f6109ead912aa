#!/usr/bin/env python3
"""Measure what the client costs on a real server, beside the least that its work can cost:

    export ODOO_TEST_DB_FILTER=odoo-bench
    tests/real_odoo 19 python3 tests/bench.py
    tests/real_odoo 19 --workers 3 python3 tests/bench.py --only a d --rounds 5

library.py is compared with scripts that do the same on bare xmlrpc.client (the uid known, or with
a login first), with OdooRPC, ERPpeek and Odooly where this Python has them, with its edition on
JSON-2, and with the library.py of another checkout where --beside names one. Section g measures
down the line: through nginx with TLS, which has to be installed, and a round trip of 50 ms.

It happens in a database of 100,000 books, and for growth in smaller ones too, made on the first run
and kept. What is compared runs in turn, a process each, and medians count, so that what else the
machine does strikes all alike. Times differ from machine to machine; their ratios, which the table
shows, much less. A missed goal is a finding, no failure: the exit status is 0.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.line import Line
from tests.nginx import CERTIFICATES, NGINX, Nginx

CHECKOUT = Path(__file__).resolve().parent.parent
CLIENT, JSON2 = "library.py", "tests/library_json2.py"
BOOKS, MOBY, BATCH = 100_000, 20, 1000  # books, those whose title has "Moby", in a request
WORDS = """the of and in a old new white black lost last first night day sea whale house garden
winter summer river road city island king queen captain doctor stranger daughter brother letter
history art war peace love death memory silence shadow light fire stone glass paper"""

# What the client is compared with: scripts, with its settings and output.
SETTINGS = """
import os, sys
url, db, user, pwd = (os.environ["ODOO_" + name] for name in ("URL", "DB", "USER", "PASSWORD"))
domain = [["name", "ilike", title] for title in sys.argv[1:]]
"""
BARE = """
import argparse  # as each command line does
import xmlrpc.client
proxy = xmlrpc.client.ServerProxy(url + "/xmlrpc/2/object")

def call(method, *args, **kwargs):
    return proxy.execute_kw(db, uid, pwd, "library.book", method, args, kwargs)

def add(titles, size=1):
    for start in range(0, len(titles), size):
        batch = titles[start : start + size]
        for id, title in zip(call("create", [{"name": title} for title in batch]), batch):
            print(f"Book added with ID {id} for title {title}.")
        sys.stdout.flush()

common = xmlrpc.client.ServerProxy(url + "/xmlrpc/2/common")
"""
LOGIN = SETTINGS + BARE + "uid = common.authenticate(db, user, pwd, {})\n"
UID_KNOWN = SETTINGS + BARE + "uid = 2\n"
SHOW = "for book in books: print(book['id'], book['name'])"
LIST = "books = call('search_read', domain, fields=['name'])\n" + SHOW
ADD = "add(sys.argv[1:])"
ADD_FILE = "add(open(sys.argv[1], encoding='utf-8').read().splitlines(), {})"
SET = """
call("write", [int(sys.argv[1])], {"name": sys.argv[2]})
print(f"Title of Book ID {sys.argv[1]} set to {sys.argv[2]}.")
"""
SET_FILE = """
import json
for line in open(sys.argv[1], encoding="utf-8"):
    id, title = json.loads(line).values()
    call("write", [id], {"name": title})
    print(f"Title of Book ID {id} set to {title}.", flush=True)
"""
OTHERS = {
    "OdooRPC": """
import odoorpc
protocol = "jsonrpc+ssl" if url.startswith("https:") else "jsonrpc"
odoo = odoorpc.ODOO("127.0.0.1", protocol, int(url.split(":")[-1]))
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


class Job(NamedTuple):
    """A process to measure."""

    name: str
    lines: int  # that it prints if all is well
    argv: Sequence[str]  # of Python
    environ: Mapping[str, str] = {}  # beside the Bench's


class Run(NamedTuple):
    """What a process took."""

    seconds: float
    first: float  # seconds until it printed something
    peak: float  # MiB of memory
    connections: float  # that it made down the line


def others(lines: int, *args: str) -> list[Job]:
    """The scripts on other libraries, where they are installed."""
    found = [name for name in OTHERS if importlib.util.find_spec(name.lower())]
    return [Job(name, lines, ("-c", SETTINGS + OTHERS[name] + SHOW, *args)) for name in found]


class Bench:
    """A server with catalogues of books, and the home folder of what is measured on it."""

    def __init__(self, url: str, home: str, rounds: int, quick: bool, beside: str | None) -> None:
        self._url, self._home = url, home
        self._line: Line | None = None  # see down_the_line
        self._clients = {"client": CLIENT}
        if beside:
            self._clients["client beside"] = os.path.abspath(beside)
        self.rounds, self.long_rounds = (1, 1) if quick else (rounds, max(3, rounds // 4))
        self.sizes = (1000, 10_000) if quick else (1000, 10_000, BOOKS)
        self.workers = int(os.environ["ODOO_TEST_WORKERS"])
        self.version = int(os.environ["ODOO_TEST_VERSION"])
        # Without PYTHONDONTWRITEBYTECODE and PYTHONUNBUFFERED, which some machines set, and which
        # would have each command compile library_xmlrpc.py, and write each line by itself.
        self._environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": home}
        self._environ.update(ODOO_URL=url, ODOO_USER="admin", ODOO_PASSWORD="admin")
        self._ready: list[int] = []
        self._environ["ODOO_DB"] = self.catalogue(BOOKS)

    def call(self, size: int, method: str, *args: Any, **kwargs: Any) -> Any:
        server = xmlrpc.client.ServerProxy(f"{self._url}/xmlrpc/2/object")  # a thread's own
        params = (f"odoo-bench-{size}", 2, "admin", "library.book", method, args, kwargs)
        return server.execute_kw(*params)

    def catalogue(self, size: int) -> str:
        """The name of a database of so many books, made on the first run and kept."""
        db = f"odoo-bench-{size}"
        if size in self._ready:
            return db
        databases = xmlrpc.client.ServerProxy(f"{self._url}/xmlrpc/2/db")
        if not databases.db_exist(db):
            report(f"making the database {db}, which takes a while")
            databases.duplicate_database("admin", "odoo-dev", db)
        self.trim(size)
        for start in range(self.call(size, "search_count", []), size, BATCH):
            numbers = range(start, min(start + BATCH, size))
            self.call(size, "create", [{"name": make_title(number)} for number in numbers])
        with ThreadPoolExecutor(2 * self.workers or 1) as pool:  # so that each loads the database
            list(pool.map(lambda _: self.call(size, "search_count", []), range(10 * self.workers)))
        self.warm_up({"ODOO_DB": db})
        self._ready.append(size)
        return db

    def clients(self, lines: int, *args: str) -> list[Job]:
        """The client with these arguments, and the one beside it."""
        return [Job(name, lines, (path, *args)) for name, path in self._clients.items()]

    def warm_up(self, environ: Mapping[str, str]) -> None:
        """Have the clients keep their bytecode and the uid."""
        for job in self.clients(1, "list", "--limit", "1"):
            self.run(job._replace(environ=environ))

    @contextlib.contextmanager
    def down_the_line(self) -> Iterator[None]:
        """Have what is measured reach the server over TLS, through nginx, and far away."""
        near = self._environ
        with Nginx(self._url, tls=True) as nginx, Line(nginx.address) as self._line:
            far = {
                "ODOO_URL": f"https://127.0.0.1:{self._line.address[1]}",
                "SSL_CERT_FILE": f"{CERTIFICATES}/authority.pem",
            }
            self._environ = {**near, **far}
            self.warm_up({})
            yield
        self._environ, self._line = near, None

    def trim(self, size: int) -> None:
        """Delete what was added to the oldest books."""
        while ids := self.call(size, "search", [], order="id", offset=size, limit=10_000):
            self.call(size, "unlink", ids)

    def titles(self, count: int) -> str:
        """The path of a file of titles."""
        path = f"{self._home}/{count} titles"
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{make_title(number)}\n" for number in range(count))
        return path

    def books(self, titles: Mapping[int, str]) -> str:
        """The path of a new file of books with these titles, by ID, as `list --json` prints it."""
        with tempfile.NamedTemporaryFile("w", dir=self._home, delete=False) as file:
            for id, title in titles.items():
                file.write(json.dumps({"id": id, "name": title}) + "\n")
        return file.name

    def run(self, job: Job) -> Run:
        """Run a process to its end, its output to a pipe. Raises RuntimeError where it fails."""
        # Linux counts a parent's peak of memory as its child's too: so this process keeps small.
        first, lines, started = 0.0, 0, time.perf_counter()
        earlier = self._line.connections if self._line else 0
        argv, environ = (sys.executable, *job.argv), {**self._environ, **job.environ}
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, cwd=CHECKOUT, env=environ, stdout=pipe, stderr=pipe) as process:
            assert process.stdout and process.stderr
            while chunk := os.read(process.stdout.fileno(), 65536):
                first = first or time.perf_counter() - started
                lines += chunk.count(b"\n")
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode or lines != job.lines:
                complaint = process.stderr.read().decode(errors="replace")
                raise RuntimeError(f"{job.name}: {lines} lines instead of {job.lines}\n{complaint}")
        connections = self._line.connections - earlier if self._line else 0
        return Run(seconds, first, usage.ru_maxrss / 1024, connections)

    def measure(self, what: str, rounds: int, jobs: Sequence[Job]) -> dict[str, Run]:
        """Run the jobs in turn, `rounds` times, and give the medians by the jobs' names."""
        runs: dict[str, list[Run]] = {job.name: [] for job in jobs}
        for number in range(1, rounds + 1):
            report(f"{what}: round {number} of {rounds}")
            for job in jobs:
                runs[job.name].append(self.run(job))
                for size in self._ready:
                    self.trim(size)
        return {name: Run(*map(statistics.median, zip(*runs[name]))) for name in runs}

    def short(self, what: str, lines: int, text: str, *args: str) -> dict[str, Run]:
        """What a command for one book or a few takes, and scripts that do the same."""
        jobs = [
            *self.clients(lines, what, *args),
            Job("one call, uid known", lines, ("-c", UID_KNOWN + text, *args)),
            Job("one call after a login", lines, ("-c", LOGIN + text, *args)),
        ]
        if text is LIST:
            jobs += others(lines, *args)
        return self.measure(what, self.rounds, jobs)


def report(step: str) -> None:
    print(f"bench: {step}", file=sys.stderr, flush=True)


def make_title(number: int) -> str:
    """The title of the book of this number, the same each time."""
    chance = random.Random(number)
    words = chance.choices(WORDS.split(), k=chance.randint(2, 7))
    words += ["Moby"] * (number % (BOOKS // MOBY) == 2500)
    return f"{' '.join(words).capitalize()}, {chance.randint(1500, 2030)}"


def print_row(
    what: str, against: str, ratio: float, medians: str, low: float = 0, high: float = math.inf
) -> None:
    """A comparison of medians, whose goal is from `low` to `high`."""
    goal = ", ".join([f">= {low:.2f}"] * (low > 0) + [f"<= {high:.2f}"] * (high < math.inf))
    goal += (": ok" if low <= ratio <= high else ": missed") if goal else ""
    print(f"| {what:33} | {against:26} | {ratio:6.2f} | {goal:24} | {medians} |", flush=True)


def ms(*seconds: float) -> str:
    return " / ".join(f"{each * 1e3:.3f}" for each in seconds) + " ms"


def compare(what: str, times: dict[str, Run], goals: Mapping[str, float]) -> None:
    """The time of the first of `times` beside each of the others."""
    mine, *rest = times.values()
    for name, other in zip(list(times)[1:], rest):
        medians = ms(mine.seconds, other.seconds)
        if mine.connections:
            medians += f", {mine.connections:.0f} / {other.connections:.0f} connections"
        ratio = mine.seconds / other.seconds
        print_row(what, name, ratio, medians, high=goals.get(name, math.inf))


def section_a(bench: Bench) -> None:
    goals = {"one call, uid known": 1.10}
    if bench.version >= 17:  # a login is costly since
        goals["one call after a login"] = 0.30
    compare("list moby", bench.short("list", MOBY, LIST, "moby"), goals)


def section_b(bench: Bench) -> None:
    title = "The Confidence-Man"
    compare("add", bench.short("add", 1, ADD, title), {})
    (id,) = bench.call(BOOKS, "search", [], order="id", limit=1)
    compare("set (two calls)", bench.short("set", 1, SET, str(id), title), {})


def section_c(bench: Bench) -> None:
    many, few = 10_000, 500
    batches, singly = (UID_KNOWN + ADD_FILE.format(size) for size in (BATCH, 1))
    jobs = [
        *bench.clients(many, "add", "--file", bench.titles(many)),
        Job("the same batches", many, ("-c", batches, bench.titles(many))),
        Job("a call a title", few, ("-c", singly, bench.titles(few))),
    ]
    times = bench.measure("add --file", bench.long_rounds, jobs)
    single, mine = times.pop("a call a title").seconds / few, times["client"].seconds / many
    what = f"add --file, {many} titles"
    compare(what, times, {"the same batches": 1.20})
    print_row("a call a title", what, single / mine, f"{ms(single, mine)} a title", low=15)

    compare_set_file(bench, "set --file")


def compare_set_file(bench: Bench, what: str) -> None:
    """The time for a title of many that change, beside that of a call for each.

    Each run changes all its books: they have two titles in turn, in the end the first ones again.
    """
    many, few, against = 10_000, 500, "a call a title, uid known"
    ids = bench.call(BOOKS, "search", [], order="id", limit=many + few)
    jobs = []
    for mark in (f" {int(time.time())}", ""):  # which an earlier run can't have left behind
        titles = {id: f"{make_title(number)}{mark}" for number, id in enumerate(ids)}
        mine, others = ({id: titles[id] for id in part} for part in (ids[:many], ids[many:]))
        jobs.append(Job("client", many, (CLIENT, "set", "--file", bench.books(mine))))
        jobs.append(Job(against, few, ("-c", UID_KNOWN + SET_FILE, bench.books(others))))
    times = bench.measure(what, bench.long_rounds, jobs)
    counts = zip(times.items(), (many, few))
    each = {name: run._replace(seconds=run.seconds / count) for (name, run), count in counts}
    compare(f"{what}, a title of {many}", each, {against: 0.08})


def section_d(bench: Bench) -> None:
    jobs = [
        *bench.clients(BOOKS, "list"),
        Job("one search_read", BOOKS, ("-c", UID_KNOWN + LIST)),
        *others(BOOKS),
    ]
    times = bench.measure("list", bench.long_rounds, jobs)
    what, mine, raw = f"list, {BOOKS} books", times["client"], times["one search_read"]
    goals = {"one search_read": 0.60, "OdooRPC": 1.1, "Odooly": 1.1}
    if bench.version >= 19:  # where pages by ID cost a single process much more than all at once
        goals = {**goals, "one search_read": 0.55} if bench.workers else {"one search_read": 0.70}
    compare(what, times, goals)
    medians, first = ms(mine.first, raw.first), mine.first / raw.first
    print_row(f"{what}: first row", "one search_read", first, medians, high=0.05)
    peaks = " / ".join(f"{run.peak:.0f}" for run in times.values()) + " MiB"
    print_row(f"{what}: MiB", "(those above)", mine.peak, peaks, high=40)


def section_e(bench: Bench) -> None:
    """The time per book in catalogues that a command lists, or doubles, beside the largest's.

    Both are less the time for one: at 1,000 that, of Python's start, would be most of all.
    """
    for verb in ("list", "add"):
        jobs = []
        for size in (1, *bench.sizes):
            args = ("list",) if verb == "list" else ("add", "--file", bench.titles(size))
            environ = {"ODOO_DB": bench.catalogue(size)}
            jobs.append(Job(str(size), size, (CLIENT, *args), environ))
        # The short ones, where noise is a larger part, four times as often as the long one.
        times = bench.measure(f"{verb} by size", bench.long_rounds, jobs[:-1] * 4 + jobs[-1:])
        start, *rest = (run.seconds for run in times.values())
        *smaller, largest = ((run - start) / (size - 1) for run, size in zip(rest, bench.sizes))
        for size, mine in zip(bench.sizes, smaller):
            what, medians = f"{verb}, per book of {size}", f"{ms(mine, largest)} a book"
            against = f"of {bench.sizes[-1]}"
            print_row(what, against, mine / largest, medians, low=0.85, high=1.15)


def section_f(bench: Bench) -> None:
    if bench.version < 19:
        return
    key = {"ODOO_API_KEY": os.environ["ODOO_TEST_KEY_ADMIN"]}
    bench.run(Job("warm-up", 1, (JSON2, "list", "--limit", "1"), key))
    few, many, titles = bench.rounds, bench.long_rounds, bench.titles(10_000)
    for what, rounds, lines, *args in (
        ("list moby", few, MOBY, "list", "moby"),
        (f"list, {BOOKS} books", many, BOOKS, "list"),
        ("add", few, 1, "add", "The Confidence-Man"),
        ("add --file, 10000 titles", many, 10_000, "add", "--file", titles),
    ):
        json2 = Job("JSON-2", lines, (JSON2, *args), key)
        jobs = [json2, Job("XML-RPC", lines, (CLIENT, *args))]
        compare(f"{what}: JSON-2", bench.measure(what, rounds, jobs), {})


def section_g(bench: Bench) -> None:
    """Down the line, where a connection and a login cost a script more than its work."""
    if not NGINX:
        report("section g is left out: it needs nginx, Debian's nginx-light")
        return
    name, many, title = "xmlrpc.client with a login", 10_000, "The Confidence-Man"
    (id,) = bench.call(BOOKS, "search", [], order="id", limit=1)
    add_file = ADD_FILE.format(BATCH)
    with bench.down_the_line():
        for what, lines, text, goals, command, *operands in (
            ("list moby", MOBY, LIST, (0.58, 0.42), "list", "moby"),
            ("add", 1, ADD, (0.58, 0.42), "add", title),
            ("set", 1, SET, (0.72, 0.50), "set", str(id), title),
            (f"add --file, {many}", many, add_file, (0.98, 0.80), "add --file", bench.titles(many)),
            (f"list, {BOOKS} books", BOOKS, LIST, (0.78, 0.78), "list"),
        ):
            jobs = bench.clients(lines, *command.split(), *operands)
            jobs.append(Job(name, lines, ("-c", LOGIN + text, *operands)))
            if text is LIST:
                jobs += others(lines, *operands)
            rounds = bench.rounds if lines <= MOBY else bench.long_rounds
            times = bench.measure(f"{what}, down the line", rounds, jobs)
            # A login is costly since Odoo 17.
            compare(f"far: {what}", times, {name: goals[bench.version >= 17]})
        compare_set_file(bench, "far: set --file")


SECTIONS = {
    "a": section_a,
    "b": section_b,
    "c": section_c,
    "d": section_d,
    "e": section_e,
    "f": section_f,
    "g": section_g,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the client costs on a real server.")
    parser.add_argument("--rounds", type=int, default=15, help="of the short commands (15)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections")
    parser.add_argument("--quick", action="store_true", help="a trial: one round, less in e")
    parser.add_argument("--beside", metavar="PATH", help="of another library.py, to compare")
    args = parser.parse_args()
    url = os.environ.get("ODOO_TEST_URL")
    if not url or "ODOO_TEST_DB_FILTER" not in os.environ:  # Odooly and JSON-2 need the filter
        parser.error("run it by tests/real_odoo, with ODOO_TEST_DB_FILTER=odoo-bench")
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(url, home, args.rounds, args.quick, args.beside)
        print("| what | against | ratio | goal | medians |\n| --- | --- | --- | --- | --- |")
        for section in args.only:
            SECTIONS[section](bench)
    print(
        f"\n{datetime.date.today()}, Python {platform.python_version()}, Odoo {bench.version} with "
        f"{bench.workers or 'no'} workers, {bench.rounds} rounds, {bench.long_rounds} of long ones"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
