"""Writes what was measured: a table and plots."""

from pathlib import Path

import plot

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def size(amount: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= unit:
            return f"{amount / unit:.2f} {name}"
    return f"{amount:.0f} B"


def line(compared) -> str:
    path, ours, theirs = compared.path, compared.ours, compared.theirs
    return (
        f"| {path.name} | {path.connections} | {ours.requests_per_second:,.0f} | {size(ours.bytes_per_second)} "
        f"| {ours.cpu_per_request * 1e6:,.0f} | {ours.p99 * 1000:.2f} | {path.against} | {theirs.requests_per_second:,.0f} "
        f"| {theirs.cpu_per_request * 1e6:,.0f} | {compared.ratio:.2f} | {path.reach} | {compared.cpu_ratio:.2f} |"
    )


HEAD = (
    "| path | connections | requests/s | bytes/s | CPU µs a request | p99 ms | against | requests/s | CPU µs a request "
    "| ratio | reach | CPU ratio |\n|---|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|"
)


def write(docs: Path, about: dict, found: dict, rounds: int, seconds: int) -> None:
    compared = found["compared"]
    rows = [(c.path.name, c.ratio, c.path.reach) for c in compared]
    (docs / "performance-ratios.svg").write_text(plot.ratios("Requests per second, ours divided by theirs", rows))
    connections = found["connections"]
    (docs / "performance-connections.svg").write_text(
        plot.curves(
            "A warm page of about 75 KB, gzip",
            "connections",
            "requests/s, p99 in ms",
            [("requests/s", [(n, rps) for n, rps, _ in connections]), ("p99, ms", [(n, p99) for n, _, p99 in connections])],
        )
    )
    sizes = found["sizes"]
    (docs / "performance-pages.svg").write_text(
        plot.curves(
            "A page by its number of files",
            "files",
            "ms, requests/s",
            [
                ("first sight, ms", [(each["files"], each["first_ms"]) for each in sizes]),
                ("warm requests/s", [(each["files"], each["rps"]) for each in sizes]),
            ],
        )
    )
    (docs / "performance-start.svg").write_text(
        plot.curves("Start by number of cached files", "files in the cache directory", "ms until it answers",
                    [("start, ms", found["starts"])])
    )
    page = docs / "PERFORMANCE.md"
    text = page.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{measured(about, found, rounds, seconds)}{END}{after}")


def measured(about: dict, found: dict, rounds: int, seconds: int) -> str:
    cold, storm, sight = found["cold"], found["storm"], found["sight"]
    loads = ", ".join(f"{value:.1f}" for value in (*about["load"], *about["load_after"]))
    table = "\n".join(line(compared) for compared in found["compared"])
    starts = ", ".join(f"{count:,} files: {ms:.0f} ms" for count, ms in found["starts"])
    sizes = "\n".join(f"| {each['files']:,} | {each['first_ms']:.1f} | {each['rps']:,.0f} |" for each in found["sizes"])
    crowd = "\n".join(f"| {count:,} | {rps:,.0f} | {p99:.2f} |" for count, rps, p99 in found["connections"])
    return f"""
{about["cpu"]}, {about["cores"]} cores shared by load generator, servers and upstream; Linux {about["kernel"]}; {about["nginx"]};
{about["wrk"]}. Log level `{found["log"]}`. Medians of {rounds} turns of {seconds} s for each side, taken in turns. Load averages (1, 5, 15
minutes) before and after: {loads}; the two cores make 2.0 a full machine, and what is above that is other work that ran
at the same time.

{HEAD}
{table}

![Ratios](performance-ratios.svg)

*Ratio* is our requests per second divided by theirs, *CPU ratio* their CPU time for a request divided by ours; above 1
we are ahead.

| what | measured | reach |
|---|--:|--:|
| cold file, first byte, beyond straight at upstream | {cold["first_byte_extra_ms"]:.2f} ms | 1 ms |
| cold file, whole body, speed beside straight at upstream | {cold["whole_ratio"]:.2f} | 0.95 |
| {storm["clients"]} clients on one cold 200 MB wheel: upstream GETs | {storm["upstream_gets"]} | 1 |
| the same: time beside serving it warm ({storm["cold_s"]:.1f} s, {storm["warm_s"]:.1f} s) | {storm["ratio"]:.2f} | 1.3 |
| the same: peak memory | {storm["peak_mib"]:.0f} MiB | |
| page of 15,000 files on first sight: p99 of others, alone and beside | {sight["p99_alone_ms"]:.2f} ms, {sight["p99_beside_ms"]:.2f} ms | unmoved |
| memory, idle | {found["idle_mib"]:.1f} MiB | 20 MiB |
| memory, 500 downloads of 300 MB at once | {found["downloads_mib"]:.1f} MiB | 128 MiB |
| start | {starts} | 100 ms |

| files of a page | first sight, ms | warm, requests/s |
|--:|--:|--:|
{sizes}

![Pages](performance-pages.svg)

| connections | requests/s | p99 ms |
|--:|--:|--:|
{crowd}

![Connections](performance-connections.svg)

![Start](performance-start.svg)
"""
