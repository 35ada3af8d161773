"""Writes what was measured into the document: tables and plots, from the results that are kept."""

import textwrap
from pathlib import Path

import plot

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
MEASURES = {"page": "page of 268 files", "file_10k": "file 10 KB", "file_16m": "file 16 MB"}


def size(amount: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= unit:
            return f"{amount / unit:.2f} {name}"
    return f"{amount:.0f} B"


def line(compared: dict) -> str:
    ours, theirs = compared["ours"], compared["theirs"]
    return row(
        compared["name"],
        compared["connections"],
        f"{ours['requests_per_second']:,.0f}",
        size(ours["bytes_per_second"]),
        f"{ours['cpu_per_request'] * 1e6:,.0f}",
        f"{ours['p99'] * 1000:.2f}",
        compared["against"],
        f"{theirs['requests_per_second']:,.0f}",
        f"{theirs['cpu_per_request'] * 1e6:,.0f}",
        f"{compared['ratio']:.2f}",
        compared["reach"],
        f"{compared['cpu_ratio']:.2f}",
        f"{ours['peak_memory'] / 2**20:.0f}, {theirs['peak_memory'] / 2**20:.0f}",
    )


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def table(head: list[str], rows: list[str], texts: int = 1) -> str:
    """A table whose first columns are text and whose others are numbers."""
    marks = ["---" if at < texts else "--:" for at in range(len(head))]
    return "\n".join([row(*head), f"|{'|'.join(marks)}|", *rows])


def prose(*sentences: str) -> str:
    return textwrap.fill(" ".join(sentences), 120, break_long_words=False, break_on_hyphens=False)


def write(docs: Path, kept: dict[str, dict]) -> None:
    if not kept:
        raise SystemExit("no results are kept")
    sections = [about(kept)]
    for name, section in SECTIONS.items():
        if name in kept:
            sections.append(section(docs, kept[name]["found"]))
    absent = [name for name in SECTIONS if name not in kept]
    if absent:
        sections.append(f"Not measured: {', '.join(absent)}.")
    page = docs / "PERFORMANCE.md"
    text = page.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    measured = "\n\n".join(sections)
    page.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}")


def about(kept: dict[str, dict]) -> str:
    machines = {tuple(sorted(part["machine"].items())) for part in kept.values()}
    said = []
    for items in sorted(machines, key=str):
        one = dict(items)
        said.append(
            prose(
                f"{one['cpu']}, {one['cores']} cores shared by load generator, servers and upstream, "
                f"{one['memory_gib']:.0f} GiB; Linux {one['kernel']}; {one['nginx']}; {one['wrk'].split(' Copyright')[0]}; "
                f"Python {one['python']}; {one['wheelport']}."
            )
        )
    rows = [
        row(
            name,
            part["when"],
            part["commit"],
            part["binary"],
            part["log"],
            f"{part['rounds']} × {part['seconds']} s",
            f"{part['load_before']:.1f}, {part['load_after']:.1f}",
            f"{part['took_s'] / 60:.1f}",
        )
        for name, part in kept.items()
    ]
    head = ["part", "when", "sources", "program", "log level", "turns", "load before, after", "minutes"]
    return "\n\n".join(
        [
            *said,
            table(head, rows, 5),
            prose(
                "*Program* is the beginning of its SHA-256. *Load* is the average over one minute: two cores are full at 2, and what is",
                "above that before a part begins is other work on the machine.",
            ),
        ]
    )


def beside(found: list[dict]) -> str:
    """A row for each path: ours, theirs, and the ratios."""
    head = ["path", "connections", "requests/s", "bytes/s", "CPU µs a request", "p99 ms", "against", "requests/s"]
    head += ["CPU µs a request", "ratio", "target", "CPU ratio", "peak MiB, ours, theirs"]
    return table(head, [line(each) for each in found]).replace("--:|--:|--:|--:|--:|--:|", "--:|--:|--:|--:|--:|---|", 1)


