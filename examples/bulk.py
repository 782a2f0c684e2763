"""10,000 writes in one call, each with an outcome of its own."""

from __future__ import annotations

import asyncio
from collections import Counter

import groundswell
from groundswell import Add
from groundswell.store import Refused

PHOTO = 42


async def main() -> None:
    writes = [Add("like", PHOTO, source=number % 9_000) for number in range(9_999)]
    writes.append(Add("like", PHOTO, source="nobody"))  # the kind's ids are integers

    async with groundswell.open("memory://") as gs:
        me = gs.session()
        outcomes = await me.write(writes)

        refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        rest = Counter(outcome.changed for outcome in outcomes if not isinstance(outcome, Refused))
        print(
            f"{len(outcomes)} writes: {rest[True]} changed, {rest[False]} unchanged, "
            f"{len(refused)} refused ({refused[0].code})"
        )
        print(f"count {(await me.count('like', PHOTO)).value}")


if __name__ == "__main__":
    asyncio.run(main())
