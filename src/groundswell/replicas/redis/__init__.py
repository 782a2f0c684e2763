"""A replica in Redis or Valkey, one server or a cluster, shared by nodes and readable by anybody.

How it keeps rule R4 although nodes are killed, calls are repeated, and Redis forgets what it said:

- A rollup's number names a state of the store for good (in one epoch, of one store). What is in Redis
  is therefore a function of numbers, and writing anything twice, or by two at once, is writing the
  same.
- Keys are spread over *buckets* by a hash tag: 1 on a server, 16 on a cluster. All of a bucket is in
  one slot, so that one script, or one MGET, sees it in one state, and whatever is lost of it is lost
  from the end.
- Each bucket has a *mark*: epoch, generation, the rollup where it stands. A part of rollup n is taken
  only by a bucket that stands at n - 1; the mark moves with the last part. A script that comes late,
  again or out of order therefore does nothing.
- Each *cell* (a row, an object, a list, whether an edge exists) carries the generation and the rollup
  that set it. It counts only if the generation is its bucket's. A bucket whose mark was lost, or to
  which the feed no longer leads, begins anew with a new generation, by which all of its cells are
  forgotten.
- A fill is taken over by the rule of `replica.Replica`, in one script with the look at the mark, and
  never between two parts of a rollup.
- The *standing* (epoch, rollup, revision) is published after all buckets have said that they are there.

A read asks for the standing, the marks and the cells of the buckets that it needs. Every bucket has to
be at the standing or beyond: else it has lost writes (a failover, an old dump). No cell may be newer:
else its rollup is just being published. In both cases the read asks again, for a moment, and then goes
elsewhere. So the cells are those of the standing, in whatever order the servers were asked; and as each
read says where it stands, the reader checks the level against that. A cell that is absent was evicted
or never there: not held, to be filled. If all of it is old (a dump restored), it is a consistent old
state, which only `eventual` accepts, until the feed has brought it on.

One node, the *feeder*, applies the rollups. It is whoever holds a key that expires: an optimisation,
never a lock. Nothing above depends on there being only one.
"""

from groundswell.replicas.redis.replica import RedisReplica

__all__ = ["RedisReplica"]
