"""Session descriptions (RFC 8866) as text: what is checked and changed in them, and nothing else. No I/O."""

import re
from collections.abc import Mapping

from riverrun.models.errors import InvalidRequest
from riverrun.streaming.problems import TooBig

LONGEST = 1 << 16  # characters of a description
MOST = 64  # candidates in one
SECTIONS = 8  # of media in one; each may have sockets of its own
OPUS = re.compile(r"^a=rtpmap:(\d+) opus/48000", re.MULTILINE | re.IGNORECASE)
PICTURES = re.compile(r"^a=rtpmap:(\d+) (?:VP8|H264)/90000", re.MULTILINE | re.IGNORECASE)
CODECS = {  # what must be offered, and how its lack is told
    "audio": (OPUS, "sound in Opus, the only codec that is taken"),
    "video": (PICTURES, "pictures in VP8 or H.264, the codecs that are sent"),
}


def offer(text: str, medium: str = "audio") -> str:
    """An offer of sound or of "video" as it is taken up. Raises InvalidRequest, TooBig.

    Names of mDNS are not looked up: a browser that hides its addresses so finds the server's, and shows its own then.
    Nor does the end of its candidates end the search, since a check from outside may still come.
    """
    if len(text) > LONGEST:
        raise TooBig(f"the SDP has {len(text)} characters, the limit is {LONGEST}")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != "v=0":
        raise InvalidRequest("the body is no SDP: its first line is not v=0")
    codecs, missing = CODECS[medium]
    if not any(line.startswith(f"m={medium} ") for line in lines) or not codecs.search("\n".join(lines)):
        raise InvalidRequest(f"the SDP offers no {missing}")
    sections = sum(line.startswith("m=") for line in lines)
    if sections > SECTIONS:
        raise InvalidRequest(f"the SDP has {sections} sections of media, the limit is {SECTIONS}")
    for needed in ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:"):
        if not any(line.startswith(needed) for line in lines):
            raise InvalidRequest(f"the SDP has no {needed} line, so nobody can connect")
    found = [line for line in lines if line.startswith("a=candidate:")]
    if len(found) > MOST:
        raise InvalidRequest(f"the SDP has {len(found)} candidates, the limit is {MOST}")
    kept = [
        line for line in lines if line != "a=end-of-candidates" and not (line in found and ".local " in line)
    ]
    return "".join(f"{line}\r\n" for line in _opus(kept))


def _opus(lines: list[str]) -> list[str]:
    """The lines without every other codec of sound, since who may send another will."""
    kept, sound, types = [], False, set(OPUS.findall("\n".join(lines)))
    for line in lines:
        if line.startswith("m="):
            sound = line.startswith("m=audio ")
            *head, formats = line.split(" ", 3)
            if sound:
                line = " ".join([*head, *[f for f in formats.split() if f in types]])
        about = re.match(r"a=(?:rtpmap|fmtp|rtcp-fb):(\d+) ", line)
        if not (sound and about and about[1] not in types):
            kept.append(line)
    return kept


def stereo(text: str) -> bool:
    """Whether what the offerer sends is said to be stereo (RFC 7587, section 7)."""
    return bool(re.search(r"^a=fmtp:\d+ .*\bsprop-stereo=1\b", text, re.MULTILINE))


def talks(text: str) -> bool:
    """Whether there may be data channels (RFC 8841)."""
    return bool(re.search(r"^m=application [1-9]\d* UDP/DTLS/SCTP ", text, re.MULTILINE))


def fragment(text: str) -> str:
    """The first user name fragment of ICE, empty if there is none."""
    found = re.search(r"^a=ice-ufrag:(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def asking(text: str, ptime: int, bits: int) -> str:
    """An answer that asks for Opus in packets of so many ms and at so many bits a second (RFC 7587, section 6).

    It asks for stereo, too, whatever is sent then: Chromium encodes what may only be mono with Opus's mode for
    telephony, whose filters bend phases and cost 7 dB of SI-SDR before a model has even begun.
    """
    wish = f"minptime={ptime};ptime={ptime};maxaveragebitrate={bits};stereo=1"
    pattern = re.compile(r"^(a=rtpmap:(\d+) opus/48000/2\r\n)", re.MULTILINE | re.IGNORECASE)
    return pattern.sub(rf"\1a=fmtp:\2 {wish}\r\na=ptime:{ptime}\r\n", text)


def public(text: str, nat: Mapping[str, str]) -> str:
    """An answer with the addresses that the world knows this machine by."""
    lines = []
    for line in text.splitlines():
        for inside, outside in nat.items():
            if line.startswith(("a=candidate:", "c=IN ", "a=rtcp:")):
                line = re.sub(rf"(?<= ){re.escape(inside)}(?= |$)", outside, line)
        lines.append(f"{line}\r\n")
    return "".join(lines)


def trickled(text: str) -> list[tuple[str, str]]:
    """The candidates of an SDP fragment (RFC 8840), each with the mid it is for. Raises InvalidRequest, TooBig."""
    if len(text) > LONGEST:
        raise TooBig(f"the fragment has {len(text)} characters, the limit is {LONGEST}")
    mid, found = "0", []
    for line in map(str.rstrip, text.splitlines()):
        if line.startswith("a=mid:"):
            mid = line.removeprefix("a=mid:")
        elif line.startswith("a=candidate:") and ".local " not in line:
            found.append((mid, line.removeprefix("a=candidate:")))
    if len(found) > MOST:
        raise InvalidRequest(f"the fragment has {len(found)} candidates, the limit is {MOST}")
    return found