def paths_section(docs: Path, found: list[dict]) -> str:
    rows = [(each["name"], each["ratio"], each["reach"]) for each in found]
    (docs / "performance-ratios.svg").write_text(plot.ratios("Requests per second, ours divided by theirs", rows))
    said = prose(
        "*Ratio* is our requests per second divided by theirs, *CPU ratio* their CPU time for a request divided by ours;",
        "above 1 we are ahead. With files of 300 MB every connection gets the file once, and p99 is the slowest.",
    )
    return f"### Warm responses\n\n{beside(found)}\n\n![Ratios](performance-ratios.svg)\n\n{said}"


def tls_section(_docs: Path, found: list[dict]) -> str:
    said = prose(
        "Both sides have one ECDSA certificate and speak the version and the cipher that the client prefers. A handshake is",
        "made once for each connection.",
    )
    return f"### Warm responses over TLS\n\n{beside(found)}\n\n{said}"


def gated_section(_docs: Path, found: list[dict]) -> str:
    return f"### Warm responses to known readers\n\n{beside(found)}"


def veth_section(_docs: Path, found: list[dict]) -> str:
    said = prose(
        "The client is in a network namespace of its own, behind a veth pair. What is sent is copied there either way, which",
        "loopback spares both sides. Of files of 300 MB, those under way when the time ends count by their bytes.",
    )
    return f"### Large files to another host\n\n{beside(found)}\n\n{said}"


def memory_section(_docs: Path, found: dict) -> str:
    rows = [
        row("idle", f"{found['idle_mib']:.1f} MiB", "20 MiB"),
        row(f"{found['downloads']} downloads of 300 MB at once", f"{found['downloads_mib']:.1f} MiB", "128 MiB"),
    ]
    return f"### Memory\n\n{table(['what', 'measured', 'target'], rows)}"


def cold_section(_docs: Path, found: dict) -> str:
    file, storm = found["file"], found["storm"]
    both = f"{storm['cold_s']:.1f} s, {storm['warm_s']:.1f} s"
    rows = [
        row("first byte, beyond straight at upstream", f"{file['first_byte_extra_ms']:.2f} ms", "1 ms"),
        row("whole body of 200 MB, speed beside straight at an upstream that gives 200 MB/s", f"{file['paced_whole_ratio']:.2f}", "0.95"),
        row("the same, at an upstream as fast as memory", f"{file['whole_ratio']:.2f}", "0.95"),
        row(f"{storm['clients']} clients on one file of 200 MB: upstream GETs", storm["upstream_gets"], 1),
        row(f"the same: time beside serving it warm ({both})", f"{storm['ratio']:.2f}", "1.3"),
        row("the same: peak memory", f"{storm['peak_mib']:.0f} MiB", ""),
    ]
    return f"### Cold files\n\n{table(['what', 'measured', 'target'], rows)}"


def pages_section(docs: Path, found: dict) -> str:
    sizes, sight = found["by_files"], found["sight"]
    points = lambda what: [(each["files"], each[what]) for each in sizes]  # noqa: E731
    panels = [
        ("first sight, ms", [("first sight", points("first_ms"))]),
        ("requests/s, warm, gzip, 8 connections", [("warm", points("rps"))]),
        ("CPU µs a request, warm", [("warm", points("cpu_us"))]),
    ]
    (docs / "performance-pages.svg").write_text(plot.curves("A page by its number of files", "files", panels))
    rows = [
        row(
            *(f"{each['files']:,}", f"{each['first_ms']:.1f}", f"{each['rps']:,.0f}", f"{each['cpu_us']:,.0f}"),
            f"{each['peak_mib']:.0f}",
        )
        for each in sizes
    ]
    head = ["files of a page", "first sight, ms", "warm, requests/s", "CPU µs a request", "peak MiB"]
    said = prose(
        f"While a page of 15,000 files (5 MB) is requested for the first time, p99 of other responses is {sight['p99_beside_ms']:.2f} ms;",
        f"without that page it is {sight['p99_alone_ms']:.2f} ms. The target is no change.",
    )
    return f"### Pages by their size\n\n{table(head, rows, 0)}\n\n![Pages](performance-pages.svg)\n\n{said}"


