"""Odd archives and what CPython reads of them: `odd_archives.py DIRECTORY [SEED]`.

Writes archives into the directory, and `archives.json`: for each the oddities it is made of, the name it has on the
index, its file, and the file with the core metadata that CPython reads, or null. `zipfile` and `tarfile` are asked in
two ways, as installers ask them: for the member, and by unpacking everything. Where the two see different metadata,
nothing is right to read.
"""

import bz2
import gzip
import io
import json
import lzma
import pathlib
import posixpath
import random
import stat
import struct
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib

try:
    from compression import zstd
except ImportError:
    zstd = None

WHEEL, ZIP, TAR = "a_b-1.0-py3-none-any.whl", "a-b-1.0.zip", "a-b-1.0.tar.gz"
TOP = {WHEEL: "a_b-1.0.dist-info/METADATA", ZIP: "a-b-1.0/PKG-INFO", TAR: "a-b-1.0/PKG-INFO"}
SEED = 20261128
# Archives of several oddities, besides those that have one each.
MIXED = 400
# Found by chance: together these lead readers apart.
TOGETHER = [
    ("old directory", "also with a dot"), ("three times", "no size", "old directory"), ("twice", "prefix in a GNU header"),
    ("prefix in an old header", "another directory"), ("GNU long name", "pax path away"), ("also with two slashes", "old directory"),
]


def text(source, what="right"):
    filling = "x" * source.choice((0, 10, 5000))
    return f"Metadata-Version: 2.1\nName: a-b\nVersion: 1.0\nSummary: {what} {source.randrange(10**6)}\n\n{filling}\n".encode()


# ZIP, written by hand so that everything can be wrong.


def deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def lzma_stream(data, has_marker=True):
    properties = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}
    packed = lzma.compress(data, format=lzma.FORMAT_RAW, filters=[properties])
    return struct.pack("<BBHBI", 9, 4, 5, 93, 1 << 16) + packed


METHODS = {0: bytes, 8: deflate, 12: bz2.compress, 14: lzma_stream}
if zstd:
    METHODS[93] = zstd.compress


class Entry:
    """A member, and what its two headers say of it."""

    def __init__(self, name, data, method=8):
        self.data, self.method = data, method
        self.packed = METHODS.get(method, bytes)(data)
        self.local = {"name": name, "method": method, "flags": 2 if method == 14 else 0, "extra": b"", "crc": zlib.crc32(data)}
        self.local |= {"packed": len(self.packed), "size": len(data)}
        self.central = dict(self.local) | {"offset": None, "comment": b""}
        self.descriptor, self.listed, self.before = b"", True, b""

    def both(self, **changes):
        self.local.update(changes)
        self.central.update(changes)

    def raw(self):
        says = self.local
        name = says["name"].encode() if isinstance(says["name"], str) else says["name"]
        head = struct.pack(
            "<4s5H3I2H", b"PK\x03\x04", 20, says["flags"], says["method"], 0, 33, says["crc"], says["packed"], says["size"], len(name), len(says["extra"])
        )
        return head + name + says["extra"] + self.packed + self.descriptor

    def listing(self, at):
        says = self.central
        name = says["name"].encode() if isinstance(says["name"], str) else says["name"]
        offset = at if says["offset"] is None else says["offset"]
        numbers = (says["crc"], says["packed"], says["size"], len(name), len(says["extra"]), len(says["comment"]), 0, 0, 0, offset)
        head = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, says["flags"], says["method"], 0, 33, *numbers)
        return head + name + says["extra"] + says["comment"]


