"""Lines of a batch made at a server: each handed in as a job of its own, followed, and its output fetched."""

import json
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

if TYPE_CHECKING:
    import httpx

    from riverrun.streaming.jobs.store import Row
    from riverrun.streaming.jobs.tasks import Made

TRIES = 8  # of a request, until the server counts as gone
LONGEST = 30.0  # seconds between two of them
WAIT = 20  # seconds that the server may hold an answer back until something has changed
GONE = (502, 503, 504, 429, 408)  # statuses worth another try


class Remote:
    """A server that makes lines. Use it in an `async with`.

    A line keeps its Idempotency-Key, so that a run that was killed finds the job it had handed in.
    """

    def __init__(self, server: str, key: str | None = None) -> None:
        import httpx

        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.AsyncClient(base_url=server, headers=headers, timeout=60)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()

    async def __call__(self, row: "Row", file: BinaryIO | None, out: BinaryIO) -> "Made":
        """Have a line made. Raises MediaError if it fails there, Halt if the server cannot be used."""
        from riverrun.media.errors import MediaError
        from riverrun.streaming.jobs.tasks import Made

        job = await self._post(row, file)
        while job["status"] in ("queued", "running"):
            job = await self._ask("GET", f"/v1/jobs/{job['id']}", params={"wait": WAIT})
        (told,) = (await self._ask("GET", f"/v1/jobs/{job['id']}/lines"))["data"]
        if job["status"] == "done":
            await self._fetch(f"/v1/jobs/{job['id']}/outputs/{row.line.id}", out)
        await self._ask("DELETE", f"/v1/jobs/{job['id']}")
        if job["status"] != "done":
            raise MediaError(
                (told["error"] or {"message": f"it was {job['status']} at the server"})["message"]
            )
        request = {**told["request"], "seed": told["seed"]}
        return Made(
            told["timings"]["media"], told["model"], told["weights_sha256"], request, told["versions"]
        )

    async def _post(self, row: "Row", file: BinaryIO | None) -> Any:
        line, name = row.line, f"input{PurePath(row.line.input or '').suffix}"
        values = {**line.values, **({"input": name} if file else {})}
        told = json.dumps({"id": line.id, "task": line.task, "output": PurePath(line.output).name, **values})
        sent: dict[str, Any] = {"jobs": ("jobs.jsonl", told.encode())}
        if file:
            sent["files"] = (name, file)
        key = {"idempotency-key": f"{row.job}-{row.digest}"}
        return await self._ask("POST", "/v1/jobs", files=sent, headers=key)

    async def _fetch(self, path: str, out: BinaryIO) -> None:
        """Write an output, from its start on each try."""

        async def fetch() -> "httpx.Response":
            out.seek(0)
            out.truncate()
            async with self.client.stream("GET", path) as reply:
                if reply.status_code != 200:
                    await reply.aread()
                    return reply
                async for piece in reply.aiter_bytes():
                    out.write(piece)
                return reply

        await self._tried(fetch)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of an answer."""

        async def ask() -> "httpx.Response":
            for _, file in options.get("files", {}).values():
                if not isinstance(file, bytes):
                    file.seek(0)
            return await self.client.request(method, path, **options)

        reply = await self._tried(ask)
        return reply.json() if reply.content else None

    async def _tried(self, ask: Any) -> "httpx.Response":
        """An answer that is no error. Raises InvalidRequest for what the server refuses, Halt if it cannot be used."""
        import asyncio

        import httpx

        from riverrun.models.errors import InvalidRequest
        from riverrun.streaming.jobs.runner import Halt

        why, wait = "", 0.5
        for _ in range(TRIES):
            try:
                reply: httpx.Response = await ask()
            except httpx.TransportError as error:
                why, after = f"{type(error).__name__} {error}", wait
            else:
                if reply.is_success:
                    return reply
                why = _message(reply)
                if reply.status_code in (401, 403):
                    raise Halt(f"{self.client.base_url} refuses: {why}")
                if reply.status_code not in GONE:
                    raise InvalidRequest(why)
                after = float(reply.headers.get("retry-after", wait))
            await asyncio.sleep(min(max(after, wait), LONGEST))
            wait *= 2
        raise Halt(
            f"{self.client.base_url} does not answer as it should: {why}; run the same command again later"
        )


def _message(reply: "httpx.Response") -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {reply.text[:200]}"