def connections_section(docs: Path, found: list[dict]) -> str:
    points = lambda what: [(each["connections"], each[what]) for each in found]  # noqa: E731
    panels = [
        ("requests/s", [("requests/s", points("rps"))]),
        ("ms", [("p50", points("p50_ms")), ("p99", points("p99_ms"))]),
        ("peak memory, MiB", [("peak", points("peak_mib"))]),
    ]
    title = "A warm page of about 75 KB, gzip, by connections"
    (docs / "performance-connections.svg").write_text(plot.curves(title, "connections", panels))
    rows = [
        row(
            f"{each['connections']:,}",
            f"{each['rps']:,.0f}",
            f"{each['p50_ms']:.2f}",
            f"{each['p99_ms']:.2f}",
            f"{each['cpu_us']:,.0f}",
            f"{each['peak_mib']:.0f}",
        )
        for each in found
    ]
    head = ["connections", "requests/s", "p50 ms", "p99 ms", "CPU µs a request", "peak MiB"]
    return f"### Connections\n\n{table(head, rows, 0)}\n\n![Connections](performance-connections.svg)"


def blobs_section(docs: Path, found: list[dict]) -> str:
    points = lambda what: [(each["blobs"], each[what]) for each in found]  # noqa: E731
    panels = [
        ("ms", [("until it responds", points("start_ms")), ("until counted", points("inventory_ms"))]),
        ("memory, MiB", [("idle, counted", points("idle_mib")), ("most so far", points("peak_mib"))]),
        ("requests/s, warm file of 10 KB, 32 connections", [("warm", points("rps"))]),
    ]
    (docs / "performance-blobs.svg").write_text(plot.curves("The cache by its number of files", "files in the cache", panels))
    rows = [
        row(
            f"{each['blobs']:,}",
            f"{each['start_ms']:.0f}",
            f"{each['inventory_ms']:,.0f}",
            f"{each['idle_mib']:.0f}",
            f"{each['peak_mib']:.0f}",
            f"{each['rps']:,.0f}",
            f"{each['p99_ms']:.2f}",
            f"{each['cpu_us']:,.0f}",
        )
        for each in found
    ]
    head = [
        "files in the cache",
        "start, ms",
        "counted after, ms",
        "idle MiB",
        "most MiB",
        "requests/s",
        "p99 ms",
        "CPU µs a request",
    ]
    said = prose(
        "*Start* is from the start of the process to its first response; the target is below 100 ms with 100,000 files. Counting",
        "continues in the background. The files have the cache's own layout but are sparse, and the system has the directory in",
        "memory: on a machine that has just started, counting takes as long as its disk needs. The requests are for one file",
        "among all of them, over 32 connections.",
    )
    title = "### The cache by its number of files"
    return f"{title}\n\n{table(head, rows, 0)}\n\n![Files in the cache](performance-blobs.svg)\n\n{said}"


def alternatives_section(docs: Path, found: dict) -> str:
    panels = []
    for what, label in MEASURES.items():
        rates = {name: each[what]["requests_per_second"] if what in each else 0.0 for name, each in found.items()}
        bars = [(name, rate, f"{rate:,.0f}" if rate else "failed") for name, rate in rates.items()]
        panels.append((f"{label}, requests/s", bars))
    (docs / "performance-alternatives.svg").write_text(plot.bars("Warm responses of caching indexes", panels))
    head = ["server", "start ms", "idle MiB", "peak MiB", "cold 16 MB, ms", "upstream requests for a crowd"]
    for label in MEASURES.values():
        head += [f"{label}: requests/s", "p99 ms", "CPU µs a request"]
    rows = [row(name, *alternative_cells(each)) for name, each in found.items()]
    hows = "\n".join(f"- {name}: {each['how']}" for name, each in found.items())
    failures = [f"- {name}, {what}: {said}" for name, each in found.items() for what, said in each["failed"].items()]
    failed = "\n\nFailed:\n\n" + "\n".join(failures) if failures else ""
    crowd = next(each["crowd"]["clients"] for each in found.values() if "crowd" in each)
    said = prose(
        "All servers have the same upstream, `benches/stand`, which asks for no credentials, because only Wheelport can mint a",
        "token. Page and small file: 32 connections; 16 MB: 8. Pages are requested as pip does, with `gzip, deflate`; each",
        "server has a body of its own, which must not change and must list all files. Memory is the resident size, summed over",
        f"processes. The crowd is {crowd} clients that request one file of 32 MB at once, before any other client has; the page that names it is counted too. Started like this:",
    )
    plotted = "![Caching indexes](performance-alternatives.svg)"
    return f"### Other caching indexes\n\n{table(head, rows)}\n\n{plotted}\n\n{said}\n\n{hows}{failed}"


