#!/usr/bin/env python3
"""Measure what the client costs on a real server, beside the least that its work can cost:

    export ODOO_TEST_DB_FILTER=odoo-bench
    tests/real_odoo 19 python3 tests/bench.py
    tests/real_odoo 19 --workers 3 python3 tests/bench.py --only a,d --rounds 5

library.py is compared with scripts that do the same on bare xmlrpc.client (the uid known, or with
a login first), with OdooRPC, ERPpeek and Odooly where this Python has them, and with its edition
on JSON-2. It happens in a database of 100,000 books, odoo-bench-100000, and for growth in smaller
ones too, made on the first run and kept; Odooly and JSON-2 need the filter to find them. What is
compared runs in turn, a process each, and medians count, so that what else the machine does
strikes all alike. Times differ from machine to machine; their ratios, which the table shows, much
less. A missed goal is a finding, no failure: the exit status is 0.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
CLIENT, JSON2 = "library.py", "tests/library_json2.py"
BOOKS, MOBY, BATCH = 100_000, 20, 1000  # books, those whose title has "Moby", in a request
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

def add_file(size):
    with open(sys.argv[1], encoding="utf-8") as file:
        titles = file.read().splitlines()
    for start in range(0, len(titles), size):
        add(titles[start : start + size])
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


class Job(NamedTuple):
    """A process to measure."""

    name: str
    argv: Sequence[str]
    lines: int  # that it prints if all is well
    environ: Mapping[str, str]  # beside the Bench's


class Run(NamedTuple):
    """What a process took."""

    seconds: float
    first: float  # seconds until it printed something
    peak: float  # MiB of memory


class Catalogue:
    """A database of so many books, made on the first run and kept."""

    def __init__(self, url: str, size: int, workers: int) -> None:
        self.db, self.size = f"odoo-bench-{size}", size
        self._url = f"{url}/xmlrpc/2"
        databases = xmlrpc.client.ServerProxy(f"{self._url}/db")
        if not databases.db_exist(self.db):
            report(f"making the database {self.db}, which takes a while")
            databases.duplicate_database("admin", "odoo-dev", self.db)
        common = xmlrpc.client.ServerProxy(f"{self._url}/common")
        self.uid: Any = common.authenticate(self.db, "admin", "admin", {})
        self.trim()
        for start in range(self.call("search_count", []), size, BATCH):
            numbers = range(start, min(start + BATCH, size))
            self.call("create", [{"name": make_title(number)} for number in numbers])
        with ThreadPoolExecutor(2 * workers or 1) as pool:  # so that each loads the database
            list(pool.map(lambda _: self.call("search_count", []), range(10 * workers)))

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        server = xmlrpc.client.ServerProxy(f"{self._url}/object")  # which is one thread's own
        params = (self.db, self.uid, "admin", "library.book", method, args, kwargs)
        return server.execute_kw(*params)

    def trim(self) -> None:
        """Delete what was added to the oldest books."""
        while ids := self.call("search", [], order="id", offset=self.size, limit=10_000):
            self.call("unlink", ids)


class Bench:
    """A server with catalogues, the largest at hand, and a folder of what is measured on it."""

    def __init__(self, url: str, folder: Path, rounds: int, quick: bool) -> None:
        self._url, self.folder = url, folder
        self.rounds = 1 if quick else rounds
        self.long_rounds = 1 if quick else max(3, rounds // 4)
        self.sizes = (1000, 10_000) if quick else (1000, 10_000, BOOKS)
        self.workers = int(os.environ.get("ODOO_TEST_WORKERS", "0"))
        version: Any = xmlrpc.client.ServerProxy(f"{url}/xmlrpc/2/common").version()
        self.version, self.major = version["server_version"], version["server_version_info"][0]
        # Of the user's environment PATH alone. PYTHONDONTWRITEBYTECODE would have each command
        # compile library_xmlrpc.py, and PYTHONUNBUFFERED write each line by itself: some machines
        # set them, an ordinary user has neither.
        self._environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder),
            **{"ODOO_URL": url, "ODOO_USER": "admin", "ODOO_PASSWORD": "admin"},
        }
        (folder / "tests").mkdir()
        for module in (CLIENT, "library_xmlrpc.py", JSON2):  # which may be edited meanwhile
            shutil.copy(CHECKOUT / module, folder / module)
        self._catalogues: dict[int, Catalogue] = {}
        self.books = self.catalogue(BOOKS)
        self._environ.update(ODOO_DB=self.books.db, ODOO_UID=str(self.books.uid))

    def catalogue(self, size: int) -> Catalogue:
        if size not in self._catalogues:
            self._catalogues[size] = made = Catalogue(self._url, size, self.workers)
            job = self.job("warm-up", 1, CLIENT, "list", "--limit", "1", ODOO_DB=made.db)
            self.run(job)  # keeps bytecode and uid
        return self._catalogues[size]

    def job(self, name: str, lines: int, file: str, *args: str, **environ: str) -> Job:
        return Job(name, (sys.executable, str(self.folder / file), *args), lines, environ)

    def script(self, name: str, lines: int, script: str, *args: str) -> Job:
        return Job(name, (sys.executable, "-c", script, *args), lines, {})

    def others(self, lines: int, *args: str) -> list[Job]:
        """The scripts on other libraries, where they are installed."""
        found = [name for name in OTHERS if importlib.util.find_spec(name.lower())]
        return [self.script(name, lines, SETTINGS + OTHERS[name] + SHOW, *args) for name in found]

    def titles(self, count: int) -> str:
        """The path of a file of titles."""
        path = self.folder / f"{count} titles"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{make_title(number)}\n" for number in range(count))
        return str(path)

    def run(self, job: Job) -> Run:
        """Run a process to its end, its output to a pipe. Raises RuntimeError where it fails."""
        # Linux counts a parent's own peak of memory as its child's too: so this process keeps
        # small, and holds neither outputs nor all the titles.
        first, lines, started = 0.0, 0, time.perf_counter()
        pipe, environ = subprocess.PIPE, {**self._environ, **job.environ}
        with subprocess.Popen(job.argv, env=environ, stdout=pipe, stderr=pipe) as process:
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
        return Run(seconds, first, usage.ru_maxrss / 1024)

    def measure(self, what: str, rounds: int, jobs: Sequence[Job]) -> dict[str, Run]:
        """Run the jobs in turn, `rounds` times, and give the medians by the jobs' names."""
        runs: dict[str, list[Run]] = {job.name: [] for job in jobs}
        for number in range(1, rounds + 1):
            report(f"{what}: round {number} of {rounds}")
            for job in jobs:
                runs[job.name].append(self.run(job))
                for catalogue in self._catalogues.values():
                    catalogue.trim()
        return {name: Run(*map(statistics.median, zip(*runs[name]))) for name in runs}


