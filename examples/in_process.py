"""One node in this process, and what the levels mean when replicas are late.

The three replicas are held back by 0.2, 0.3 and 0.4 seconds, as if they were far away.
"""

from __future__ import annotations

import asyncio

import groundswell
from groundswell import Level


async def main() -> None:
    async with groundswell.open("memory://", replicas=3, replica_delay_ms=(200, 300, 400)) as gs:
        me = gs.session()
        await me.add("like", target=42, source=7)

        # Any replica may answer, however late it is: nobody has told it of my like.
        some = await me.count("like", 42, level=Level.EVENTUAL)
        print(f"{some.level}: {some.value}")

        # The default: the same late replicas may answer, and my own like is added on top.
        mine = await me.count("like", 42)
        print(f"{mine.level}: {mine.value}, of which {mine.pending} pending")

        # The primary answers, after a rollup that covers every write acknowledged before.
        exact = await gs.session().count("like", 42, level=Level.LINEARIZABLE)
        print(f"{exact.level}: {exact.value}, from {exact.served_by}")

        again = await me.add("like", target=42, source=7)
        print(f"the same like again changed something: {again}")


if __name__ == "__main__":
    asyncio.run(main())