class Zip:
    """An archive to be: oddities change it before it is written."""

    def __init__(self, source, kind):
        self.source, self.kind, self.top = source, kind, TOP[kind]
        self.metadata = Entry(self.top, text(source), source.choice((0, 8)))
        self.entries = [Entry("a_b/__init__.py", b"x = 1\n"), self.metadata, Entry(posixpath.dirname(self.top) + "/RECORD", b"r")]
        source.shuffle(self.entries)
        self.prefix, self.is_shifted, self.comment, self.tail = b"", False, b"", b""
        self.is_wide, self.lies, self.after = False, {}, b""

    def other(self, name=None, what="other", at=None):
        """One more member with metadata of its own."""
        entry = Entry(name or self.top, text(self.source, what))
        self.entries.insert(self.source.randrange(len(self.entries) + 1) if at is None else at, entry)
        return entry

    def write(self):
        out, directory, count = bytearray(self.prefix), b"", 0
        base = len(self.prefix) if self.is_shifted else 0
        for entry in self.entries:
            out += entry.before
            at = len(out) - len(self.prefix) + base
            out += entry.raw()
            if entry.listed:
                directory += entry.listing(at)
                count += 1
        start = len(out) - len(self.prefix) + base
        directory += self.after
        out += directory
        says = {"entries": count, "size": len(directory), "offset": start} | self.lies
        if self.is_wide:
            record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, says["size"], says["offset"])
            out += record + struct.pack("<4sIQI", b"PK\x06\x07", 0, len(out) - len(self.prefix) + base, 1)
            says = {"entries": 0xFFFF, "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
        out += struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, says["entries"], says["entries"], says["size"], says["offset"], len(self.comment))
        return bytes(out + self.comment + self.tail)


def end_record(zip, of):
    """An end record as it may stand in a comment: for a directory with other metadata."""
    other = Zip(random.Random(of), zip.kind)
    other.metadata = None
    return other.write()


def wide_field(zip):
    says = zip.metadata.central
    says["extra"] = struct.pack("<2H2Q", 1, 16, says["size"], says["packed"])
    says.update(size=0xFFFFFFFF, packed=0xFFFFFFFF)


def crooked_wide_field(zip):
    zip.metadata.central["extra"] = struct.pack("<2HQ", 1, zip.source.choice((4, 8, 24)), 7)
    zip.metadata.central["size"] = 0xFFFFFFFF


def descriptor(signature):
    def odd(zip):
        entry = zip.metadata
        numbers = struct.pack("<3I", entry.central["crc"], entry.central["packed"], entry.central["size"])
        entry.descriptor = signature + numbers
        entry.both(flags=entry.central["flags"] | 8)
        entry.local.update(crc=0, packed=0, size=0)

    return odd


def method(number):
    def odd(zip):
        at = zip.entries.index(zip.metadata)
        zip.metadata = zip.entries[at] = Entry(zip.top, zip.metadata.data, number)

    return odd


def flag(bit, where):
    def odd(zip):
        for name in where:
            says = getattr(zip.metadata, name)
            says["flags"] ^= bit

    return odd


def both_spellings(spelling):
    def odd(zip):
        zip.other(spelling.replace("TOP", zip.top))

    return odd


def hidden_twin(zip):
    entry = zip.other()
    entry.listed = False


def shared_data(zip):
    """Two entries of the directory for the bytes of one."""
    entry = zip.other()
    entry.central["offset"] = 0


def concatenated(zip):
    zip.prefix = Zip(zip.source, zip.kind).write()


def lying_sizes(zip):
    zip.metadata.central[zip.source.choice(("size", "packed"))] += zip.source.choice((-1, 1, 100, 1 << 20))


def second_stream(zip):
    method(12)(zip)
    more = bz2.compress(b"more")
    zip.metadata.packed += more
    zip.metadata.both(packed=len(zip.metadata.packed))


def marker_bit(zip):
    method(14)(zip)
    zip.metadata.both(flags=0)


def member_behind_nul(zip):
    zip.other(zip.top + "\0.py")


def shortened_directory(zip):
    """The last entry of the directory stands outside of what the end record says."""
    last = zip.other(at=len(zip.entries))
    zip.lies = {"size": sum(len(entry.listing(0)) for entry in zip.entries if entry is not last)}


