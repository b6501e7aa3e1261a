"""A browser's own call to a model that speaks: it types on a data channel, and sound arrives."""

import json
from pathlib import Path
from typing import Any

from riverrun.models.speech.lite import save
from tests.models.speech.small import small
from tests.webui.test_page import opened, pytestmark, serving, until

__all__ = ["pytestmark"]
CALL = """async (model) => {
    const connection = new RTCPeerConnection(), channel = connection.createDataChannel("controls");
    const told = [], audio = new Audio();
    window.called = { connection, channel, told };
    channel.onmessage = (event) => told.push(JSON.parse(event.data));
    connection.ontrack = ({ track }) => { audio.srcObject = new MediaStream([track]); audio.play(); };
    connection.addTransceiver("audio", { direction: "recvonly" });
    await connection.setLocalDescription();
    const body = { sdp: connection.localDescription.sdp, model, request: { steps: 1 } };
    const head = { "content-type": "application/json" };
    const reply = await fetch("/v1/webrtc/offer", { method: "POST", headers: head, body: JSON.stringify(body) });
    const answer = await reply.json();
    await connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
}"""
HEARD = """async () => {
    const reports = [...(await window.called.connection.getStats()).values()];
    const { packetsReceived = 0, totalAudioEnergy = 0 } = reports.find((r) => r.type === "inbound-rtp") ?? {};
    return { packetsReceived, totalAudioEnergy };
}"""


def test_a_browser_hears_what_it_types(tmp_path: Path, voice: Any) -> None:
    model, file = small(), tmp_path / "small.safetensors"
    save(file, model.net, model.voices, model.spec.symbols)
    with serving({"RIVERRUN_MODELS": json.dumps([str(file)])}) as at, opened(at, voice) as page:
        page.evaluate(CALL, str(file))
        until(page, "() => window.called.told.some((message) => message.type === 'opened')")
        until(page, f"async () => (await ({HEARD})()).packetsReceived > 20")
        page.evaluate(
            "(text) => window.called.channel.send(JSON.stringify({ type: 'text', text, flush: true }))",
            "Hello there, it is five.",
        )
        until(page, "() => window.called.told.some((message) => message.type === 'words')")
        until(page, f"async () => (await ({HEARD})()).totalAudioEnergy > 0")
        page.evaluate('() => window.called.channel.send(\'{"type": "finish"}\')')
        until(page, "() => window.called.told.some((message) => message.type === 'ended')")