def report(step: str) -> None:
    print(f"bench: {step}", file=sys.stderr, flush=True)


def make_title(number: int) -> str:
    """The title of the book of this number, the same each time."""
    chance = random.Random(number)
    words = chance.choices(WORDS.split(), k=chance.randint(2, 7))
    if number % (BOOKS // MOBY) == 2500:
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

        goals = [f">= {show(self.low)}"] * (self.low > 0)
        goals += [f"<= {show(self.high)}"] * (self.high < math.inf)
        verdict = "ok" if self.low <= self.value <= self.high else "missed"
        goal = (", ".join(goals), verdict) if goals else ("", "")
        return self.what, self.against, show(self.value), *goal, self.medians


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
        bench.job("client", lines, CLIENT, command, *args),
        bench.script("one call, uid known", lines, UID_KNOWN + script, *args),
        bench.script("one call after a login", lines, LOGIN + script, *args),
    ]
    if script is LIST:
        jobs += bench.others(lines, *args)
    return bench.measure(command, bench.rounds, jobs)


def section_a(bench: Bench) -> Iterator[Row]:
    goals = {"one call, uid known": 1.10}
    if bench.major >= 17:  # a login is costly since
        goals["one call after a login"] = 0.30
    yield from beside("list moby", short(bench, "list", MOBY, LIST, "moby"), goals)


def section_b(bench: Bench) -> Iterator[Row]:
    title = "The Confidence-Man"
    yield from beside("add", short(bench, "add", 1, ADD, title), {})
    id = bench.books.call("search", [["name", "not ilike", "moby"]], order="id", limit=1)[0]
    yield from beside("set (two calls)", short(bench, "set", 1, SET, str(id), title), {})


def section_c(bench: Bench) -> Iterator[Row]:
    many, few = 10_000, 500
    batches, singly = (UID_KNOWN + f"add_file({size})" for size in (BATCH, 1))
    jobs = [
        bench.job("client", many, CLIENT, "add", "--file", bench.titles(many)),
        bench.script("the same batches", many, batches, bench.titles(many)),
        bench.script("a call a title", few, singly, bench.titles(few)),
    ]
    times = bench.measure("add --file", bench.long_rounds, jobs)
    single, mine = times.pop("a call a title").seconds / few, times["client"].seconds / many
    yield from beside(f"add --file, {many} titles", times, {"the same batches": 1.20})
    medians = f"{ms(single, mine)} ms a title"
    yield Row("a call a title", f"add --file, {many} titles", single / mine, medians, low=15)


