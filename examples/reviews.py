"""Reviews: edges with a value, a text with versions, and a token handed to another session."""

from __future__ import annotations

import asyncio

import groundswell
from groundswell.errors import VersionConflict

SHOP = 42
TEXT = "review-42-7"


async def main() -> None:
    async with groundswell.open("memory://", replica_delay_ms=(100,)) as gs:
        author, editor, reader = gs.session(), gs.session(), gs.session()

        # The kind `review` carries a value from 1 to 5; its sum is kept beside the count.
        await author.add("review", SHOP, 7, value=3)
        await author.add("review", SHOP, 7, value=5)  # thinks again: replaces the 3
        await author.add("review", SHOP, 8, value=4)
        reviews = await author.count("review", SHOP)
        print(f"{reviews.value} reviews, average {(reviews.sum or 0) / reviews.value}")

        # Two people edit the same version of the text: the later one is told, and merges.
        version = await author.put(TEXT, "review", {"text": "Good."}, if_version=0)
        await author.put(TEXT, "review", {"text": "Good. It fits."}, if_version=version)
        try:
            await editor.put(TEXT, "review", {"text": "Good. It also fits."}, if_version=version)
        except VersionConflict as conflict:
            print(f"another edit came first: version {conflict.version}")
            await editor.put(
                TEXT, "review", {"text": "Good. It also fits."}, if_version=conflict.version
            )

        # The editor sends a link. With the editor's token, whoever follows it sees the edit, though
        # the replica is 100 ms late. In a web application the token travels with the link's message.
        reader.observe(editor.token)
        found = await reader.get(TEXT)
        print("the reader sees:", found.data["text"])


if __name__ == "__main__":
    asyncio.run(main())
