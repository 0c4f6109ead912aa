#!/usr/bin/env python3
"""Measure what the client costs on a real server, beside other ways to do the same:

    export ODOO_TEST_DB_FILTER=odoo-bench
    tests/real_odoo 19 python3 tests/bench.py
    tests/real_odoo 19 python3 tests/bench.py --beside ../old --only "set --file" --rounds 3

Each command is compared with a plain script on xmlrpc.client, a listing of all books also with
OdooRPC and Odooly, and everything with another checkout if --beside names its folder: on loopback,
and "far", through nginx with TLS on a line with a round trip of 50 ms. Last comes the processor
time of calls. nginx must be installed; OdooRPC and Odooly are left out if they are not.

A database of 100,000 books is made on the first run and kept. What is compared runs in turn, each
time in a new process, and medians count: so other work on the machine slows down all alike. Times
differ from machine to machine, ratios much less. Below 1, the client takes less than the other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.line import Line
from tests.nginx import CERTIFICATES, NGINX, Nginx

CHECKOUT = Path(__file__).resolve().parent.parent
DB, BOOKS, MOBY = "odoo-bench-100000", 100_000, 20  # its books, and those with "Moby" in the title
MANY, FEW = 10_000, 500  # books in a file, and in that of a script that makes a call for each
WORDS = "the of and old white lost night sea whale house winter river city king doctor fire"

# The scripts. Each is given the client's arguments, and prints as many lines.
SETTINGS = """
import os, sys, time
url, db, user, pwd = (os.environ["ODOO_" + name] for name in ("URL", "DB", "USER", "PASSWORD"))
port, domain = int(url.split(":")[2]), [["name", "ilike", title] for title in sys.argv[2:]]
"""
PLAIN = f"""{SETTINGS}
import argparse, json, xmlrpc.client  # argparse as the command line does
common, models = (xmlrpc.client.ServerProxy(url + "/xmlrpc/2/" + s) for s in ("common", "object"))
def call(method, *args, **kwargs):
    return models.execute_kw(db, uid, pwd, "library.book", method, args, kwargs)
def lines():
    return open(sys.argv[3], encoding="utf-8").read().splitlines()
"""
LOGIN = PLAIN + "uid = common.authenticate(db, user, pwd, {})\n"
SHOW = "\nfor book in books: print(book['id'], book['name'])"
LIST = LOGIN + "books = call('search_read', domain, fields=['name'])" + SHOW
ADD = LOGIN + "print('ID', call('create', {'name': sys.argv[2]}))"
SET = LOGIN + "print('Set:', call('write', [int(sys.argv[2])], {'name': sys.argv[3]}))"
ADD_FILE = f"""{LOGIN}
titles = lines()
for at in range(0, len(titles), 1000):
    batch = [{{"name": title}} for title in titles[at : at + 1000]]
    print(*call("create", batch), sep="\\n", flush=True)
"""
# This script has no login: it sets fewer books, so a login would distort the comparison.
SET_FILE = f"""{PLAIN}
uid = 2
for book in map(json.loads, lines()):
    print(book["id"], call("write", [book["id"]], {{"name": book["name"]}}), flush=True)
"""
DEL_FILE = f"""{LOGIN}
ids = [json.loads(line)["id"] for line in lines()]
call("unlink", ids)
print(*ids, sep="\\n")
"""
OTHERS = {
    "OdooRPC": f"""{SETTINGS}
import odoorpc
odoo = odoorpc.ODOO("127.0.0.1", "jsonrpc+ssl" if url.startswith("https:") else "jsonrpc", port)
odoo.login(db, user, pwd)
books = odoo.env["library.book"].search_read(domain, ["name"])
{SHOW}""",
    "Odooly": f"""{SETTINGS}