def section_d(bench: Bench) -> Iterator[Row]:
    jobs = [
        bench.job("client", BOOKS, CLIENT, "list"),
        bench.script("one search_read", BOOKS, UID_KNOWN + LIST),
        *bench.others(BOOKS),
    ]
    times = bench.measure("list", bench.long_rounds, jobs)
    what, mine, raw = f"list, {BOOKS} books", times["client"], times["one search_read"]
    peaks = " / ".join(f"{run.peak:.0f}" for run in times.values()) + " MiB"
    goals = {"one search_read": 0.60, "OdooRPC": 1.1, "Odooly": 1.1}
    if bench.major >= 19:  # where pages by ID cost a single process much more than all at once
        goals = {**goals, "one search_read": 0.55} if bench.workers else {"one search_read": 0.70}
    yield from beside(what, times, goals)
    medians = f"{ms(mine.first, raw.first)} ms"
    yield Row(f"{what}: first row", "one search_read", mine.first / raw.first, medians, high=0.05)
    yield Row(f"{what}: memory", "(those above)", mine.peak, peaks, high=40, unit=" MiB")


def section_e(bench: Bench) -> Iterator[Row]:
    """The time per book in catalogues that a command lists, or doubles, beside the largest's.

    Both are less the time for one: at 1,000 that, of Python's start, would be most of all.
    """
    for verb in ("list", "add"):
        jobs = []
        for size in (1, *bench.sizes):
            args = ("list",) if verb == "list" else ("add", "--file", bench.titles(size))
            db = bench.catalogue(size).db
            jobs.append(bench.job(str(size), size, CLIENT, *args, ODOO_DB=db))
        # The short ones, where noise is a larger part, four times as often as the long one.
        times = bench.measure(f"{verb} by size", bench.long_rounds, jobs[:-1] * 4 + jobs[-1:])
        start, *rest = (run.seconds for run in times.values())
        *smaller, largest = ((run - start) / (size - 1) for run, size in zip(rest, bench.sizes))
        for size, mine in zip(bench.sizes, smaller):
            what, medians = f"{verb}, per book of {size}", f"{ms(mine, largest)} ms a book"
            yield Row(what, f"of {bench.sizes[-1]}", mine / largest, medians, low=0.85, high=1.15)


def section_f(bench: Bench) -> Iterator[Row]:
    if bench.major < 19:
        return
    key = os.environ["ODOO_TEST_KEY_ADMIN"]
    bench.run(bench.job("warm-up", 1, JSON2, "list", "--limit", "1", ODOO_API_KEY=key))
    few, many, titles = bench.rounds, bench.long_rounds, bench.titles(10_000)
    for what, rounds, lines, *args in (
        ("list moby", few, MOBY, "list", "moby"),
        (f"list, {BOOKS} books", many, BOOKS, "list"),
        ("add", few, 1, "add", "The Confidence-Man"),
        ("add --file, 10000 titles", many, 10_000, "add", "--file", titles),
    ):
        json2 = bench.job("JSON-2", lines, JSON2, *args, ODOO_API_KEY=key)
        jobs = [json2, bench.job("XML-RPC", lines, CLIENT, *args)]
        yield from beside(f"{what}: JSON-2", bench.measure(what, rounds, jobs), {})


SECTIONS = dict(zip("abcdef", (section_a, section_b, section_c, section_d, section_e, section_f)))


def print_table(rows: Sequence[Row]) -> None:
    table = [("what", "against", "ratio", "goal", "", "medians"), *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    table.insert(1, tuple("-" * width for width in widths))
    for line in table:
        print("|", " | ".join(cell.ljust(width) for cell, width in zip(line, widths)), "|")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure what the client costs on a real server.")
    parser.add_argument("--rounds", type=int, default=15, help="of the short commands (15)")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections: a,b,c,d,e,f")
    parser.add_argument("--quick", action="store_true", help="a trial: one round, less in e")
    args = parser.parse_args(argv)
    sections = args.only.split(",")
    url = os.environ.get("ODOO_TEST_URL")
    if args.rounds < 1 or not SECTIONS.keys() >= set(sections):
        parser.error(f"--rounds takes 1 or more, --only some of {','.join(SECTIONS)}")
    if not url or "ODOO_TEST_DB_FILTER" not in os.environ:
        parser.error("run it by tests/real_odoo, with ODOO_TEST_DB_FILTER=odoo-bench")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(url, Path(folder), args.rounds, args.quick)
        rows = [row for section in sections for row in SECTIONS[section](bench)]
    print_table(rows)
    print(
        f"\n{datetime.date.today()}, Python {platform.python_version()}, Odoo {bench.version} with "
        f"{bench.workers or 'no'} workers, {bench.rounds} rounds, {bench.long_rounds} of long ones"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