ZIPS = {
    "plain": lambda zip: None,
    "twice": lambda zip: zip.other(),
    "three times": lambda zip: (zip.other(), zip.other()),
    "prefix": lambda zip: setattr(zip, "prefix", b"#!/usr/bin/env python3\n"),
    "prefix in positions": lambda zip: (setattr(zip, "prefix", b"MZ" * 40), setattr(zip, "is_shifted", True)),
    "comment": lambda zip: setattr(zip, "comment", b"just a comment"),
    "comment with an end record": lambda zip: setattr(zip, "comment", end_record(zip, 1)),
    "comment with half an end record": lambda zip: setattr(zip, "comment", b"x" * 30 + b"PK\x05\x06" + b"y" * 9),
    "comment ends with a signature": lambda zip: setattr(zip, "comment", b"x" * 40 + b"PK\x05\x06"),
    "comment that looks like an end": lambda zip: setattr(zip, "comment", b"PK\x05\x06" + bytes(18)),
    "comment with a locator": lambda zip: setattr(zip, "comment", b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(18)),
    "more after the end": lambda zip: setattr(zip, "tail", b"\n" * zip.source.randrange(1, 60)),
    "an archive after the end": lambda zip: setattr(zip, "tail", Zip(zip.source, zip.kind).write()),
    "an archive before": concatenated,
    "zip64": lambda zip: setattr(zip, "is_wide", True),
    "zip64 field": wide_field,
    "crooked zip64 field": crooked_wide_field,
    "other local name": lambda zip: zip.metadata.local.update(name="x" * len(zip.top)),
    "shorter local name": lambda zip: zip.metadata.local.update(name=zip.top[1:]),
    "other local method": lambda zip: zip.metadata.local.update(method=8 - zip.metadata.method),
    "other local sizes": lambda zip: zip.metadata.local.update(size=1, packed=2, crc=3),
    "local extra": lambda zip: zip.metadata.local.update(extra=b"\xfe\xca\x04\x00abcd"),
    "descriptor": descriptor(b"PK\x07\x08"),
    "descriptor without signature": descriptor(b""),
    "stored": method(0),
    "deflated": method(8),
    "bzip2": method(12),
    "lzma": method(14),
    "zstandard": method(93),
    "deflate64": method(9),
    "unknown method": method(77),
    "lzma without the bit of its marker": marker_bit,
    "two bzip2 streams": second_stream,
    "lying sizes": lying_sizes,
    "wrong checksum": lambda zip: zip.metadata.both(crc=7),
    "encrypted": flag(1, ("local", "central")),
    "encrypted by the local header": flag(1, ("local",)),
    "strong encryption": flag(1 << 6, ("local", "central")),
    "patch data": flag(1 << 5, ("local", "central")),
    "utf-8 name": flag(1 << 11, ("local", "central")),
    "utf-8 in one header": flag(1 << 11, ("central",)),
    "hidden twin": hidden_twin,
    "shared data": shared_data,
    "wrong number of entries": lambda zip: zip.lies.update(entries=zip.source.choice((0, 1, 9))),
    "wrong size of the directory": lambda zip: zip.lies.update(size=zip.source.randrange(10, 300)),
    "wrong position of the directory": lambda zip: zip.lies.update(offset=zip.source.randrange(10, 300)),
    "shortened directory": shortened_directory,
    "rubbish in the directory": lambda zip: setattr(zip, "after", b"PK\x05\x05rubbish"),
    "bytes between members": lambda zip: setattr(zip.metadata, "before", b"PK\x03\x04" + b"?" * 50),
    "comment of a member": lambda zip: zip.metadata.central.update(comment=b"PK\x01\x02" * 9),
    "name behind NUL": member_behind_nul,
    "own name behind NUL": lambda zip: zip.metadata.both(name=zip.top + "\0.txt"),
    "also with a dot": both_spellings("./TOP"),
    "also absolute": both_spellings("/TOP"),
    "also with two slashes": lambda zip: zip.other(zip.top.replace("/", "//")),
    "also from below": both_spellings("x/../TOP"),
    "also from above": both_spellings("../TOP"),
    "also with a backslash": lambda zip: zip.other(zip.top.replace("/", "\\")),
    "also in other letters": lambda zip: zip.other(zip.top.upper()),
    "another directory": lambda zip: zip.other("c-1.0.dist-info/METADATA" if zip.kind == WHEEL else "c/PKG-INFO"),
    "a directory below": lambda zip: zip.other("a_b/" + zip.top),
    "a directory in its place": lambda zip: zip.other(zip.top + "/"),
    "no metadata": lambda zip: zip.entries.remove(zip.metadata),
}