import odooly
client = odooly.Client(url, db, user, pwd)
books = client.env.execute("library.book", "search_read", domain, ["name"])
{SHOW}""",
}
PLAIN_CALL = f"{LOGIN}def one(): call('search_read', [], fields=['name'], limit=1)"
CLIENT_CALL = f"""{SETTINGS}
sys.path.insert(0, sys.argv[1])
from library_xmlrpc import LibraryAPI
api = LibraryAPI("127.0.0.1", port, db, user, pwd)
def one(): api.search_read(limit=1)"""
TIME_CALLS = """
one()
started = time.process_time()
for _ in range(500): one()
print(time.process_time() - started)
"""


class Job(NamedTuple):
    """A process to measure."""

    name: str
    argv: Sequence[str]  # of Python; a file follows a last "--file"
    lines: int  # to print
    prints_seconds: bool = False  # as its one line


class Bench:
    """A server with a catalogue of books, and the home folder of what is measured on it."""

    def __init__(self, url: str, home: str, args: argparse.Namespace) -> None:
        self.models = xmlrpc.client.ServerProxy(f"{url}/xmlrpc/2/object")
        self.home, self.only, self.rounds = home, args.only, args.rounds
        self.clients = {"client": str(CHECKOUT)}
        if args.beside:
            self.clients["other checkout"] = os.path.abspath(args.beside)
        # Without PYTHONDONTWRITEBYTECODE and PYTHONUNBUFFERED, which some machines set: with them,
        # each command would compile library_xmlrpc.py, and write each line by itself.
        self.environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": home}
        self.environ.update(ODOO_DB=DB, ODOO_USER="admin", ODOO_PASSWORD="admin")
        self.environ["SSL_CERT_FILE"] = f"{CERTIFICATES}/authority.pem"
        databases = xmlrpc.client.ServerProxy(f"{url}/xmlrpc/2/db")
        if not databases.db_exist(DB):
            print(f"bench: making the database {DB}, which takes a while", file=sys.stderr)
            databases.duplicate_database("admin", "odoo-dev", DB)
        self.trim()
        self.create(map(make_title, range(self.call("search_count", []), BOOKS)))

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self.models.execute_kw(DB, 2, "admin", "library.book", method, args, kwargs)

    def create(self, titles: Iterable[str]) -> list[int]:
        rows, ids = ({"name": title} for title in titles), []
        while batch := list(itertools.islice(rows, 1000)):
            ids += self.call("create", batch)
        return ids

    def trim(self) -> None:
        """Delete all but the oldest books."""
        while ids := self.call("search", [], order="id", offset=BOOKS, limit=MANY):
            self.call("unlink", ids)

    def make_file(self, verb: str, count: int) -> str:
        """The path of a new file for a command, with titles that no book has yet."""
        lines = [f"{make_title(number)}, {time.time():.3f}" for number in range(count)]
        if verb != "add":
            oldest = {"order": "id", "limit": count}
            ids = self.call("search", [], **oldest) if verb == "set" else self.create(lines)
            lines = [json.dumps({"id": id, "name": title}) for id, title in zip(ids, lines)]
        path = Path(self.home, "lines")
        path.write_text("\n".join(lines))
        return str(path)

    def run(self, job: Job) -> tuple[float, float, float]:
        """Run a process: its seconds, those until it printed something, and its peak of memory."""
        # Linux counts a parent's peak of memory as its child's too. This process stays small until
        # the line's data pass through it.
        argv, first, lines, pipe = [sys.executable, *job.argv], 0.0, 0, subprocess.PIPE
        if argv[-1] == "--file":
            argv.append(self.make_file(argv[-2], job.lines))
        started = time.perf_counter()
        with subprocess.Popen(argv, env=self.environ, stdout=pipe, stderr=pipe) as process:
            assert process.stdout and process.stderr
            while chunk := os.read(process.stdout.fileno(), 65536):
                first = first or time.perf_counter() - started
                lines, last = lines + chunk.count(b"\n"), chunk
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode or lines != job.lines:
                complaint = process.stderr.read().decode(errors="replace")
                raise RuntimeError(f"{job.name}: {lines} lines instead of {job.lines}\n{complaint}")
        return float(last) if job.prints_seconds else seconds, first, usage.ru_maxrss / 1024

    def compare(self, what: str, jobs: Sequence[Job]) -> None:
        """Run the jobs in turn, and print the medians of the first beside those of the others."""
        if self.only not in what:
            return
        rounds = self.rounds if jobs[0].lines <= MOBY else (self.rounds + 3) // 4
        runs: dict[str, list[tuple[float, float, float]]] = {job.name: [] for job in jobs}
        for number in range(1, rounds + 1):
            print(f"bench: {what}: round {number} of {rounds}", file=sys.stderr)
            for job in jobs:
                runs[job.name].append(self.run(job))
                self.trim()
        ours, *others = ([statistics.median(each) for each in zip(*runs[job.name])] for job in jobs)
        for job, theirs in zip(jobs[1:], others):
            theirs[0] *= jobs[0].lines / job.lines  # for as many lines as ours
            for part, mine, other in zip(("", ": first row", ": memory, MiB"), ours, theirs):
                if not part or what == "list":
                    ratio = f"{mine / other:.2f} | {mine:.3g} / {other:.3g}"
                    print(f"| {what}{part} | {job.name} | {ratio} |", flush=True)

    def compare_commands(self, where: str, url: str) -> None:
        self.environ["ODOO_URL"] = url
        for path in self.clients.values():  # have them keep their bytecode and the uid
            self.run(Job("warm-up", (f"{path}/library.py", "list", "--limit", "1"), 1))
        oldest = str(self.call("search", [], order="id", limit=1)[0])
        for lines, script, script_lines, *argv in (
            (MOBY, LIST, MOBY, "list", "moby"),
            (BOOKS, LIST, BOOKS, "list"),
            (1, ADD, 1, "add", "Typee"),
            (1, SET, 1, "set", oldest, "Typee"),
            (MANY, ADD_FILE, MANY, "add", "--file"),
            (MANY, SET_FILE, FEW, "set", "--file"),
            (MANY, DEL_FILE, MANY, "del", "--file"),
        ):
            paths = self.clients.items()
            jobs = [Job(name, (f"{path}/library.py", *argv), lines) for name, path in paths]
            jobs.append(Job("plain script", ("-c", script, *argv), script_lines))
            for name in OTHERS:
                if lines == BOOKS and find_spec(name.lower()):
                    jobs.append(Job(name, ("-c", OTHERS[name], *argv), lines))
            self.compare(f"{where}{' '.join(argv)}", jobs)

    def compare_calls(self, url: str) -> None:
        """Compare the processor time of a call on a kept connection."""
        self.environ["ODOO_URL"] = url
        client, plain = ("-c", CLIENT_CALL + TIME_CALLS), ("-c", PLAIN_CALL + TIME_CALLS)
        jobs = [Job(name, (*client, path), 1, True) for name, path in self.clients.items()]
        self.compare("500 calls: processor time", [*jobs, Job("plain script", plain, 1, True)])


def make_title(number: int) -> str:
    """The title of the book of this number, the same each time."""
    chance = random.Random(number)
    words = chance.choices(WORDS.split(), k=chance.randint(2, 7))
    words += ["Moby"] * (number % (BOOKS // MOBY) == 2500)
    return f"{' '.join(words).capitalize()}, {chance.randint(1500, 2030)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the client costs on a real server.")
    parser.add_argument("--rounds", type=int, default=15, help="of short rows; of long ones, 1/4")
    parser.add_argument("--only", metavar="TEXT", default="", help="only rows with this text")
    parser.add_argument("--beside", metavar="PATH", help="another checkout, to compare")
    args = parser.parse_args()
    url = os.environ.get("ODOO_TEST_URL")
    if not url or "ODOO_TEST_DB_FILTER" not in os.environ or not NGINX:  # Odooly needs the filter
        parser.error("it needs nginx, and tests/real_odoo with ODOO_TEST_DB_FILTER=odoo-bench")
    with (
        tempfile.TemporaryDirectory() as home,
        Nginx(url) as plain,  # keeps connections, as Odoo itself does not
        Nginx(url, tls=True) as tls,
        Line(tls.address) as line,
    ):
        bench = Bench(url, home, args)
        print("| what | beside | ratio | seconds |\n| --- | --- | --- | --- |")
        bench.compare_commands("", url)
        bench.compare_commands("far: ", f"https://127.0.0.1:{line.address[1]}")
        bench.compare_calls(plain.url)


if __name__ == "__main__":
    main()
