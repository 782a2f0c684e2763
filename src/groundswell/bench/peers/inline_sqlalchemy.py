"""`inline-sqlalchemy`: the same transaction as people usually write it, FastAPI and SQLAlchemy's ORM."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import BigInteger, DateTime, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

STORE: Final = os.environ["PEER_STORE"].replace("postgresql://", "postgresql+asyncpg://")
POOL: Final = int(os.environ["PEER_POOL"])

engine: Final = create_async_engine(STORE, pool_size=POOL, max_overflow=0)
sessions: Final = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The tables."""


class Post(Base):
    """A post and its counter."""

    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    like_count: Mapped[int] = mapped_column(BigInteger, default=0)


class Like(Base):
    """Who likes what."""

    __tablename__ = "likes"
    post_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Keys(BaseModel):
    """A request for several counts."""

    keys: list[tuple[str, int]]


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


async def _session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


app: Final = FastAPI(lifespan=_lifespan)
Session = Annotated[AsyncSession, Depends(_session)]


@app.put("/v1/edges/like/{post}/{user}")
async def like(post: int, user: int, session: Session) -> dict[str, bool]:
    """Let the like exist, and count it if it did not."""
    born = insert(Like).values(post_id=post, user_id=user).on_conflict_do_nothing()
    found = await session.execute(born.returning(Like.user_id))
    changed = found.scalar_one_or_none() is not None
    if changed:
        more = update(Post).where(Post.id == post).values(like_count=Post.like_count + 1)
        await session.execute(more, execution_options={"synchronize_session": False})
    await session.commit()
    return {"changed": changed}


@app.get("/v1/counts/like/{post}")
async def count(post: int, session: Session) -> dict[str, int]:
    """Of one post."""
    found = await session.scalar(select(Post.like_count).where(Post.id == post))
    return {"count": found or 0}


@app.post("/v1/counts")
async def counts(asked: Keys, session: Session) -> dict[str, Any]:
    """Of several."""
    posts = [post for _, post in asked.keys]
    rows = await session.execute(select(Post.id, Post.like_count).where(Post.id.in_(posts)))
    found = dict(rows.tuples().all())
    return {"counts": [{"count": found.get(post, 0)} for post in posts]}