def zip_readings(path, kind):
    """What `zipfile` reads by name, and what is there when it has unpacked everything."""
    pattern = ".dist-info/METADATA" if kind == WHEEL else "/PKG-INFO"
    try:
        with zipfile.ZipFile(path) as archive:
            plain = [name.removeprefix("./") for name in archive.namelist()] if kind == ZIP else archive.namelist()
            names = {name for name in plain if name.endswith(pattern) and name.count("/") == 1 and name != pattern}
            # An installer looks for the directory of the distribution; where it is not there, one will do.
            chosen = {TOP[kind]} if kind == WHEEL and TOP[kind] in names else names
            if len(chosen) != 1:
                return None, None
            (name,) = chosen
            spelled = [info for info in archive.infolist() if info.filename.removeprefix("./") == name and kind == ZIP or info.filename == name]
            read = archive.read(archive.getinfo(spelled[-1].filename))
    except Exception:
        return None, None
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as directory:
            archive.extractall(directory)
            return read, (pathlib.Path(directory) / name).read_bytes()
    except Exception:
        return read, None


# Tar


def member(name, data=b"", kind=tarfile.REGTYPE, form=tarfile.USTAR_FORMAT, **more):
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    for key, value in more.items():
        setattr(info, key, value)
    return info.tobuf(form, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)


def raw_member(name, data, kind=b"0", size=None, prefix=b"", magic=b"ustar\x0000"):
    """A member whose header no library would write."""
    size = f"{len(data):011o}".encode() + b"\0" if size is None else size
    head = bytearray(struct.pack("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12s", name, b"0000644\0", b"0000000\0", b"0000000\0", size,
                                 b"00000000000\0", b" " * 8, kind, b"", magic, b"", b"", b"", b"", prefix, b""))
    head[148:156] = f"{sum(head):06o}".encode() + b"\0 "
    return bytes(head) + data + bytes(-len(data) % 512)


def pax(kind=tarfile.XHDTYPE, **records):
    data = b""
    for key, value in records.items():
        key = key.replace("__", ".")
        line = f" {key}={value}\n".encode()
        length = len(line)
        while length != len(line) + len(str(length)):
            length = len(line) + len(str(length))
        data += str(length).encode() + line
    return member("././@PaxHeader", data, kind)


class Tar:
    def __init__(self, source):
        self.source, self.top, self.data = source, TOP[TAR], text(source)
        self.form = source.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        self.metadata = member(self.top, self.data, form=self.form)
        self.members = [member("a-b-1.0/", kind=tarfile.DIRTYPE, mode=0o755), member("a-b-1.0/setup.py", b"x = 1\n", form=self.form), self.metadata]
        self.members[1:] = source.sample(self.members[1:], 2)
        self.end, self.tail, self.cut, self.pieces = bytes(1024), b"", None, 1

    def other(self, name=None, what="other", at=None, **more):
        data = text(self.source, what) if more.get("kind", tarfile.REGTYPE) in (tarfile.REGTYPE, tarfile.CONTTYPE) else b""
        self.put(member(name or self.top, data, form=self.form, **more), at)

    def put(self, raw, at=None):
        self.members.insert(self.source.randrange(1, len(self.members) + 1) if at is None else at, raw)

    def replace(self, raw):
        self.members[self.members.index(self.metadata)] = self.metadata = raw

    def write(self):
        out = b"".join(self.members) + self.end
        out = out[: self.cut]
        step = len(out) // self.pieces + 1
        return b"".join(gzip.compress(out[at : at + step], 1, mtime=0) for at in range(0, len(out), step)) + self.tail


def sparse(tar, version):
    """Metadata with a hole, as GNU tar writes it into pax headers."""
    whole = tar.data + bytes(600) + b"end"
    parts, stored = [(0, len(tar.data)), (len(tar.data) + 600, 3)], tar.data + b"end"
    numbers = ",".join(f"{offset},{length}" for offset, length in parts)
    if version == "0.1":
        head = pax(GNU__sparse__size=len(whole), GNU__sparse__numblocks=2, GNU__sparse__map=numbers, GNU__sparse__name=tar.top)
        tar.replace(head + member("a-b-1.0/GNUSparseFile.1/PKG-INFO", stored))
    elif version == "0.1 in place":
        head = pax(GNU__sparse__size=len(whole), GNU__sparse__numblocks=2, GNU__sparse__map=numbers)
        tar.replace(head + member(tar.top, stored))
    else:
        listing = f"2\n{parts[0][0]}\n{parts[0][1]}\n{parts[1][0]}\n{parts[1][1]}\n".encode()
        listing += bytes(-len(listing) % 512)
        head = pax(GNU__sparse__major=1, GNU__sparse__minor=0, GNU__sparse__realsize=len(whole), GNU__sparse__name=tar.top)
        name = tar.top if version == "1.0 in place" else "a-b-1.0/GNUSparseFile.1/PKG-INFO"
        tar.replace(head + member(name, listing + stored))


