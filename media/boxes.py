"""Boxes of MP4 (ISO/IEC 14496-12): the head of a file in fragments, a fragment, tags. Bytes in and out, no state."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # the picture as it is
KEY, BETWEEN = 0x02000000, 0x01010000  # flags of a sample that depends on no other, and of one that does
UNDETERMINED = 0x55C4  # the language "und"
TAGS = {"title": b"\xa9nam", "comment": b"\xa9cmt"}  # as iTunes and FFmpeg write them


@dataclass(frozen=True)
class Track:
    """A stream of a file. Times are in ticks of `scale` a second.

    `entry` is its sample entry; `size` rows and columns of pictures, None of sound; the first `early` ticks are
    decoded and not played.
    """

    number: int
    scale: int
    entry: bytes
    size: tuple[int, int] | None = None
    early: int = 0


@dataclass(frozen=True)
class Sample:
    """A packet of a track, and for how many ticks it lasts."""

    data: bytes
    ticks: int
    key: bool = True


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of parts."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, flags: int, *parts: bytes, version: int = 0) -> bytes:
    """A box with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def head(tracks: Sequence[Track], tags: Mapping[str, str] | None = None) -> bytes:
    """What stands before all fragments: a movie without samples, with tags by the names of TAGS."""
    movie = struct.pack(">5I2H2I", 0, 0, 1000, 0, 0x10000, 0x100, 0, 0, 0)
    after = max(track.number for track in tracks) + 1
    extends = [full(b"trex", 0, struct.pack(">5I", t.number, 1, 0, 0, 0)) for t in tracks]
    return box(b"ftyp", b"iso5", struct.pack(">I", 512), b"iso5iso6mp41") + box(
        b"moov",
        full(b"mvhd", 0, movie, MATRIX, bytes(24), struct.pack(">I", after)),
        *map(_track, tracks),
        box(b"mvex", *extends),
        _tags(tags) if tags else b"",
    )


def fragment(number: int, runs: Sequence[tuple[Track, int, Sequence[Sample]]]) -> bytes:
    """Samples of tracks, each with the tick of its first, as a moof and its mdat. `number` counts from 1."""
    data = [sample.data for _, _, samples in runs for sample in samples]
    size = len(_movie(number, runs, 0))
    return _movie(number, runs, size + 8) + box(b"mdat", *data)


def avc(header: bytes, size: tuple[int, int]) -> bytes:
    """The sample entry of H.264 whose parameter sets are `header`, with start codes."""
    sets = units(header)
    sps, pps = ([unit for unit in sets if unit[0] & 31 == kind] for kind in (7, 8))
    lists = [
        bytes([mark | len(those)]) + b"".join(struct.pack(">H", len(unit)) + unit for unit in those)
        for mark, those in ((0xE0, sps), (0, pps))
    ]
    config = box(b"avcC", b"\x01", sps[0][1:4], b"\xff", *lists)
    shape = struct.pack(">2H3IH", size[1], size[0], 72 << 16, 72 << 16, 0, 1)
    return box(b"avc1", struct.pack(">6xH16x", 1), shape, bytes(32), struct.pack(">Hh", 24, -1), config)


def aac(header: bytes, rate: int, channels: int) -> bytes:
    """The sample entry of AAC whose AudioSpecificConfig is `header`."""
    specific = _described(5, header)
    decoder = _described(4, b"\x40\x15", bytes(11), specific)
    stream = full(b"esds", 0, _described(3, struct.pack(">HB", 1, 0), decoder, _described(6, b"\x02")))
    return box(b"mp4a", struct.pack(">6xH8x2H4xI", 1, channels, 16, rate << 16), stream)


def units(data: bytes) -> list[bytes]:
    """The NAL units between start codes (ISO/IEC 14496-10, annex B)."""
    return [part.rstrip(b"\0") for part in data.split(b"\0\0\1")[1:]]


def prefixed(data: bytes) -> bytes:
    """NAL units with their lengths before them, as MP4 has them, instead of start codes."""
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units(data))


def _track(track: Track) -> bytes:
    rows, columns = track.size or (0, 0)
    place = struct.pack(">5I8x2hHH", 0, 0, track.number, 0, 0, 0, 0, 0 if track.size else 0x100, 0)
    shape = struct.pack(">2I", columns << 16, rows << 16)
    edits = full(b"elst", 0, struct.pack(">IIiI", 1, 0, track.early, 0x10000))
    return box(
        b"trak",
        full(b"tkhd", 3, place, MATRIX, shape),
        box(b"edts", edits) if track.early else b"",
        box(
            b"mdia",
            full(b"mdhd", 0, struct.pack(">4I2H", 0, 0, track.scale, 0, UNDETERMINED, 0)),
            full(b"hdlr", 0, struct.pack(">4x4s12x", b"vide" if track.size else b"soun"), b"\0"),
            _information(track),
        ),
    )


def _information(track: Track) -> bytes:
    """Where a track's samples are: none outside of fragments."""
    return box(
        b"minf",
        full(b"vmhd", 1, bytes(8)) if track.size else full(b"smhd", 0, bytes(4)),
        box(b"dinf", full(b"dref", 0, struct.pack(">I", 1), full(b"url ", 1))),
        box(
            b"stbl",
            full(b"stsd", 0, struct.pack(">I", 1), track.entry),
            *(full(kind, 0, bytes(4)) for kind in (b"stts", b"stsc", b"stco")),
            full(b"stsz", 0, bytes(8)),
        ),
    )


def _movie(number: int, runs: Sequence[tuple[Track, int, Sequence[Sample]]], offset: int) -> bytes:
    """The moof of runs of samples, the first of which lies `offset` bytes after its begin."""
    tracks = []
    for track, start, samples in runs:
        flags = [KEY if sample.key else BETWEEN for sample in samples]
        rows = [struct.pack(">3I", s.ticks, len(s.data), f) for s, f in zip(samples, flags, strict=True)]
        tracks.append(
            box(
                b"traf",
                full(b"tfhd", 0x20000, struct.pack(">I", track.number)),
                full(b"tfdt", 0, struct.pack(">Q", start), version=1),
                full(b"trun", 0x701, struct.pack(">II", len(samples), offset), *rows),
            )
        )
        offset += sum(len(sample.data) for sample in samples)
    return box(b"moof", full(b"mfhd", 0, struct.pack(">I", number)), *tracks)


def _tags(tags: Mapping[str, str]) -> bytes:
    items = [box(TAGS[k], box(b"data", struct.pack(">II", 1, 0), v.encode())) for k, v in tags.items()]
    kind = full(b"hdlr", 0, struct.pack(">4x4s4s9x", b"mdir", b"appl"))
    return box(b"udta", full(b"meta", 0, kind, box(b"ilst", *items)))


def _described(tag: int, *parts: bytes) -> bytes:
    """A descriptor of ISO/IEC 14496-1, shorter than 128 bytes."""
    body = b"".join(parts)
    return bytes([tag, len(body)]) + body