def alternative_cells(each: dict) -> list[str]:
    def cell(what: str, show) -> str:
        return "failed" if what in each["failed"] else show(each[what]) if what in each else "–"

    if "start" in each["failed"]:
        return ["failed"] + ["–"] * (4 + 3 * len(MEASURES))
    cells = [f"{each[what]:.0f}" if each.get(what) else "–" for what in ("start_ms", "idle_mib", "peak_mib")]
    cells += [
        cell("cold", lambda found: f"{found['whole_ms']:.0f}"),
        cell("crowd", lambda found: f"{found['upstream_requests']}"),
    ]
    for what in MEASURES:
        cells.append(cell(what, lambda found: f"{found['requests_per_second']:,.0f}"))
        cells.append(cell(what, lambda found: f"{found['p99'] * 1000:.2f}"))
        cells.append(cell(what, lambda found: f"{found['cpu_per_request'] * 1e6:,.0f}"))
    return cells


def resolve_section(docs: Path, found: dict) -> str:
    names = {"warm": "proxy, warm", "cold": "proxy, cold", "straight": "straight", "memory": "from memory, no proxy"}
    panels, rows = [], []
    for title, ways in found["clients"].items():
        bars = [(names[way], ways[way]["seconds"], f"{ways[way]['seconds']:.2f} s") for way in names if way in ways]
        panels.append((f"{title}, seconds", bars))
        for way in (way for way in ("straight", "cold", "warm", "memory") if way in ways):
            each = ways[way]
            faster = f"{ways['straight']['seconds'] / each['seconds']:.1f}"
            reach = {"cold": "1.0", "warm": "10" if title == "uv lock" else ""}.get(way, "")
            requests = f"{each['requests']:,.0f}"
            rows.append(row(title, names[way], f"{each['seconds']:.2f}", requests, f"{each['megabytes']:.1f}", faster, reach))
    latency = found["latency"].replace("ms", " ms")
    title = f"A hundred packages, upstream {latency} away"
    (docs / "performance-resolve.svg").write_text(plot.bars(title, panels))
    head = ["client", "how", "seconds", "requests upstream", "MB of files from there", "times as fast as straight", "target"]
    said = prose(
        f"A hundred invented projects, ten layers deep, eight versions each: {found['files']} wheels, {size(found['bytes'])} in all.",
        "Of every ten projects one has wheels of 3 MiB, three of 256 KiB, six of 20 KiB. The upstream is the emulator, which",
        f"like CodeArtifact has no core metadata, and delays every response by {latency}. *Straight* has a token in the address.",
        "Clients begin without any cache every time and must come to the same result; a cold proxy has served nothing before.",
        "*From memory* is `benches/stand` with the warm proxy's responses and no latency: what is left then is the client's own",
        "time.",
    )
    plotted = "![A hundred packages](performance-resolve.svg)"
    return f"### A hundred packages, {latency} from upstream\n\n{table(head, rows, 2)}\n\n{plotted}\n\n{said}"


SECTIONS = {
    "paths": paths_section,
    "veth": veth_section,
    "tls": tls_section,
    "gated": gated_section,
    "memory": memory_section,
    "cold": cold_section,
    "pages": pages_section,
    "connections": connections_section,
    "blobs": blobs_section,
    "alternatives": alternatives_section,
    "resolve": resolve_section,
}