def old_sparse(tar):
    """The sparse member of old GNU tar: its map is in the header."""
    head = bytearray(raw_member(tar.top.encode(), tar.data + b"end", b"S", magic=b"ustar  \0")[:512])
    at = len(tar.data)
    for place, number in ((386, 0), (398, at), (410, at + 600), (422, 3), (483, at + 603)):
        head[place : place + 12] = f"{number:011o}".encode() + b"\0"
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}".encode() + b"\0 "
    stored = tar.data + b"end"
    tar.replace(bytes(head) + stored + bytes(-len(stored) % 512))


def link_to(name, kind):
    def odd(tar):
        tar.put(member("a-b-1.0/other", text(tar.source, "other")), 1)
        tar.replace(member(tar.top, kind=kind, linkname=name))

    return odd


def link_after(kind):
    def odd(tar):
        tar.put(member("a-b-1.0/other", text(tar.source, "other")), 1)
        linkname = "other" if kind == tarfile.SYMTYPE else "a-b-1.0/other"
        tar.put(member(tar.top, kind=kind, linkname=linkname), len(tar.members))

    return odd


def through_a_link(kind):
    """A member that is written through a link, over the metadata."""

    def odd(tar):
        linkname = "PKG-INFO" if kind == tarfile.SYMTYPE else tar.top
        tar.put(member("a-b-1.0/alias", kind=kind, linkname=linkname), len(tar.members))
        tar.put(member("a-b-1.0/alias", text(tar.source, "other")), len(tar.members))

    return odd


def through_a_directory(tar):
    tar.put(member("a-b-1.0/here", kind=tarfile.SYMTYPE, linkname="."), len(tar.members))
    tar.put(member("a-b-1.0/here/PKG-INFO", text(tar.source, "other")), len(tar.members))


def spelled(name):
    return lambda tar: tar.other(name.replace("TOP", tar.top), at=len(tar.members))


def alone(name):
    return lambda tar: tar.replace(member(name.replace("TOP", tar.top), tar.data))


def renamed_by_all(tar):
    """A global header that gives every member that follows the name of the metadata."""
    tar.put(pax(tarfile.XGLTYPE, path=tar.top), 1)


