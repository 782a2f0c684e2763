"""Follow, list and unfollow on a running node: `python over_http.py http://127.0.0.1:8080 [KEY]`.

It cleans up first, so that it prints the same each time.
"""

from __future__ import annotations

import asyncio
import sys

import groundswell

GOALKEEPER = 1_000_000
FANS = (1, 2, 3)


async def main(url: str, key: str | None = None) -> None:
    async with groundswell.connect(url, key=key) as gs:
        me = gs.session()
        for fan in FANS:
            await me.remove("follow", GOALKEEPER, fan)
        for fan in FANS:
            await me.add("follow", GOALKEEPER, fan)

        followers = await me.count("follow", GOALKEEPER)
        print(f"{followers.value} followers of {followers.target}")

        page = await me.edges("follow", target=GOALKEEPER, limit=3)
        print("newest first:", [edge.source for edge in page.edges])

        await me.remove("follow", GOALKEEPER, FANS[0])
        followers = await me.count("follow", GOALKEEPER)
        print(f"after one has left: {followers.value}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: over_http.py URL [KEY]")
    asyncio.run(main(*sys.argv[1:]))