TARS = {
    "plain": lambda tar: None,
    "twice": lambda tar: tar.other(),
    "three times": lambda tar: (tar.other(), tar.other()),
    "pax path": lambda tar: tar.replace(pax(path=tar.top) + member("short", tar.data)),
    "pax path away": lambda tar: tar.replace(pax(path="a-b-1.0/else") + tar.metadata),
    "pax size": lambda tar: tar.replace(pax(size=len(tar.data)) + raw_member(tar.top.encode(), tar.data, size=b"00000000001\0")),
    "pax comment": lambda tar: tar.replace(pax(comment="x" * 600) + tar.metadata),
    "two pax headers": lambda tar: tar.replace(pax(path="a-b-1.0/first") + pax(path=tar.top) + member("short", tar.data)),
    "global header": lambda tar: tar.put(pax(tarfile.XGLTYPE, comment="abc"), 1),
    "global path": renamed_by_all,
    "global path away": lambda tar: tar.put(pax(tarfile.XGLTYPE, path="a-b-1.0/else"), 1),
    "global size": lambda tar: tar.put(pax(tarfile.XGLTYPE, size=1), 1),
    "binary names": lambda tar: tar.replace(pax(hdrcharset="BINARY", path=tar.top) + member("short", tar.data)),
    "pax link path": lambda tar: tar.put(pax(linkpath=tar.top) + member("a-b-1.0/link", kind=tarfile.LNKTYPE, linkname="gone"), 2),
    "GNU long name": lambda tar: tar.replace(member("././@LongLink", tar.top.encode() + b"\0", tarfile.GNUTYPE_LONGNAME, tarfile.GNU_FORMAT) + member("short", tar.data)),
    "GNU long name away": lambda tar: tar.replace(member("././@LongLink", b"a-b-1.0/else\0", tarfile.GNUTYPE_LONGNAME, tarfile.GNU_FORMAT) + tar.metadata),
    "GNU long name without an end": lambda tar: tar.replace(member("././@LongLink", tar.top.encode(), tarfile.GNUTYPE_LONGNAME, tarfile.GNU_FORMAT) + member("short", tar.data)),
    "GNU and pax names": lambda tar: tar.replace(member("././@LongLink", b"a-b-1.0/else\0", tarfile.GNUTYPE_LONGNAME, tarfile.GNU_FORMAT) + pax(path=tar.top) + member("short", tar.data)),
    "pax and GNU names": lambda tar: tar.replace(pax(path=tar.top) + member("././@LongLink", b"a-b-1.0/else\0", tarfile.GNUTYPE_LONGNAME, tarfile.GNU_FORMAT) + member("short", tar.data)),
    "sparse 0.1": lambda tar: sparse(tar, "0.1"),
    "sparse 0.1 in place": lambda tar: sparse(tar, "0.1 in place"),
    "sparse 1.0": lambda tar: sparse(tar, "1.0"),
    "sparse 1.0 in place": lambda tar: sparse(tar, "1.0 in place"),
    "old sparse": old_sparse,
    "hard link": link_to("a-b-1.0/other", tarfile.LNKTYPE),
    "symbolic link": link_to("other", tarfile.SYMTYPE),
    "link that leads out": link_to("../../etc/passwd", tarfile.SYMTYPE),
    "hard link after it": link_after(tarfile.LNKTYPE),
    "symbolic link after it": link_after(tarfile.SYMTYPE),
    "written through a hard link": through_a_link(tarfile.LNKTYPE),
    "written through a symbolic link": through_a_link(tarfile.SYMTYPE),
    "written through a directory": through_a_directory,
    "directory in its place": lambda tar: tar.other(tar.top + "/", kind=tarfile.DIRTYPE),
    "FIFO in its place": lambda tar: tar.replace(member(tar.top, kind=tarfile.FIFOTYPE)),
    "FIFO after it": lambda tar: tar.put(member(tar.top, kind=tarfile.FIFOTYPE), len(tar.members)),
    "device": lambda tar: tar.put(member("a-b-1.0/device", kind=tarfile.CHRTYPE)),
    "unknown kind": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, b"Q")),
    "contiguous": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, b"7")),
    "old header": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, b"\0", magic=b"")),
    "old directory": lambda tar: tar.replace(raw_member(tar.top.encode() + b"/", tar.data, b"\0", magic=b"")),
    "regular with a slash": lambda tar: tar.replace(raw_member(tar.top.encode() + b"/", tar.data)),
    "prefix": lambda tar: tar.replace(raw_member(b"PKG-INFO", tar.data, prefix=b"a-b-1.0")),
    "prefix in an old header": lambda tar: tar.replace(raw_member(b"PKG-INFO", tar.data, prefix=b"a-b-1.0", magic=b"")),
    "prefix in a GNU header": lambda tar: tar.replace(raw_member(b"PKG-INFO", tar.data, prefix=b"a-b-1.0", magic=b"ustar  \0")),
    "prefix before it": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, prefix=b"deeper")),
    "binary size": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, size=b"\x80" + len(tar.data).to_bytes(11, "big"))),
    "negative size": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, size=b"\xff" * 12)),
    "size with spaces": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, size=f"{len(tar.data):10o} ".encode() + b"\0")),
    "size without an end": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, size=f"{len(tar.data):012o}".encode())),
    "size that is no number": lambda tar: tar.replace(raw_member(tar.top.encode(), tar.data, size=b"99999999999\0")),
    "no size": lambda tar: tar.replace(raw_member(tar.top.encode(), b"", size=bytes(12))),
    "wrong checksum": lambda tar: tar.replace(tar.metadata[:148] + b"0000001\0" + tar.metadata[156:]),
    "signed checksum": lambda tar: tar.put(raw_member("a-b-1.0/é".encode("latin-1"), b"x")),
    "also with a dot": spelled("./TOP"),
    "also absolute": spelled("/TOP"),
    "also with two slashes": spelled("a-b-1.0//PKG-INFO"),
    "also with a dot inside": spelled("a-b-1.0/./PKG-INFO"),
    "also from below": spelled("a-b-1.0/x/../PKG-INFO"),
    "also from above": spelled("../TOP"),
    "only with a dot": alone("./TOP"),
    "only absolute": alone("/TOP"),
    "only with two slashes": alone("a-b-1.0//PKG-INFO"),
    "only from below": alone("x/../TOP"),
    "only at the top": alone("PKG-INFO"),
    "another directory": lambda tar: tar.other("c/PKG-INFO"),
    "a directory below": lambda tar: tar.other("a-b-1.0/a_b.egg-info/PKG-INFO"),
    "an empty block": lambda tar: tar.put(bytes(512)),
    "two empty blocks": lambda tar: tar.put(bytes(1024)),
    "no end": lambda tar: setattr(tar, "end", b""),
    "half an end": lambda tar: setattr(tar, "end", bytes(512)),
    "cut": lambda tar: setattr(tar, "cut", tar.source.randrange(600, 3000)),
    "rubbish after the end": lambda tar: setattr(tar, "tail", b"rubbish"),
    "zeros after the end": lambda tar: setattr(tar, "tail", bytes(700)),
    "an archive after the end": lambda tar: setattr(tar, "tail", Tar(tar.source).write()),
    "several gzip members": lambda tar: setattr(tar, "pieces", tar.source.randrange(2, 6)),
}


def tar_readings(path):
    """What `tarfile` reads of the member, and what is there when it has unpacked everything."""
    read = unpacked = None
    try:
        with tarfile.open(path, "r:gz") as archive:
            found = {}
            for info in archive.getmembers():
                name = posixpath.normpath(info.name).lstrip("/")
                if name.endswith("/PKG-INFO") and name.count("/") == 1 and not name.startswith(".."):
                    found[name] = info
            if len(found) == 1:
                opened = archive.extractfile(*found.values())
                read = opened and opened.read()
    except Exception:
        return None, None
    try:
        with tarfile.open(path, "r:gz") as archive, tempfile.TemporaryDirectory() as directory:
            archive.extractall(directory, filter="data")
            files = [file for file in pathlib.Path(directory).glob("*/PKG-INFO") if stat.S_ISREG(file.lstat().st_mode)]
            if len(files) == 1:
                unpacked = files[0].read_bytes()
    except Exception:
        pass
    return read, unpacked


def chosen(source):
    """Which oddities each archive is made of: all by themselves, then some together."""
    for kind, oddities in ((WHEEL, ZIPS), (ZIP, ZIPS), (TAR, TARS)):
        yield from ((kind, (name,)) for name in oddities)
    yield from ((TAR, names) for names in TOGETHER)
    for _ in range(MIXED):
        kind = source.choice((WHEEL, ZIP, TAR, TAR))
        yield kind, tuple(source.sample(sorted(TARS if kind == TAR else ZIPS), source.choice((2, 2, 3))))


def main(directory, seed=SEED):
    warnings.simplefilter("ignore")
    directory, source, listing = pathlib.Path(directory), random.Random(int(seed)), []
    for number, (kind, oddities) in enumerate(chosen(source)):
        made = random.Random(f"{seed} {number}")
        odd = Tar(made) if kind == TAR else Zip(made, kind)
        try:
            for name in oddities:
                (TARS if kind == TAR else ZIPS)[name](odd)
            content = odd.write()
        except (ValueError, struct.error, AttributeError):
            continue  # They do not go together.
        path = directory / f"{number}"
        path.write_bytes(content)
        read, unpacked = tar_readings(path) if kind == TAR else zip_readings(path, kind)
        readings = {reading for reading in (read, unpacked) if reading is not None}
        expected = None
        if len(readings) == 1:
            expected = directory / f"{number}.expected"
            expected.write_bytes(*readings)
        listing.append({"oddities": ", ".join(oddities), "name": kind, "path": str(path), "expected": expected and str(expected)})
    (directory / "archives.json").write_text(json.dumps(listing))


if __name__ == "__main__":
    main(*sys.argv[1:])
